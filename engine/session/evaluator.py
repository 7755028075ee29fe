"""Evaluations in the course of a run: scores for everybody, and every prediction in a file beside the checkpoints."""

import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from finetui.engine.data import ImageData
from finetui.engine.errors import reason_of
from finetui.engine.files import link
from finetui.engine.inspection.evaluation import Report, batch_size_for, evaluate, files_of, predictions_of
from finetui.engine.inspection.ranking import QUICKLY_RANKED
from finetui.engine.models import Architecture
from finetui.engine.predictions.file import Files, Origin
from finetui.engine.protocol.events import Evaluated
from finetui.engine.runs.folder import BEST_PREDICTIONS, LAST_PREDICTIONS, RunFolder
from finetui.engine.session.judge import Judge
from finetui.engine.training.divergence import Diverged
from finetui.engine.training.trainer import Trainer


class Evaluator:
    """Evaluates a network between two training steps; the latest report is `report`, the best accuracy `best`.

    `judge` says which evaluation is the best, maybe by another figure.
    """

    def __init__(self, data: ImageData, architecture: Architecture, judge: Judge) -> None:
        self.report: Report | None = None
        self.best = -1.0
        self.judge = judge
        self._data = data
        self._batch_size = batch_size_for(architecture.in_channels, architecture.height, architecture.width)
        self._files: Files | None = None
        self._scratch: tempfile.TemporaryDirectory[str] | None = None

    def evaluate(
        self,
        trainer: Trainer,
        folder: RunFolder | None,
        progress: Callable[[int, int], None],
        stopped: Callable[[], bool],
        warn: Callable[[str], None],
    ) -> Evaluated | None:
        """Evaluate the network of `trainer`, and keep the predictions in `folder`, or where there is none yet, aside.

        Return None when `stopped` answered True before the end. Predictions that cannot be written are no reason to end
        a training: `warn` is told. Raises `Diverged` when the loss is not finite.
        """
        started = time.monotonic()
        data = self._data
        report = evaluate(
            trainer.model,
            data.test,
            data.classes,
            batch_size=self._batch_size,
            # A training is not kept waiting for it.
            ranked=len(data.test) * len(data.classes) <= QUICKLY_RANKED,
            progress=progress,
            stopped=stopped,
        )
        trainer.freezer.train_mode()
        if report is None:
            return None
        if not math.isfinite(report.loss):
            raise Diverged(f"the test loss became {report.loss} at step {trainer.step}", trainer.step)
        best = self.judge.is_best(report)
        self.best = max(self.best, report.accuracy)
        self.report = report
        origin = Origin(
            classes=data.classes,
            data=data.name,
            run=folder.name if folder else "",
            step=trainer.step,
            description=data.description,
        )
        try:
            file = self._keep(report, origin, folder, best)
        except OSError as error:
            file = ""
            warn(f"the predictions could not be written: {reason_of(error)}")
        return Evaluated(
            epoch=trainer.epoch + (trainer.position > 0),
            loss=report.loss,
            accuracy=report.accuracy,
            n=report.n,
            per_class=report.per_class,
            confusion=tuple(tuple(row) for row in report.confusion.tolist()),
            best=best,
            seconds=time.monotonic() - started,
            predictions=file,
            averages=report.averages,
            best_by=self.judge.by,
            figure=self.judge.figure,
        )

    def _keep(self, report: Report, origin: Origin, folder: RunFolder | None, best: bool) -> str:
        """Write the predictions and return their file, relative to `folder`."""
        if self._files is None:
            self._files = files_of(self._data.test)
        # Files that proved unreadable while streaming have no row.
        files = self._files if len(self._files) in (0, report.n) else self._files.at(report.columns["index"])
        predictions = predictions_of(report, origin, files)
        if folder is None:
            if self._scratch is None:
                self._scratch = tempfile.TemporaryDirectory(prefix="finetui-")
            path = Path(self._scratch.name) / LAST_PREDICTIONS
            predictions.save(path)
            return str(path)
        path = folder.path / LAST_PREDICTIONS
        predictions.save(path)
        if best:
            link(path, folder.path / BEST_PREDICTIONS)
        return path.name

    def close(self) -> None:
        """Remove what was kept aside."""
        if self._scratch is not None:
            self._scratch.cleanup()
