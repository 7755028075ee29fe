"""Runs a link in a thread, and waits for what comes out of it."""

import threading
import time
from collections.abc import Callable

from engine.events import AnyEvent, StateChanged
from engine.link import Link

PATIENCE = 40.0


class Watcher:
    """A link and what was seen of it."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.seen: list[AnyEvent] = []
        self.thread = threading.Thread(target=link.run, daemon=True)
        self.thread.start()

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

    def close(self) -> None:
        self.link.close()
        self.thread.join(20)
        assert not self.thread.is_alive()
