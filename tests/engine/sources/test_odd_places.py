"""What may lie where a run is looked for: pipes, devices, links in circles, folders without access, or very many."""

import os
from pathlib import Path

import pytest
from event_files import losses

from finetui.engine.errors import BadInput
from finetui.engine.sources import recognise, watched_runs
from finetui.engine.sources.recognise import find_runs
from finetui.engine.sources.watched_runs import WatchedRuns, events_of

NAMES = (
    "metrics.csv", "events.out.tfevents.1.h", "p.db", "log.jsonl", "trainer_state.json", "hparams.yaml",
    "journal.jsonl", "train.csv", "evaluations.csv", "settings.csv", "changes.csv",
)  # fmt: skip


def pipe(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def circle(path: Path) -> None:
    path.symlink_to(path.name)


@pytest.mark.parametrize("make", [pipe, device, circle])
@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_file_is_no_run(tmp_path: Path, make, name: str) -> None:
    make(tmp_path / name)
    assert find_runs(tmp_path) == []
    with pytest.raises(BadInput, match="can be watched|there is no file"):
        find_runs(tmp_path / name)


def test_a_pipe_that_took_the_place_of_a_file_is_not_waited_for(tmp_path: Path) -> None:
    file = tmp_path / "metrics.csv"
    file.write_text("step,loss\n1,0.5\n")
    (found,) = find_runs(tmp_path)
    reader = events_of(found)
    list(reader.read())
    file.unlink()
    pipe(file)
    with pytest.raises(OSError, match="it is not a file"):
        list(reader.read())


def test_links_to_folders_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "metrics.csv").write_text("step,loss\n1,0.5\n")
    (tmp_path / "a" / "again").symlink_to(tmp_path)
    assert [found.name for found in find_runs(tmp_path)] == ["a"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="all may be read by this user")
def test_a_folder_that_may_not_be_listed_is_not_called_empty(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0)
    with pytest.raises(BadInput, match=r"closed cannot be read: Permission denied"):
        find_runs(tmp_path / "closed")
    assert find_runs(tmp_path) == []


def test_a_folder_that_cannot_be_listed_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patch, pytest.raises(BadInput, match=r"cannot be read: Permission denied"):
        patch.setattr(recognise.os, "scandir", refuse)
        find_runs(tmp_path)


def test_of_very_many_folders_the_first_are_searched_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recognise, "_MOST_FOLDERS", 10)
    for number in range(30):
        (tmp_path / f"{number:02}").mkdir()
        (tmp_path / f"{number:02}" / "events.out.tfevents.1.h").write_bytes(losses(range(2)))
    runs = WatchedRuns([tmp_path])
    assert len(runs.read()) == 9
    assert runs.notes == (f"only the first 10 folders of {tmp_path} are searched for runs",)
    monkeypatch.setattr(recognise, "_MOST_FOLDERS", 100)
    assert (len(runs.found()), runs.notes) == (30, ())


def test_runs_that_have_ended_are_looked_at_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, age in (("ended", 7200), ("live", 0)):
        file = tmp_path / name / "events.out.tfevents.1.h"
        file.parent.mkdir()
        file.write_bytes(losses(range(5)))
        os.utime(file, (file.stat().st_mtime - age,) * 2)
    runs, now = WatchedRuns([tmp_path]), [1000.0]
    monkeypatch.setattr(watched_runs.time, "monotonic", lambda: now[0])
    runs.read()
    for name in ("ended", "live"):
        with (tmp_path / name / "events.out.tfevents.1.h").open("ab") as more:
            more.write(losses(range(5, 9)))
    now[0] += 5
    assert {run.name: run.step for run in runs.read()} == {"ended": 4, "live": 8}
    now[0] += 6
    assert {run.name: run.step for run in runs.read()} == {"ended": 8, "live": 8}


def test_a_run_of_which_nothing_can_be_read_is_listed_and_says_so(tmp_path: Path) -> None:
    for name, content in (("broken", b"garbage" * 100), ("new", b"")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "events.out.tfevents.1.host").write_bytes(content)
    found = WatchedRuns([tmp_path]).read()
    assert {(run.name, run.state, run.note) for run in found} == {
        ("broken", "preparing", "it has logged nothing yet"),
        ("new", "preparing", "it has logged nothing yet"),
    }
