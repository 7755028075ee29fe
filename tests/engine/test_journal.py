from pathlib import Path

import pytest

from engine.commands import SetFrozen
from engine.errors import BadInput
from engine.events import CommandAccepted, Log, Phase, StateChanged
from engine.journal import Journal, JournalReader


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
