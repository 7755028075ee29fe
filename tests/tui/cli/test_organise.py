"""`finetui tag`, `note`, `rename`, `delete`, and the table of `finetui runs`, on runs of an earlier version."""

import json
import sys
from pathlib import Path

import pytest
from old_runs import copy_old_runs

from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.lock import RunLock
from finetui.engine.runs.summaries import RunSummary
from finetui.tui.cli.main import run
from finetui.tui.cli.runs import rows_of
from finetui.tui.state.run_tree import live_first, run_tree


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A folder with the old runs in `checkpoints`."""
    copy_old_runs(tmp_path / "checkpoints")
    return tmp_path


def left_in(work: Path) -> set[str]:
    return {path.name for path in (work / "checkpoints").iterdir()}


def test_tags_and_notes_are_written_printed_and_found(in_process, work: Path) -> None:
    assert in_process("tag", "steered", cwd=work).stdout == "steered: no tags\n"
    assert in_process("tag", "steered", "keep", "best-yet", cwd=work).stdout == "steered: keep best-yet\n"
    assert in_process("note", "steered", "a  good one", cwd=work).stdout == "steered: a good one\n"
    assert in_process("tag", "steered", "--remove", "keep", cwd=work).stdout == "steered: best-yet\n"
    table = in_process("runs", "tag:best", cwd=work).stdout
    assert "best-yet" in table
    assert "a good one" in table
    assert "parent" not in table
    assert in_process("note", "steered", "", cwd=work).stdout == "steered: no note\n"


def test_a_new_name_is_told_with_the_children(in_process, work: Path) -> None:
    said = in_process("rename", "parent", "base", cwd=work).stdout
    elsewhere = "(runs in other folders are not checked)"
    assert said == f"parent is now called base, also as the parent of linear-probe {elsewhere}\n"
    (row,) = json.loads(in_process("runs", "parent=base", "--json", cwd=work).stdout)
    assert row["name"] == "linear-probe"


def test_nothing_is_deleted_unasked(in_process, work: Path) -> None:
    names = left_in(work)
    for words, says in (
        (["steered"], "without a terminal, add --yes"),
        (["parent"], "linear-probe began from a checkpoint of parent"),
        ([], "RUN is missing"),
        (["steered", "nix"], "no run 'nix'"),
    ):
        result = in_process("delete", *words, cwd=work)
        assert (result.returncode, says in result.stderr) == (2, True), result.stderr
    lock = RunLock(RunFolder(work / "checkpoints" / "steered"))
    assert "is live" in in_process("delete", "parent", "steered", "--yes", cwd=work).stderr
    lock.release()
    assert left_in(work) == names
    result = in_process("delete", "parent", "steered", "--yes", cwd=work)
    assert result.returncode == 0, result.stderr
    assert left_in(work) == {"linear-probe"}


@pytest.mark.parametrize(("answer", "left"), [("n", 3), ("", 3), ("y", 2), ("YES", 2)])
def test_a_terminal_is_asked_with_what_is_lost(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], answer: str, left: int
) -> None:
    asked: list[str] = []
    monkeypatch.chdir(work)
    for stream in (sys.stdin, sys.stdout):
        monkeypatch.setattr(stream, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda question: asked.append(question) or answer)
    assert run(["delete", "steered"]) == (0 if left == 2 else 1)
    assert len(left_in(work)) == left
    assert asked[0].startswith("Delete the run steered, ")
    said = capsys.readouterr().out
    assert "steered: " in said
    assert "B; mnist" in said
    assert "best " in said


def summary(name: str, **more: object) -> RunSummary:
    about = {"state": "finished", "data": "mnist", "model": "lenet", "epoch": 1, "step": 9, "best_accuracy": 0.5}
    return RunSummary(**{"name": name, "path": "", "started": "2026-11-27T10:00:00", "parent": None} | about | more)


def test_columns_are_chosen_by_width_and_only_a_note_is_cut() -> None:
    found = run_tree([summary("a long name of a run", note="many words " * 20, lr=0.003), summary("b", lr=0.01)])
    seen = {}
    for width in (40, 80, 120, 200):
        rows, _ = rows_of(found, (), width)
        seen[width] = rows[0]
        widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
        assert sum(widths) + 2 * (len(widths) - 1) <= width
        assert rows[1][0] == "a long name of a run"
        assert not any("…" in cell for head, cell in zip(rows[0], rows[1], strict=True) if head != "NOTE")
    assert seen[40][:2] == ["NAME", "STATE"]
    assert set(seen[40]) < set(seen[80]) < set(seen[120]) <= set(seen[200])
    assert {"STARTED", "TOOK"} <= set(seen[120])
    assert "NOTE" in seen[200]
    assert "TAGS" not in seen[200]  # nobody has any
    assert rows_of(found, (), None)[0][1][-1] == ("many words " * 20)
    assert rows_of(found, ("lr", "name"), 10)[0][0] == ["LR", "NAME"]


def test_live_runs_come_first_with_what_they_were_made_from() -> None:
    found = [summary("new"), summary("child", parent="old", pid=7), summary("old"), summary("oldest")]
    assert [one.name for one in live_first(found)] == ["child", "old", "new", "oldest"]
    assert [prefix + one.name for prefix, one in run_tree(live_first(found))] == ["old", "└ child", "new", "oldest"]


def test_a_table_that_is_sorted_has_no_tree(in_process, work: Path) -> None:
    printed = in_process("runs", "--sort", "step", "--columns", "name,step", cwd=work).stdout
    lines = printed.split("\n\n")[0].splitlines()
    assert lines[0].split() == ["NAME", "STEP"]
    steps = [int(line.split()[1]) for line in lines[1:]]
    assert len(steps) == 3
    assert steps == sorted(steps, reverse=True)
    assert "--sort" in in_process("runs", "--reverse", cwd=work).stderr
    assert "None of the 3 runs" in in_process("runs", "nothing-like-it", cwd=work).stdout
