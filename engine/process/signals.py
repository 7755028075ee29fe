"""Signals that ask an engine's process to end, heard also while its main thread is busy in a library."""

import os
import signal
import threading
import time
from collections.abc import Callable, Collection
from types import FrameType, TracebackType

from finetui.engine.protocol.commands import Stop
from finetui.engine.protocol.events import AnyEvent, RunPrepared, StateChanged
from finetui.engine.protocol.queues import CommandQueue

_UNBEGUN_SECONDS = 3.0  # how long an engine that has nothing to save may take to leave


class EndSignals:
    """While entered (in the main thread), the first signal of `numbers` is a `Stop`, and another one ends the process.

    So does the first if no training has begun (as `note`, a sink of events, has heard) and the engine takes long to
    leave: an import or a download cannot always be interrupted. `last_act` is called before the process ends in such a
    way; its exit status is 128 + the signal's number. A second signal within `doubled_seconds` is taken for the first
    one: `timeout` sends its signal to its child and to its group.

    Signals are heard in a thread of their own: Python's handlers run only once the main thread is back in Python, which
    a write to a stalled disk may keep it from.
    """

    def __init__(
        self,
        numbers: Collection[int],
        commands: CommandQueue,
        last_act: Callable[[], None],
        *,
        doubled_seconds: float = 0.0,
    ) -> None:
        self.caught: int | None = None
        self._numbers = frozenset(numbers)
        self._commands = commands
        self._last_act = last_act
        self._doubled_seconds = doubled_seconds
        self._caught_at = 0.0
        self._begun = False
        self._over = threading.Event()

    @property
    def status(self) -> int | None:
        """The exit status that a signal asks for; None where none came."""
        return None if self.caught is None else 128 + self.caught

    def note(self, event: AnyEvent) -> None:
        """Learn from `event` whether there is anything to save."""
        if isinstance(event, RunPrepared):
            self._begun = False
        elif isinstance(event, StateChanged) and event.state == "running":
            self._begun = True

    def __enter__(self) -> "EndSignals":
        """Handle the signals from here on."""
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        self._thread = threading.Thread(target=self._listen, name="finetui-signals", daemon=True)
        self._thread.start()
        self._wakeup_before = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        # There has to be a handler in Python for the interpreter to write the signal's number.
        self._before = {number: signal.signal(number, _heard) for number in self._numbers}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Handle them as before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup_before)
        self._over.set()
        os.close(self._writer)
        self._thread.join()
        os.close(self._reader)

    def _listen(self) -> None:
        while numbers := os.read(self._reader, 64):
            for number in numbers:
                if number in self._numbers:
                    self._hear(number)

    def _hear(self, number: int) -> None:
        now = time.monotonic()
        if self.caught is None:
            self.caught, self._caught_at = number, now
            self._commands.put(Stop())
            if not self._begun:
                threading.Thread(target=self._leave_unless_begun, name="finetui-leaving", daemon=True).start()
        elif now - self._caught_at >= self._doubled_seconds:
            self._leave()

    def _leave_unless_begun(self) -> None:
        if not self._over.wait(_UNBEGUN_SECONDS) and not self._begun:
            self._leave()

    def _leave(self) -> None:
        """End the process here and now; what is on disk stays as it is."""
        self._last_act()
        assert self.caught is not None, "a signal was caught"
        os._exit(128 + self.caught)


def _heard(_number: int, _frame: FrameType | None) -> None:
    """Nothing is left to do: the thread knows."""
