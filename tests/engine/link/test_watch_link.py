"""A run that is watched through files: whatever is in them, it is said, and what is added is read."""

from collections.abc import Iterator

import pytest
from event_files import losses

from finetui.engine.link.watch_link import WatchLink
from finetui.engine.protocol.events import Log, TrainPoint
from finetui.engine.sources import tensorboard
from finetui.engine.sources.recognise import find_runs
from finetui.engine.sources.source import Item
from finetui.engine.sources.watched_runs import WatchedRuns


@pytest.fixture
def runs(tmp_path, monkeypatch: pytest.MonkeyPatch):
    """Two runs in a folder; what is in the first, `bad`, fails while the file `broken` is there."""
    for name in ("bad", "good"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "events.out.tfevents.1.h").write_bytes(losses(range(5)))
    (tmp_path / "broken").touch()
    read = tensorboard.TensorBoardRun.read

    def broken(self: tensorboard.TensorBoardRun) -> Iterator[Item]:
        if (tmp_path / "broken").exists() and "/bad'" in str(vars(self)):
            raise ValueError("no number")
        return read(self)

    monkeypatch.setattr(tensorboard.TensorBoardRun, "read", broken)
    return tmp_path


def test_what_is_not_understood_is_said_once_and_reading_goes_on(runs) -> None:
    link = WatchLink(find_runs(runs)[0])
    link.look()
    link.look()
    (runs / "broken").unlink()
    link.look()
    heard = link.events.drain(1000)
    assert [event.message for event in heard if isinstance(event, Log)] == [
        "something in its files cannot be parsed: ValueError: no number",
        "its files can be read again",
    ]
    assert len([event for event in heard if isinstance(event, TrainPoint)]) == 5


def test_one_bad_run_is_told_in_the_list_and_the_others_are_there(runs) -> None:
    watched = WatchedRuns([runs])
    note = "something in its files cannot be parsed: ValueError: no number"
    assert {(run.name, run.step, run.note) for run in watched.read()} == {("bad", 0, note), ("good", 4, "")}
    (runs / "broken").unlink()
    assert {(run.name, run.step, run.note) for run in watched.read()} == {("bad", 4, ""), ("good", 4, "")}
