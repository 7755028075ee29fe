"""The link to a run that others write down: its files are read as they grow, and nothing can be told to it."""

import threading

from finetui.engine.errors import describe, reason_of
from finetui.engine.protocol.commands import AnyCommand
from finetui.engine.protocol.events import CommandRefused, Log
from finetui.engine.protocol.queues import EventQueue
from finetui.engine.sources.recognise import Found
from finetui.engine.sources.run_events import RunEvents
from finetui.engine.sources.watched_runs import events_of

_LOOK_SECONDS = 1.0


class WatchLink:
    """A run as its files tell it; `found` says which."""

    outlives = True
    steers = False
    attached = False
    over = False
    capabilities = None

    def __init__(self, found: Found) -> None:
        # All is read before anything is shown; a long history is thinned before it comes here.
        self.events = EventQueue(limit=2**62)
        self.found = found
        self._closed = threading.Event()
        self._reader: RunEvents | None = None
        self._problem = ""

    def run(self) -> None:
        """Read what there is, and what is added to it, until somebody closes."""
        while not self._closed.is_set():
            self.look()
            self._closed.wait(_LOOK_SECONDS)

    def look(self) -> None:
        """Read what there is by now."""
        try:
            self._reader = self._reader or events_of(self.found)
            for event in self._reader.read():
                self.events.put(event)
                if self._closed.is_set():
                    return
        except OSError as error:
            # A file that is gone, or on a network that is: it may come back.
            self._warn(f"its files cannot be read just now: {reason_of(error)}")
            return
        except Exception as error:  # noqa: BLE001  # others write them: whatever is in them, what is added is read
            self._warn(f"something in its files cannot be parsed: {describe(error)}")
            return
        if self._problem:
            self._problem = ""
            self.events.put(Log(level="info", message="its files can be read again"))

    def _warn(self, problem: str) -> None:
        """Say it, once."""
        if self._problem != problem:
            self._problem = problem
            self.events.put(Log(level="warning", message=problem))

    def send(self, command: AnyCommand) -> None:
        """Refuse `command`."""
        reason = f"this run is only watched, through its files ({self.found.kind})"
        self.events.put(CommandRefused(command=command, reason=reason))

    def close(self) -> None:
        """Stop reading."""
        self._closed.set()
