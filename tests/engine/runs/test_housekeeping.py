"""Notes beside a run, and runs that get another name or go, with others that began from them."""

import shutil
from pathlib import Path

import msgspec
import pytest
from old_runs import OLD_RUNS, copy_old_runs

from finetui.engine import files
from finetui.engine.errors import BadInput
from finetui.engine.predictions.file import load_predictions
from finetui.engine.protocol.commands import NoteTest
from finetui.engine.protocol.config_file import load
from finetui.engine.protocol.events import CommandAccepted, Log, RunPrepared, StateChanged
from finetui.engine.runs.folder import RunFolder, how_it_began, run_folders
from finetui.engine.runs.housekeeping import children_of, delete_run, foreign_files, rename_run
from finetui.engine.runs.journal import encode_line
from finetui.engine.runs.lock import RunLock
from finetui.engine.runs.notes import RunNotes, noted, read_notes, tagged
from finetui.engine.runs.summaries import summarise_run
from finetui.engine.session.replay import replay_run


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A copy of the old runs."""
    return copy_old_runs(tmp_path / "runs")


def test_tags_and_a_note_are_kept_beside_the_run(runs: Path) -> None:
    folder = RunFolder(runs / "steered")
    assert read_notes(folder) == RunNotes()
    assert not folder.notes.exists()
    tagged(folder, ["keep", "v1.0", "keep"])
    noted(folder, "  the first\n one ")
    assert tagged(folder, ["more"], ["keep"]).tags == ("v1.0", "more")
    assert read_notes(folder) == RunNotes(tags=("v1.0", "more"), note="the first one")
    summary = summarise_run(folder)
    assert summary is not None
    assert (summary.tags, summary.note) == (("v1.0", "more"), "the first one")


@pytest.mark.parametrize("tag", ["", "two words", "a,b", "-x", "x" * 41, "a\u202eb", "a:b", "'q'"])
def test_what_can_be_no_tag(runs: Path, tag: str) -> None:
    with pytest.raises(BadInput, match="must be one word"):
        tagged(RunFolder(runs / "steered"), [tag])


def test_a_damaged_file_of_notes_is_said_and_no_list_fails_for_it(runs: Path) -> None:
    folder = RunFolder(runs / "steered")
    folder.notes.write_text("tags = 7")
    with pytest.raises(BadInput, match=r"notes.toml cannot be read: .*repair or delete it"):
        tagged(folder, ["keep"])
    summary = summarise_run(folder)
    assert summary is not None
    assert "notes.toml cannot be read" in summary.note


def test_a_renamed_run_is_named_so_by_its_children_and_both_can_be_replayed(runs: Path) -> None:
    before, child = RunFolder(runs / "parent"), RunFolder(runs / "linear-probe")
    assert [one.name for one in children_of(before)] == ["linear-probe"]
    others = child.journal.read_bytes().splitlines()
    now, children = rename_run(before, "other name")
    assert (now.path, [one.name for one in children]) == (runs / "other name", ["linear-probe"])
    assert not before.path.exists()
    config = load(child.config)
    assert config.finetune is not None
    assert (config.finetune.parent, config.finetune.parent_run) == (str(now.path / "step-30.ckpt"), "other name")
    prepared = how_it_began(child)
    assert isinstance(prepared, RunPrepared)
    assert (prepared.config.finetune, prepared.parent) == (config.finetune, "other name")
    lines = child.journal.read_bytes().splitlines()
    changed = [one for one, old in zip(lines, others, strict=True) if one != old]
    assert all(b'"run_prepared"' in line for line in changed)
    assert replay_run(child).complete


def test_predictions_are_those_of_the_run_as_it_is_called_now(runs: Path) -> None:
    now, _ = rename_run(RunFolder(runs / "steered"), "new")
    assert load_predictions(now.best_predictions).origin.run == "new"


@pytest.mark.parametrize(
    ("name", "says"), [("steered", "exists"), ("a/b", "folder name"), ("", "folder name"), (".x", "folder name")]
)
def test_a_name_that_is_taken_or_none(runs: Path, name: str, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        rename_run(RunFolder(runs / "parent"), name)
    assert (runs / "parent").is_dir()


@pytest.mark.parametrize("live", ["parent", "linear-probe"])
def test_a_run_that_an_engine_has_or_whose_child_has_one_keeps_its_name(runs: Path, live: str) -> None:
    lock = RunLock(RunFolder(runs / live))
    before = (runs / "linear-probe" / "config.toml").read_bytes()
    with pytest.raises(BadInput, match=f"the run {live} is (live|in use)"):
        rename_run(RunFolder(runs / "parent"), "new")
    lock.release()
    assert (runs / "linear-probe" / "config.toml").read_bytes() == before
    assert rename_run(RunFolder(runs / "parent"), "new")[0].journal.is_file()


def test_a_deleted_run_is_gone_and_a_live_one_stays(runs: Path) -> None:
    folder = RunFolder(runs / "steered")
    lock = RunLock(folder)
    with pytest.raises(BadInput, match="is live"):
        delete_run(folder)
    lock.release()
    delete_run(folder)
    assert sorted(path.name for path in runs.iterdir()) == ["linear-probe", "parent"]


def test_a_deletion_that_is_interrupted_leaves_no_half_run(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_path: Path) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(shutil, "rmtree", fail)
    with pytest.raises(BadInput, match="cannot be deleted: Input/output error"):
        delete_run(RunFolder(runs / "steered"))
    assert {folder.name for folder in run_folders(runs)} == {"linear-probe", "parent"}


def test_what_is_not_the_runs_own_is_known(runs: Path) -> None:
    (runs / "steered" / "thoughts.md").write_text("x")
    (runs / "steered" / "more").mkdir()
    assert foreign_files(RunFolder(runs / "steered")) == ["more", "thoughts.md"]


def test_a_link_to_a_run_is_not_followed(runs: Path) -> None:
    (runs / "linked").symlink_to(runs / "steered")
    for act in (delete_run, lambda folder: rename_run(folder, "x")):
        with pytest.raises(BadInput, match="is a link"):
            act(RunFolder(runs / "linked"))
    assert (runs / "steered" / "journal.jsonl").is_file()


def contents(runs: Path) -> dict[str, bytes]:
    """Return what the files are, but for locks."""
    files = (path for path in runs.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {str(path.relative_to(runs)): path.read_bytes() for path in files}


@pytest.mark.parametrize("fails", ["linear-probe/config.toml", "linear-probe/journal.jsonl", "rename"])
def test_where_a_name_cannot_be_changed_all_is_called_as_before(
    runs: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    before = contents(runs)
    replacing, rename = files.replacing, Path.rename

    def refuse(path: Path, *more: object) -> object:
        if str(path).endswith(fails):
            raise OSError(28, "No space left on device")
        return replacing(path, *more)

    def refuse_rename(path: Path, to: Path) -> Path:
        if fails == "rename":
            raise OSError(13, "Permission denied")
        return rename(path, to)

    monkeypatch.setattr(files, "replacing", refuse)
    monkeypatch.setattr(Path, "rename", refuse_rename)
    with pytest.raises(BadInput, match="parent cannot be renamed: "):
        rename_run(RunFolder(runs / "parent"), "new")
    assert contents(runs) == before


def test_children_of_runs_that_were_moved_are_found_as_well(runs: Path) -> None:
    moved = runs.rename(runs.with_name("moved"))
    now, children = rename_run(RunFolder(moved / "parent"), "new")
    config = load(children[0].config)
    assert config.finetune is not None
    assert config.finetune.parent == str(now.path / "step-30.ckpt")


def test_a_link_that_leads_nowhere_takes_a_name(runs: Path) -> None:
    (runs / "new").symlink_to(runs / "gone")
    with pytest.raises(BadInput, match="exists"):
        rename_run(RunFolder(runs / "parent"), "new")


def test_what_a_deletion_left_is_named_and_goes_with_the_next(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_path: Path) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", fail)
        with pytest.raises(BadInput, match=r"but .*\.steered\.\d+\.deleted cannot be deleted: Input/output error"):
            delete_run(RunFolder(runs / "steered"))
    delete_run(RunFolder(runs / "linear-probe"))
    assert [path.name for path in runs.iterdir()] == ["parent"]


def test_neither_a_crash_nor_a_note_counts_as_training(tmp_path: Path) -> None:
    """A killed engine, the note of a test days later, and the resume another day after that."""
    folder = RunFolder(tmp_path / "steered")
    shutil.copytree(OLD_RUNS / "steered", folder.path)
    began = how_it_began(folder)
    assert isinstance(began, RunPrepared)
    day = 86400.0
    note = CommandAccepted(command=NoteTest(use="evaluate", checkpoint="best", accuracy=0.5, n=10))
    told = [
        (0.0, began),
        (0.0, StateChanged(state="running")),
        (10.0, Log(level="info", message="at work")),
        (2 * day, note),
        (3 * day, StateChanged(state="preparing")),
        (3 * day + 4, StateChanged(state="ready")),
        (3 * day + 5, StateChanged(state="running")),
        (3 * day + 25, StateChanged(state="finished")),
    ]
    lines = [
        encode_line(msgspec.structs.replace(event, time=1e9 + at, seq=seq)) for seq, (at, event) in enumerate(told)
    ]
    folder.journal.write_bytes(b"".join(lines))
    summary = summarise_run(folder)
    assert summary is not None
    assert summary.took == 30.0
