"""Signals that ask a process to end, heard also while its main thread is busy in a library or waits for a disk."""

import os
import signal
import threading
from collections.abc import Callable, Collection
from types import FrameType, TracebackType


class EndSignals:
    """While entered (in the main thread) calls `first(number)` on the first signal of `numbers`, then `again(number)`.

    Both are called in a thread of their own: Python's own handlers run only once the main thread is back in Python,
    which a write to a stalled disk may keep it from.
    """

    def __init__(self, numbers: Collection[int], first: Callable[[int], None], again: Callable[[int], None]) -> None:
        self._numbers = frozenset(numbers)
        self._first, self._again = first, again
        self.caught: list[int] = []

    def __enter__(self) -> "EndSignals":
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        self._thread = threading.Thread(target=self._listen, name="finetui-signals", daemon=True)
        self._thread.start()
        self._wakeup_before = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        # A handler in Python has to be there for the interpreter to write the signal's number.
        self._before = {number: signal.signal(number, _heard) for number in self._numbers}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup_before)
        os.close(self._writer)
        self._thread.join()
        os.close(self._reader)

    def _listen(self) -> None:
        while numbers := os.read(self._reader, 64):
            for number in numbers:
                if number in self._numbers:
                    self.caught.append(number)
                    (self._first if len(self.caught) == 1 else self._again)(number)


def _heard(_number: int, _frame: FrameType | None) -> None:
    """Nothing is left to do: the thread knows."""
