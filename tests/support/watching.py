"""Waits for what is to happen, and for what comes out of a link that runs in a thread."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from finetui.engine.link.base import Link
from finetui.engine.protocol.commands import AnyCommand
from finetui.engine.protocol.events import AnyEvent, Evaluated, StateChanged
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.journal import JournalReader

PATIENCE = 100.0  # a Python that imports torch is waited for, on a machine that has other things to do


def until(test: Callable[[], bool], problem: str = "it never came to that", seconds: float = 60.0) -> None:
    """Wait until `test` answers True; fail with `problem` when it does not within `seconds`."""
    end = time.monotonic() + seconds
    while not test():
        assert time.monotonic() < end, problem
        time.sleep(0.01)


def told(journal: Path) -> list[AnyEvent]:
    """Return the events of the journal as a dashboard hears them: without confusion matrices."""
    events = list(JournalReader(journal).read())
    return [msgspec.structs.replace(e, confusion=()) if isinstance(e, Evaluated) else e for e in events]


class Watcher:
    """A link and what was seen of it."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.seen: list[AnyEvent] = []
        self.thread = threading.Thread(target=link.run, daemon=True)
        self.thread.start()

    @property
    def folder(self) -> RunFolder:
        assert self.link.folder is not None
        return self.link.folder

    def until(self, test: Callable[[AnyEvent], bool]) -> AnyEvent:
        """Return the first event, from those not looked at before, that passes `test`."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            events = self.link.events.drain(1)
            if not events:
                time.sleep(0.005)
            for event in events:
                self.seen.append(event)
                if test(event):
                    return event
        raise AssertionError(f"it never came; seen: {self.seen[-5:]}")

    def until_state(self, state: str) -> StateChanged:
        event = self.until(lambda event: isinstance(event, StateChanged) and event.state == state)
        assert isinstance(event, StateChanged)
        return event

    def until_kind(self, kind: type) -> AnyEvent:
        return self.until(lambda event: isinstance(event, kind))

    def ask(self, command: AnyCommand) -> Any:
        """Send `command` and return its reply."""
        self.link.send(command)
        return self.until(lambda event: getattr(getattr(event, "command", None), "id", None) == command.id)

    def close(self) -> None:
        self.link.close()
        self.thread.join(20)
        assert not self.thread.is_alive()
