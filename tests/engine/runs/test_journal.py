from pathlib import Path

import pytest

from finetui.engine.errors import BadInput
from finetui.engine.protocol.commands import SetFrozen
from finetui.engine.protocol.events import CommandAccepted, Log, Phase, StateChanged, TrainPoint
from finetui.engine.runs.journal import Journal, JournalReader, last_event


def test_events_before_the_file_are_kept_and_nothing_is_written(tmp_path: Path) -> None:
    journal = Journal()
    first = journal.append(StateChanged(state="ready"))
    assert first.seq == 0
    assert first.time > 1.7e9
    assert list(tmp_path.iterdir()) == []
    journal.open(tmp_path / "journal.jsonl")
    second = journal.append(CommandAccepted(command=SetFrozen(groups=("conv1",), frozen=True), step=7))
    # No close: what was acknowledged must be on disk already.
    assert list(JournalReader(tmp_path / "journal.jsonl").read()) == [first, second]


def test_transient_events_are_not_journaled(tmp_path: Path) -> None:
    journal = Journal()
    journal.open(tmp_path / "j")
    assert journal.append(Phase(name="reading")).seq == -1
    assert journal.append(Log(level="info", message="x")).seq == 0
    assert (tmp_path / "j").read_bytes().count(b"\n") == 1


def test_a_torn_line_waits_and_a_bad_one_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "j"
    whole = b'{"type":"log","level":"info","message":"a","seq":0}\n'
    path.write_bytes(whole + b"\xff not json\n" + b'{"type":"from_the_future","x":1}\n' + whole[:20])
    reader = JournalReader(path)
    assert [event.message for event in reader.read()] == ["a"]
    assert (reader.skipped, reader.unknown) == (1, 1)
    with path.open("ab") as file:
        file.write(whole[20:])
    assert [event.message for event in reader.read()] == ["a"]
    assert (reader.skipped, reader.unknown) == (1, 1)


def test_an_event_with_values_of_the_wrong_type_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "j"
    path.write_bytes(b'{"type":"state_changed","state":"dancing"}\n{"type":"log"}\n[]\n')
    reader = JournalReader(path)
    assert list(reader.read()) == []
    assert reader.skipped == 3


def test_a_missing_journal_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be read"):
        list(JournalReader(tmp_path / "none").read())


def test_an_existing_journal_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "j").write_text("precious\n")
    with pytest.raises(FileExistsError):
        Journal().open(tmp_path / "j")
    assert (tmp_path / "j").read_text() == "precious\n"


class _ShortWriter:
    """A file on a disk with room for `room` more bytes."""

    def __init__(self, file: object, room: int) -> None:
        self._file = file
        self.room = room

    def write(self, data: bytes) -> int:
        part = data[: self.room]
        if not part:
            raise OSError(28, "No space left on device")
        self.room -= len(part)
        return self._file.write(part)

    def __getattr__(self, name: str) -> object:
        return getattr(self._file, name)


def test_what_does_not_fit_on_the_disk_waits_and_half_a_line_is_taken_back(tmp_path: Path) -> None:
    journal = Journal()
    journal.open(tmp_path / "j")
    first = journal.append(Log(level="info", message="fits"))
    journal._file = disk = _ShortWriter(journal._file, room=30)
    late = [journal.append(Log(level="info", message=f"waits {number}")) for number in range(3)]
    assert journal.problem == "No space left on device"
    assert list(JournalReader(tmp_path / "j").read()) == [first]
    assert (tmp_path / "j").read_bytes().endswith(b"\n")
    disk.room = 10_000
    last = journal.append(StateChanged(state="running"))
    assert journal.problem == ""
    assert list(JournalReader(tmp_path / "j").read()) == [first, *late, last]


def test_only_points_are_dropped_when_too_much_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finetui.engine.runs.journal._MOST_UNWRITTEN", 3)
    journal = Journal()
    journal.open(tmp_path / "j")
    journal._file = disk = _ShortWriter(journal._file, room=0)
    point = TrainPoint(
        epoch=1, step_in_epoch=1, steps=1, loss=1, accuracy=1, learning_rate=1, grad_norm=1, samples_per_second=1
    )
    for event in (StateChanged(state="running"), point, point, point, Log(level="info", message="x"), point):
        journal.append(event)
    disk.room = 10_000
    journal.append(StateChanged(state="stopped"))
    kinds = [type(event).__name__ for event in JournalReader(tmp_path / "j").read()]
    assert kinds == ["StateChanged", "Log", "TrainPoint", "StateChanged"]


def test_a_journal_is_gone_on_with_by_its_numbers(tmp_path: Path) -> None:
    journal = Journal()
    journal.open(tmp_path / "j")
    for number in range(2000):
        journal.append(Log(level="info", message="x" * (number % 300)))
    journal.close()
    again = Journal()
    last = again.reopen(tmp_path / "j")
    assert last is not None
    assert last.seq == 1999
    assert again.append(StateChanged(state="running")).seq == 2000
    assert len(list(JournalReader(tmp_path / "j").read())) == 2001


def test_the_last_event_is_found_behind_very_long_and_damaged_lines(tmp_path: Path) -> None:
    journal = Journal()
    journal.open(tmp_path / "j")
    journal.append(StateChanged(state="ready"))
    journal.append(Log(level="info", message="y" * 500_000))
    with (tmp_path / "j").open("ab") as file:
        file.write(b"garbage\n" * 20_000 + b'{"type":"state_changed","state":"fin')
    found = last_event(tmp_path / "j")
    assert isinstance(found, Log)
    assert found.seq == 1
    (tmp_path / "empty").touch()
    assert last_event(tmp_path / "empty") is None
