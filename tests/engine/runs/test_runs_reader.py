"""The summaries of runs that are looked at again and again are those of one look, and cost what has changed."""

from pathlib import Path

import msgspec
from canned import evaluated, point
from made_runs import held, write_run

from finetui.engine.protocol.events import StateChanged
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.journal import JournalReader, encode_line
from finetui.engine.runs.notes import noted
from finetui.engine.runs.runs_reader import RunsReader, reader_of
from finetui.engine.runs.summaries import summarise_runs


def add(run: Path, *events) -> None:
    with (run / "journal.jsonl").open("ab") as journal:
        for event in events:
            journal.write(encode_line(msgspec.structs.replace(event, seq=99, time=1.7e9 + 60)))


def test_only_what_changed_is_read_and_all_is_as_if_read_at_once(tmp_path: Path) -> None:
    for number in range(5):
        write_run(tmp_path, f"run-{number}", accuracy=0.5 + number / 10, at=1.7e9 + number)
    reader, seen = RunsReader(tmp_path), []
    assert reader.read(lambda done, total: seen.append((done, total))) == summarise_runs(tmp_path)
    assert seen == [(number, 5) for number in range(1, 6)]
    assert reader.journals_read == 5
    reader.read()
    assert reader.journals_read == 5
    noted(RunFolder(tmp_path / "run-2"), "look at this")
    add(tmp_path / "run-3", evaluated(2, 0.99))
    found = reader.read()
    assert reader.journals_read == 7
    assert found == summarise_runs(tmp_path)
    assert {run.name: (run.note, run.best_accuracy) for run in found}["run-2"][0] == "look at this"
    (tmp_path / "run-4" / "journal.jsonl").unlink()
    assert [run.name for run in reader.read()] == ["run-3", "run-2", "run-1", "run-0"]
    assert reader_of(tmp_path) is reader_of(tmp_path)


def test_the_journal_of_a_live_run_is_read_on_from_where_it_ended(tmp_path: Path, monkeypatch) -> None:
    run = write_run(tmp_path, "run", state="running", points=200)
    blocks: list[int] = []
    real = JournalReader._block

    def counted(reader: JournalReader) -> bytes:
        found = real(reader)
        blocks.append(len(found))
        return found

    monkeypatch.setattr(JournalReader, "_block", counted)
    reader = RunsReader(tmp_path)
    with held(run):
        (first,) = reader.read()
        assert first.live and first.state == "running" and first.step == 200
        whole = sum(blocks)
        blocks.clear()
        add(run, point(300), evaluated(3, 0.9), StateChanged(state="finished"))
        (second,) = reader.read()
        assert (second.step, second.best_accuracy, second.state) == (300, 0.9, "finished")
        assert 0 < sum(blocks) < whole / 10
        assert [second] == summarise_runs(tmp_path)
    # Written anew, as where its parent is renamed: read from the beginning.
    journal = run / "journal.jsonl"
    content = journal.read_bytes()
    journal.unlink()
    journal.write_bytes(content)
    assert reader.read() == summarise_runs(tmp_path)
