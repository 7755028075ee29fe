"""An engine that trains nothing: it opens a checkpoint with its data and answers questions about them."""

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from finetui.engine.errors import BadInput, FinetuiError
from finetui.engine.inspection.answers import Answerer
from finetui.engine.inspection.opened_checkpoint import OpenedCheckpoint, open_checkpoint
from finetui.engine.predictions.file import Predictions
from finetui.engine.protocol import events
from finetui.engine.protocol.commands import AnyCommand, Evaluate, Question, Stop
from finetui.engine.protocol.queues import CommandQueue
from finetui.engine.protocol.requests import Inspection
from finetui.engine.text import clean

Sink = Callable[[events.AnyEvent], None]
_IDLE_WAIT = 0.2  # seconds between two looks at whether to stay


class InspectionEngine:
    """Answers questions about what `inspection` names, in the calling thread; events go to every one of `sinks`."""

    def __init__(self, inspection: Inspection, commands: CommandQueue, sinks: Sequence[Sink]) -> None:
        self._inspection = inspection
        self._commands = commands
        self._sinks = sinks

    def run(self, stay: Callable[[events.State], bool]) -> None:
        """Open the checkpoint and obey until there is a `Stop`, or nothing to do and `stay` answers False.

        Raises `FinetuiError` when it cannot be opened; the last event has said so first.
        """
        self._emit(events.StateChanged(state="preparing"))
        try:
            opened = self._open()
        except FinetuiError as error:
            self._emit(events.StateChanged(state="failed", reason=str(error)))
            raise
        try:
            self._serve(opened, stay)
        finally:
            opened.close()

    def _open(self) -> OpenedCheckpoint:
        wanted = self._inspection
        return open_checkpoint(
            Path(wanted.checkpoint),
            data=wanted.data,
            data_dir=Path(wanted.data_dir) if wanted.data_dir is not None else None,
            model=wanted.model,
            device=wanted.device,
            progress=self._phase,
            cancelled=self._commands.stop_waits,
        )

    def _serve(self, opened: OpenedCheckpoint, stay: Callable[[events.State], bool]) -> None:
        answerer = Answerer(opened.subject, self._phase, self._commands.stop_waits)
        self._emit(events.StateChanged(state="finished"))
        while True:
            command = self._commands.take(_IDLE_WAIT)
            if isinstance(command, Stop):
                return
            if command is not None:
                self._obey(command, opened, answerer)
            elif not stay("finished"):
                return

    def _obey(self, command: AnyCommand, opened: OpenedCheckpoint, answerer: Answerer) -> None:
        step = opened.step
        try:
            if isinstance(command, Question):
                self._emit(answerer.answer(command), step)
            elif isinstance(command, Evaluate):
                self._emit(self._evaluate(opened), step)
                self._emit(events.CommandAccepted(command=command), step)
            else:
                raise BadInput("nothing trains here; this only looks at a checkpoint")
        except BadInput as error:
            self._emit(events.CommandRefused(command=command, reason=str(error)), step)
        except OSError as error:
            reason = f"the predictions could not be written: {clean(error.strerror or str(error))}"
            self._emit(events.CommandRefused(command=command, reason=reason), step)

    def _evaluate(self, opened: OpenedCheckpoint) -> events.Evaluated:
        report = opened.evaluate(self._phase, self._commands.stop_waits)
        predictions: Predictions = opened.predictions(report)
        path = Path(self._inspection.scratch)
        predictions.save(path)
        return events.Evaluated(
            epoch=0,
            loss=report.loss,
            accuracy=report.accuracy,
            n=report.n,
            per_class=report.per_class,
            confusion=(),
            best=False,
            seconds=0.0,
            predictions=str(path),
        )

    def _phase(self, name: str, done: int, total: int) -> None:
        self._emit(events.Phase(name=name, done=done, total=total))

    def _emit(self, event: events.AnyEvent, step: int = 0) -> None:
        stamped = msgspec.structs.replace(event, step=step)
        for sink in self._sinks:
            sink(stamped)
