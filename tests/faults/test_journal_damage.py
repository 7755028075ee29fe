"""Journals that are torn, damaged, still being written, or gone: what can be read is read, and what cannot is said."""

import os
import threading
from pathlib import Path

import pytest
from steered import at

from finetui.engine.checkpoints import checkpoint
from finetui.engine.link.journal_link import JournalLink
from finetui.engine.protocol.commands import Stop
from finetui.engine.protocol.config_file import load
from finetui.engine.protocol.events import Log, RunPrepared, TrainPoint
from finetui.engine.runs.folder import RunFolder, find_run
from finetui.engine.runs.journal import JournalReader
from finetui.engine.runs.summaries import summarise_run
from finetui.engine.session.session import Session
from finetui.tui.state.store import Store


def stopped(make_config, step: int = 30) -> RunFolder:
    folder = Session(make_config(epochs=2, name="run"), script=at((step, Stop()))).run().folder
    assert folder is not None
    return folder


def resumed(folder: RunFolder) -> list:
    Session(load(folder.config), resume=folder).run()
    return list(JournalReader(folder.journal).read())


def assert_it_ended_as_it_should(folder: RunFolder, make_config) -> None:
    whole = Session(make_config(epochs=2, name="whole")).run().folder
    assert whole is not None
    assert checkpoint.digest(checkpoint.load(folder.last)[1]) == checkpoint.digest(checkpoint.load(whole.last)[1])


def test_a_torn_last_line_is_skipped_and_counted_and_the_run_goes_on(make_config) -> None:
    """Row 27: killed in the middle of a line."""
    folder = stopped(make_config)
    before = folder.journal.read_bytes()
    folder.journal.write_bytes(before + b'{"type":"train_point","seq":99,"lo')
    events = resumed(folder)
    reader = JournalReader(folder.journal)
    assert len(list(reader.read())) == len(events)
    assert (reader.skipped, reader.unknown) == (1, 0)
    assert folder.journal.read_bytes().startswith(before)
    assert [event.seq for event in events] == list(range(len(events)))
    assert_it_ended_as_it_should(folder, make_config)


def test_bad_lines_are_skipped_and_said(make_config) -> None:
    """Row 27: lines that are no events, in the middle; a dashboard says how many."""
    folder = stopped(make_config)
    lines = folder.journal.read_bytes().splitlines(keepends=True)
    bad = [b"\x00\xff\xfe garbage\n", b'{"type":"train_point","seq":"x"}\n', b"\n", b'{"type":"from_next_year"}\n']
    folder.journal.write_bytes(b"".join([*lines[:5], *bad, *lines[5:]]))
    link = JournalLink(folder)
    link.run()
    events = link.events.drain()
    (warning,) = [event for event in events if isinstance(event, Log) and event.seq < 0]
    assert warning.message == "3 damaged and 1 unknown lines of the journal were skipped"
    assert len([event for event in events if event.seq >= 0]) == len(lines)
    resumed(folder)
    assert_it_ended_as_it_should(folder, make_config)


@pytest.mark.parametrize("lost", ["all of it", "its beginning", "its end", "all but garbage"])
def test_a_journal_that_is_lost_does_not_keep_a_run_from_going_on(make_config, lost: str) -> None:
    """Row 27: deleted, or cut; the resumed run's journal tells everything that a dashboard needs."""
    folder = stopped(make_config)
    lines = folder.journal.read_bytes().splitlines(keepends=True)
    match lost:
        case "all of it":
            folder.journal.unlink()
        case "its beginning":
            folder.journal.write_bytes(b"".join(lines[8:]))
        case "its end":
            folder.journal.write_bytes(b"".join(lines[:-6]))
        case _:
            folder.journal.write_bytes(os.urandom(5000))
    assert find_run(str(folder.path), Path(), lost_journal=True).path == folder.path
    events = resumed(folder)
    numbers = [event.seq for event in events]
    assert numbers == sorted(set(numbers))
    assert any(isinstance(event, RunPrepared) for event in events)
    store = Store()
    store.fold(events)
    assert (store.view.state, store.view.step) == ("finished", 80)
    x, _ = store.curves.train["loss"].points()
    assert x.tolist() == sorted(x.tolist())
    summary = summarise_run(folder)
    assert summary is not None
    assert (summary.state, summary.step, summary.best_accuracy) == ("finished", 80, store.view.best_accuracy)
    assert_it_ended_as_it_should(folder, make_config)


def test_a_journal_that_is_being_written_is_read_whole_and_once(make_config) -> None:
    """Row 27: a reader that looks all the time while lines of all lengths are written."""
    seen: list = []
    config = make_config(epochs=2, batch_size=20, name="run")
    session = Session(config)
    thread = threading.Thread(target=session.run)
    thread.start()
    reader: JournalReader | None = None
    while thread.is_alive():
        if session.folder is not None and session.folder.journal.exists():
            reader = reader or JournalReader(session.folder.journal)
            seen += reader.read()
    assert reader is not None
    seen += reader.read()
    assert session.folder is not None
    assert seen == list(JournalReader(session.folder.journal).read())
    assert (reader.skipped, reader.unknown) == (0, 0)
    assert sum(event.steps for event in seen if isinstance(event, TrainPoint)) == 400


def test_nothing_that_was_acknowledged_is_lost_with_a_kill(make_config, tmp_path: Path) -> None:
    """Row 27: whatever a client was told is in the journal, though the engine is killed at that moment."""
    from forked import ForkedSession

    told = tmp_path / "told"
    config = make_config(epochs=50, name="killed")
    log = os.open(told, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    session = ForkedSession(config, sinks=[lambda event: os.write(log, b"%d\n" % event.seq) and None])
    assert session.until_running()
    while told.stat().st_size < 150:
        pass
    session.kill()
    session.wait()
    os.close(log)
    heard = {int(number) for number in told.read_bytes().split() if int(number) >= 0}
    kept = {event.seq for event in JournalReader(Path(config.run.runs_dir) / "killed" / "journal.jsonl").read()}
    assert heard <= kept
