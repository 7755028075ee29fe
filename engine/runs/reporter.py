"""What an engine reports: stamped, journaled, and passed to every sink."""

import time
from collections.abc import Callable, Sequence

import msgspec

from finetui.engine.errors import BadInput
from finetui.engine.protocol.commands import AnyCommand
from finetui.engine.protocol.events import AnyEvent, CommandAccepted, CommandRefused, Log, MachineSample, Phase
from finetui.engine.runs.journal import Journal
from finetui.engine.text import clean

Sink = Callable[[AnyEvent], None]
_PHASE_INTERVAL = 0.1  # seconds


class Reporter:
    """Gives every event its step and its place in `journal`, if there is one, and passes it to every one of `sinks`.

    `step` is asked for the steps completed, and `machine` for a sample of what the machine does, where one is due,
    or for why there are none.
    """

    def __init__(
        self,
        journal: Journal | None,
        sinks: Sequence[Sink],
        step: Callable[[], int],
        machine: Callable[[], MachineSample | Log | None] = lambda: None,
    ) -> None:
        self._journal = journal
        self._sinks = sinks
        self._step = step
        self._machine = machine
        self._last_phase = 0.0
        self._journal_problem = ""

    def emit(self, *events: AnyEvent) -> None:
        """Journal the events and pass them on; several have consecutive numbers."""
        for event in events:
            self._pass_on(event)
        self.look_at_machine()
        problem = self._journal.problem if self._journal is not None else ""
        if problem != self._journal_problem:
            self._journal_problem = problem
            if problem:
                self.emit(Log(level="error", message=f"the journal cannot be written: {problem}; it is kept in memory"))
            else:
                self.emit(Log(level="info", message="the journal can be written again, and is complete"))

    def show(self, event: AnyEvent) -> None:
        """Pass `event` on without a number, and leave it out of the journal: others like it are in there."""
        stamped = msgspec.structs.replace(event, step=self._step(), time=time.time())
        for sink in self._sinks:
            sink(stamped)

    def look_at_machine(self) -> None:
        """Journal what the machine does and pass it on, where that is due; `emit` does it as well."""
        sample = self._machine()
        if sample is not None:
            self._pass_on(sample)

    def _pass_on(self, event: AnyEvent) -> None:
        stamped = msgspec.structs.replace(event, step=self._step())
        if self._journal is not None:
            stamped = self._journal.append(stamped)
        for sink in self._sinks:
            sink(stamped)

    def reply(self, command: AnyCommand, carry_out: Callable[[AnyCommand], bool]) -> None:
        """Have `command` carried out, and emit the one reply to it: a refusal where `carry_out` raises `BadInput`.

        `carry_out` returns whether it has replied itself, as it does to a question.
        """
        try:
            replied = carry_out(command)
        except BadInput as error:
            self.emit(CommandRefused(command=command, reason=str(error)))
        else:
            if not replied:
                self.emit(CommandAccepted(command=command))

    def warn(self, message: str) -> None:
        """Emit a line that a person should read."""
        self.emit(Log(level="warning", message=clean(message, 500)))

    def progress(self, name: str, done: int, total: int) -> None:
        """Emit how far something is that takes a while; at most ten times a second."""
        now = time.monotonic()
        if done == 0 or done == total or now - self._last_phase >= _PHASE_INTERVAL:
            self._last_phase = now
            self.emit(Phase(name=name, done=done, total=total))
