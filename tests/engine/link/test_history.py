"""The past from the journal, then the live events: each once, in order, and in bounded memory."""

from pathlib import Path

import msgspec
import pytest
from long_journal import long_journal

from finetui.engine.link import history
from finetui.engine.link.frames import Welcome
from finetui.engine.link.history import History
from finetui.engine.protocol.events import ClassReport, Evaluated, Log, TrainPoint
from finetui.engine.runs.journal import Journal, JournalReader, encode_line
from finetui.engine.runs.thinning import thinned


def test_a_long_past_is_thinned_and_loses_no_spike(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    long_journal(path, 120_000, spike=77_777)
    events = list(History().expand(Welcome(journal=str(path), next_seq=120_004)))
    points = [event for event in events if isinstance(event, TrainPoint)]
    assert 1000 < len(points) < 6000
    assert max(point.loss for point in points) == 99.0
    assert points[-1].step == 120_000
    assert [event.message for event in events if isinstance(event, Log)] == ["0", "50000", "100000"]
    assert [event.seq for event in events] == sorted({event.seq for event in events})


def test_a_short_past_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    long_journal(path, 1000, spike=5)
    reader = JournalReader(path)
    assert len(list(thinned(reader, reader.glances(), path.stat().st_size))) == 1002


def test_the_past_is_told_once_over_two_connections(tmp_path: Path) -> None:
    journal = Journal()
    journal.open(tmp_path / "journal.jsonl")
    events = [journal.append(Log(level="info", message=str(i))) for i in range(5)]
    past = History()
    welcome = Welcome(journal=str(tmp_path / "journal.jsonl"), next_seq=3)
    assert list(past.expand(welcome)) == events[:3]
    assert list(past.expand(events[2])) == []  # it was on its way when the client came
    assert list(past.expand(events[3])) == [events[3]]
    past.begin()
    assert list(past.expand(msgspec.structs.replace(welcome, next_seq=5))) == [events[4]]


def test_a_second_connection_reads_on_where_the_first_one_stopped(tmp_path: Path) -> None:
    """Who is slow because the journal is long is disconnected: reading it again would make that go on for ever."""
    path = tmp_path / "journal.jsonl"
    lines = [encode_line(Log(level="info", message=str(i), seq=i)) for i in range(6)]
    path.write_bytes(b"".join(lines[:4]))
    past = History()
    assert [event.seq for event in past.expand(Welcome(journal=str(path), next_seq=3))] == [0, 1, 2]
    path.write_bytes(b"".join(lines[3:4] * 4 + lines[4:]))  # what was read is not looked at again
    past.begin()
    assert [event.seq for event in past.expand(Welcome(journal=str(path), next_seq=6))] == [3, 4, 5]


@pytest.mark.parametrize("block", [7, 100, 10_000])
def test_lines_longer_than_a_block_are_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr("finetui.engine.runs.journal._BLOCK", block)
    path = tmp_path / "journal.jsonl"
    lines = [encode_line(Log(level="info", message=f"{i}" * (i + 1) * 40, seq=i)) for i in range(6)]
    path.write_bytes(b"".join(lines) + lines[0][:30])  # the last is being written
    reader = JournalReader(path)
    assert [glance.seq for glance, _ in reader.glances()] == [0, 1, 2, 3, 4, 5]
    path.write_bytes(b"".join(lines) + lines[5])
    assert [glance.seq for glance, _ in reader.glances()] == [5]


def test_damage_in_the_past_is_said_once(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    lines = [encode_line(Log(level="info", message=str(i), seq=i)) for i in range(2)]
    path.write_bytes(lines[0] + b"{torn\n" + lines[1])
    past = History()
    *_, said = past.expand(Welcome(journal=str(path), next_seq=2))
    assert said == Log(level="warning", message="1 damaged and 0 unknown lines of the journal were skipped")
    past.begin()
    assert list(past.expand(Welcome(journal=str(path), next_seq=2))) == []


def test_lines_that_are_being_written_are_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "journal.jsonl"
    lines = [encode_line(Log(level="info", message=str(i), seq=i)) for i in range(3)]
    path.write_bytes(lines[0] + lines[1][:10])
    # The engine writes on while the reader waits, having come to the torn line.
    monkeypatch.setattr(history.time, "sleep", lambda _seconds: path.write_bytes(b"".join(lines)))
    assert [event.seq for event in History().expand(Welcome(journal=str(path), next_seq=3))] == [0, 1, 2]


def test_lines_that_never_come_are_not_waited_for_for_long(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(encode_line(Log(level="info", message="0", seq=0)))
    assert [event.seq for event in History().expand(Welcome(journal=str(path), next_seq=3))] == [0]


def evaluated(seq: int, label: str = 'a "confusion":[[ b') -> Evaluated:
    report = ClassReport(label=label, support=3, precision=1.0, recall=1.0, f1=1.0, accuracy=1.0)
    return Evaluated(
        epoch=1, loss=0.5, accuracy=0.75, n=6, per_class=(report,) * 2, confusion=((3, 0), (1, 2)), best=True,
        seconds=1.0, predictions="last.predictions", seq=seq,
    )  # fmt: skip


def test_evaluations_come_without_their_matrix(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(encode_line(evaluated(0)) + encode_line(msgspec.structs.replace(evaluated(1), confusion=())))
    past = History()
    first, second = past.expand(Welcome(journal=str(path), next_seq=2))
    (third,) = past.expand(evaluated(2))
    bare = msgspec.structs.replace(evaluated(0), confusion=())
    assert [msgspec.structs.replace(event, seq=0) for event in (first, second, third)] == [bare] * 3
    assert next(JournalReader(path).read()) == evaluated(0)  # where it still is
