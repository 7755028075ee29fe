"""Signals that ask a process to end, heard also while its main thread is busy in a library."""

import os
import select
import signal
import threading
import time
from collections.abc import Callable, Collection
from types import FrameType
from typing import Self

from finetui.engine.protocol.commands import Stop
from finetui.engine.protocol.events import AnyEvent, RunPrepared, StateChanged
from finetui.engine.protocol.queues import CommandQueue

DOUBLED_SECONDS = 5.0  # in which a rank of several may be sent a signal again: by the system, and by torchrun
_UNBEGUN_SECONDS = 3.0  # how long an engine that has nothing to save may take to leave


class SignalListener:
    """While entered (in the main thread), hears of the signals `numbers` in a thread of its own.

    Python's handlers run only once the main thread is back in Python, which a write to a stalled disk may keep it from.
    """

    def __init__(self, numbers: Collection[int]) -> None:
        self._numbers = frozenset(numbers)
        self._thread = threading.Thread(target=self._listen, name="finetui-signals", daemon=True)

    def __enter__(self) -> Self:
        """Handle the signals from here on."""
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        self._thread.start()
        self._wakeup_before = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        # There has to be a handler in Python for the interpreter to write the signal's number.
        self._before = {number: signal.signal(number, self._on_signal) for number in self._numbers}
        return self

    def __exit__(self, *_: object) -> None:
        """Handle them as before, once the thread is done: nothing comes any more."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup_before)
        os.close(self._writer)
        self._thread.join()
        os.close(self._reader)

    def _next(self, seconds: float | None = None) -> int | None:
        """Return the next signal, of all that Python handles, within `seconds`; None when none comes, or none can."""
        if seconds is not None and not select.select([self._reader], [], [], seconds)[0]:
            return None
        number = os.read(self._reader, 1)
        return number[0] if number else None

    def _listen(self) -> None:
        """Act on each signal, in the thread, until `_next` has none any more."""
        raise NotImplementedError

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        """Act on a signal in the main thread, which is later to know."""


class EndSignals(SignalListener):
    """While entered (in the main thread), the first signal of `numbers` is a `Stop`, and another one ends the process.

    So does the first if no training has begun (as `note`, a sink of events, has heard) and the engine takes long to
    leave: an import or a download cannot always be interrupted. `last_act` is called before the process ends in such a
    way; its exit status is 128 + the signal's number. A second signal within `doubled_seconds` is taken for the first
    one: `timeout` sends its signal to its child and to its group.
    """

    def __init__(
        self,
        numbers: Collection[int],
        commands: CommandQueue,
        last_act: Callable[[], None],
        *,
        doubled_seconds: float = 0.0,
    ) -> None:
        super().__init__(numbers)
        self.caught: int | None = None
        self._commands = commands
        self._last_act = last_act
        self._doubled_seconds = doubled_seconds
        self._caught_at = 0.0
        self._begun = False

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

    def ask(self, number: int) -> None:
        """Do as if the signal `number` had come, where none has; from any thread."""
        if self.caught is None:
            self._hear(number)

    def _listen(self) -> None:
        while (number := self._next()) is not None:
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
        self._thread.join(_UNBEGUN_SECONDS)
        if self._thread.is_alive() and not self._begun:
            self._leave()

    def _leave(self) -> None:
        """End the process here and now; what is on disk stays as it is."""
        self._last_act()
        assert self.caught is not None, "a signal was caught"
        os._exit(128 + self.caught)
