"""The two queues between an engine and whoever watches and steers it. Neither side ever waits for the other."""

import threading
from collections import deque
from collections.abc import Callable
from typing import TypeVar

from finetui.engine.protocol.commands import AnyCommand, Stop
from finetui.engine.protocol.events import COALESCIBLE, AnyEvent

EVENT_LIMIT = 2048
IDLE_WAIT = 0.2  # seconds that an idle engine waits for a command between two looks at whether it should stay
_T = TypeVar("_T")


def drop_oldest(waiting: deque[_T], may_be_missed: Callable[[_T], bool]) -> _T | None:
    """Remove and return the oldest of those `waiting` that may be missed; None if none may."""
    for index, item in enumerate(waiting):
        if may_be_missed(item):
            del waiting[index]
            return item
    return None


class EventQueue:
    """A bounded queue of events from one engine to one reader.

    Results (evaluations, replies, states) are never dropped. Once `limit` events wait, the oldest coalescible
    one (a train point, a phase) makes room and is counted in `dropped`.

    `on_news` is called, in the thread that puts, when the first event comes to wait that is more than one of those.
    """

    def __init__(self, limit: int = EVENT_LIMIT) -> None:
        self.on_news: Callable[[], None] = lambda: None
        self._limit = limit
        self._events: deque[AnyEvent] = deque()
        self._lock = threading.Lock()
        self._news = 0
        self.dropped = 0

    def put(self, event: AnyEvent) -> None:
        """Add `event`; never blocks."""
        with self._lock:
            if len(self._events) >= self._limit:
                missed = drop_oldest(self._events, lambda waiting: isinstance(waiting, COALESCIBLE))
                self.dropped += missed is not None
            self._events.append(event)
            is_news = not isinstance(event, COALESCIBLE)
            self._news += is_news
            is_first = is_news and self._news == 1
        if is_first:
            self.on_news()

    def __len__(self) -> int:
        return len(self._events)

    @property
    def has_news(self) -> bool:
        """Whether an event waits that is more than coalescible."""
        return self._news > 0

    def drain(self, limit: int = EVENT_LIMIT) -> list[AnyEvent]:
        """Remove and return up to `limit` events, oldest first; never blocks."""
        with self._lock:
            drained = [self._events.popleft() for _ in range(min(limit, len(self._events)))]
            self._news -= sum(not isinstance(event, COALESCIBLE) for event in drained)
        return drained


class CommandQueue:
    """Commands on their way to an engine; thread-safe.

    `waiting` holds those that nobody has taken yet: whoever is in a hurry may ask whether there are any.
    """

    def __init__(self) -> None:
        self.waiting: deque[AnyCommand] = deque()
        self._arrived = threading.Condition()

    def put(self, command: AnyCommand) -> None:
        """Add `command`; never blocks."""
        with self._arrived:
            self.waiting.append(command)
            self._arrived.notify_all()

    def take(self, wait: float = 0.0) -> AnyCommand | None:
        """Remove and return the oldest command, waiting up to `wait` seconds for one; None if there is none."""
        # The step loop asks at every step; an empty deque is false without taking the lock.
        if not self.waiting and wait <= 0:
            return None
        with self._arrived:
            if not self.waiting:
                self._arrived.wait(wait)
            return self.waiting.popleft() if self.waiting else None

    def stop_waits(self) -> bool:
        """Tell whether a `Stop` is among the waiting commands, so that long work can end early."""
        with self._arrived:
            return any(isinstance(command, Stop) for command in self.waiting)
