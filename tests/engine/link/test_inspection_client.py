"""Questions about a run that has ended, and the engine that is started for them."""

import os
import signal
import threading

import pytest
from watching import Watcher

from finetui.engine.link.inspection_client import InspectionClient
from finetui.engine.link.journal_link import JournalLink
from finetui.engine.protocol.commands import AnyCommand, Evaluate, FetchImages, Stop
from finetui.engine.protocol.events import CommandAccepted, CommandRefused, Evaluated, Images
from finetui.engine.protocol.queues import EventQueue
from finetui.engine.protocol.requests import Inspection
from finetui.engine.session.session import Session


def test_another_engine_answers_where_the_first_one_was_killed(make_config, watch) -> None:
    folder = Session(make_config()).run().folder
    assert folder is not None
    link = JournalLink(folder)
    watcher: Watcher = watch(link)
    link.send(FetchImages(indices=(0,)))
    watcher.until_kind(Images)
    engine = link._client._link
    assert engine is not None
    os.kill(engine.pid, signal.SIGSTOP)  # so that it answers nothing any more
    lost = FetchImages(indices=(1,))
    link.send(lost)
    os.kill(engine.pid, signal.SIGKILL)
    refused = watcher.until_kind(CommandRefused)
    assert refused.command == lost
    # Whichever is known first: that the connection is gone, or how the process ended.
    assert refused.reason in ("the engine has ended", "the engine process ended unexpectedly (killed by signal 9)")
    link.send(FetchImages(indices=(2,)))
    images = watcher.until_kind(Images)
    assert [picture.index for picture in images.pictures] == [2]


def test_an_evaluation_of_an_opened_run_is_answered(make_config, watch) -> None:
    folder = Session(make_config()).run().folder
    assert folder is not None
    link = JournalLink(folder)
    watcher: Watcher = watch(link)
    asked = Evaluate(part="test")
    link.send(asked)
    found = watcher.until(lambda event: isinstance(event, Evaluated) and not event.watched)
    assert watcher.until(lambda event: isinstance(event, CommandAccepted) and event.command.id == asked.id)
    assert (found.epoch, found.step, found.checkpoint) == (1, 40, "last")


def test_an_engine_that_nobody_waits_for_is_stopped_whatever_it_is_at(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[AnyCommand] = []
    closed = threading.Event()

    class Engine:
        def __init__(self, _inspection: Inspection, *, events: EventQueue) -> None:
            pass

        def run(self) -> None:
            closed.wait(20)

        def send(self, command: AnyCommand) -> None:
            assert not closed.is_set()
            sent.append(command)

        def close(self) -> None:
            closed.set()

    monkeypatch.setattr("finetui.engine.link.inspection_client.ProcessLink", Engine)
    client = InspectionClient(Inspection(checkpoint="x.ckpt"), events := EventQueue())
    client.send(Evaluate())
    client.close()
    assert closed.is_set()
    client.send(Evaluate())  # starts no other one
    assert [type(command) for command in sent] == [Evaluate, Stop]
    assert [type(event) for event in events.drain()] == [CommandRefused]
