"""An engine that trains nothing: it opens a checkpoint with its data and answers questions about them."""

from collections.abc import Callable, Sequence
from pathlib import Path

from finetui.engine.errors import BadInput, FinetuiError, reason_of
from finetui.engine.inspection.answers import Answerer
from finetui.engine.inspection.evaluation import Report
from finetui.engine.inspection.opened_checkpoint import OpenedCheckpoint, open_checkpoint
from finetui.engine.protocol import events
from finetui.engine.protocol.commands import AnyCommand, Evaluate, NoteTest, PreviewFinetune, Question, Stop
from finetui.engine.protocol.queues import IDLE_WAIT, CommandQueue
from finetui.engine.protocol.requests import Inspection
from finetui.engine.protocol.values import AnyPart
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.journal_entry import write_entry
from finetui.engine.runs.reporter import Reporter, Sink
from finetui.engine.runs.resume import configuration
from finetui.engine.setup.preview import preview


class InspectionEngine:
    """Answers questions about what `inspection` names, in the calling thread; events go to every one of `sinks`."""

    def __init__(self, inspection: Inspection, commands: CommandQueue, sinks: Sequence[Sink]) -> None:
        self._inspection = inspection
        self._commands = commands
        self._step = 0
        self._reporter = Reporter(None, sinks, lambda: self._step)

    def run(self, stay: Callable[[events.State], bool]) -> None:
        """Open the checkpoint and obey until there is a `Stop`, or nothing to do and `stay` answers False.

        Raises `FinetuiError` when it cannot be opened; the last event has reported it first.
        """
        self._reporter.emit(events.StateChanged(state="preparing"))
        try:
            opened = self._open()
        except FinetuiError as error:
            self._reporter.emit(events.StateChanged(state="failed", reason=str(error)))
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
            classes_by=wanted.classes_by,
            bare=wanted.bare,
            progress=self._reporter.progress,
            cancelled=self._commands.stop_waits,
        )

    def _serve(self, opened: OpenedCheckpoint, stay: Callable[[events.State], bool]) -> None:
        for difference in opened.subject.data.differences:
            self._reporter.warn(difference)
        answerer = Answerer(opened.subject, self._reporter.progress, self._commands.stop_waits)
        self._reporter.emit(events.StateChanged(state="finished"))
        self._step = opened.step
        while True:
            command = self._commands.take(IDLE_WAIT)
            if isinstance(command, Stop):
                return
            if command is not None:
                self._reporter.reply(command, lambda command: self._carry_out(command, opened, answerer))
            elif not stay("finished"):
                return

    def _carry_out(self, command: AnyCommand, opened: OpenedCheckpoint, answerer: Answerer) -> bool:
        """Do what `command` says; return whether it was replied to by that. Raises `BadInput`."""
        try:
            if isinstance(command, PreviewFinetune):
                self._reporter.emit(self._preview(command, opened))
                return True
            if isinstance(command, Question):
                self._reporter.emit(answerer.answer(command))
                return True
            if isinstance(command, Evaluate):
                self._reporter.emit(self._evaluate(opened, command.part))
                return False
        except OSError as error:
            raise BadInput(f"the predictions could not be written: {reason_of(error)}") from error
        raise BadInput("nothing is training here: this is only a checkpoint")

    def _preview(self, command: PreviewFinetune, opened: OpenedCheckpoint) -> events.FinetunePreview:
        weights, channels = opened.subject.model.state_dict(), opened.subject.data.channels
        return preview(
            command, configuration(RunFolder(opened.path.absolute().parent)), opened.about, weights, channels
        )

    def _evaluate(self, opened: OpenedCheckpoint, wanted: AnyPart) -> events.Evaluated:
        part = wanted or opened.subject.data.scored
        report = opened.evaluate(self._reporter.progress, self._commands.stop_waits, part)
        if part == "test":
            self._note_test(opened.path, report)
        scratch = Path(self._inspection.scratch)
        # Whoever looks at one part must not have its file changed by an evaluation of another.
        path = scratch if part == opened.subject.data.scored else scratch.with_name(f"{part}.predictions")
        opened.predictions(report, part).save(path)
        return events.Evaluated(
            epoch=opened.epoch,
            loss=report.loss,
            accuracy=report.accuracy,
            n=report.n,
            per_class=report.per_class,
            confusion=(),
            best=False,
            seconds=0.0,
            predictions=str(path),
            averages=report.averages,
            part=part,
            watched=not wanted,
            checkpoint=opened.path.stem if wanted else "",
        )

    def _note_test(self, path: Path, report: Report) -> None:
        """Have the run's journal say that its test images were looked at, where it is its own data."""
        folder = RunFolder(path.absolute().parent)
        if self._inspection.data is not None or not folder.journal.is_file():
            return
        note = NoteTest(use="dashboard", checkpoint=path.stem, accuracy=report.accuracy, n=report.n)
        try:
            write_entry(folder, note)
        except BadInput as error:
            self._reporter.warn(f"the journal of {folder.name} could not record that test was looked at: {error}")
