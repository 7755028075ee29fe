"""Evaluations in the course of a run: scores for everybody, and every prediction in a file beside the checkpoints."""

import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from finetui.engine.data import ImageData, Split
from finetui.engine.distributed.ranks import SINGLE, Ranks
from finetui.engine.errors import reason_of
from finetui.engine.files import link
from finetui.engine.inspection.evaluation import Report, Scores, batch_size_for, evaluate, files_of, predictions_of
from finetui.engine.inspection.ranking import QUICKLY_RANKED
from finetui.engine.models import Architecture
from finetui.engine.predictions.file import Files, Origin
from finetui.engine.protocol.events import Evaluated
from finetui.engine.protocol.values import Part
from finetui.engine.runs.folder import RunFolder
from finetui.engine.session.monitor import Monitor
from finetui.engine.session.shared_scores import shared_report
from finetui.engine.training.divergence import Diverged
from finetui.engine.training.trainer import Trainer


class Evaluator:
    """Evaluates a network between two training steps.

    `report` is the latest of the part that is evaluated while training, `best` the accuracy on it of the best one;
    `monitor` says which that is, maybe by another figure.
    """

    def __init__(self, data: ImageData, architecture: Architecture, monitor: Monitor, ranks: Ranks = SINGLE) -> None:
        self._ranks = ranks
        self.report: Report | None = None
        self.best = -1.0
        self.monitor = monitor
        self._data = data
        self._batch_size = batch_size_for(architecture.in_channels, architecture.height, architecture.width)
        self._files: dict[Part, Files] = {}
        self._scratch: tempfile.TemporaryDirectory[str] | None = None

    def evaluate(
        self,
        trainer: Trainer,
        folder: RunFolder | None,
        progress: Callable[[int, int], None],
        stopped: Callable[[], bool],
        warn: Callable[[str], None],
        part: Part,
        checkpoint: tuple[str, int] | None = None,
        scores: Scores | None = None,
    ) -> Evaluated | None:
        """Evaluate the network of `trainer`, and keep the predictions in `folder`, or where there is none yet, aside.

        `checkpoint` is the name and step of the one whose weights it has for the moment, None that they are its own;
        `scores` computes what it says, where it is not to. Returns None when `stopped` answered True before the end.
        Predictions that cannot be written are no reason to end a training: `warn` is told. Raises `Diverged` when the
        loss of what is evaluated while training is not finite, `BadInput` where there is no such part.
        """
        started = time.monotonic()
        data = self._data
        split, watched = data.part(part), part == data.watched
        report = self._report(trainer.model, split, progress, stopped, scores)
        trainer.freezer.train_mode()
        if report is None:
            return None
        best = watched and self._is_best(report, part, trainer.step)
        name, step = checkpoint or ("", trainer.step)
        first = self._ranks.is_first
        file = self._kept(report, self._origin(folder, step, part), folder, best, warn) if first else ""
        return Evaluated(
            **_figures(report),
            epoch=trainer.epoch + (trainer.position > 0),
            best=best,
            seconds=time.monotonic() - started,
            predictions=file,
            best_by=self.monitor.by,
            figure=self.monitor.figure if watched else None,
            part=part,
            watched=watched,
            checkpoint=name,
        )

    def _report(
        self,
        model: nn.Module,
        split: Split,
        progress: Callable[[int, int], None],
        stopped: Callable[[], bool],
        scores: Scores | None,
    ) -> Report | None:
        def evaluated(scores: Scores | None, stopped: Callable[[], bool]) -> Report | None:
            return evaluate(
                model,
                split,
                self._data.classes,
                batch_size=self._batch_size,
                # A training is not kept waiting for it.
                ranked=len(split) * len(self._data.classes) <= QUICKLY_RANKED,
                progress=progress,
                stopped=stopped,
                scores=scores,
            )

        if self._ranks.world == 1:
            return evaluated(scores, stopped)
        return shared_report(self._ranks, model, split, self._batch_size, stopped, evaluated)

    def _is_best(self, report: Report, part: Part, step: int) -> bool:
        """Take note of what is evaluated while training, and return whether it is the best yet. Raises `Diverged`."""
        if not math.isfinite(report.loss):
            raise Diverged(f"the {part} loss became {report.loss} at step {step}", step)
        best = self.monitor.is_best(report)
        self.best = report.accuracy if best else self.best
        self.report = report
        return best

    def _origin(self, folder: RunFolder | None, step: int, part: Part) -> Origin:
        return Origin(
            classes=self._data.classes,
            data=self._data.name,
            run=folder.name if folder else "",
            step=step,
            part=part,
            description=self._data.description,
        )

    def _kept(
        self, report: Report, origin: Origin, folder: RunFolder | None, best: bool, warn: Callable[[str], None]
    ) -> str:
        """Write the predictions and return their file, relative to `folder`; empty where that fails."""
        try:
            return self._keep(report, origin, folder, best)
        except OSError as error:
            warn(f"the predictions could not be written: {reason_of(error)}")
            return ""

    def _keep(self, report: Report, origin: Origin, folder: RunFolder | None, best: bool) -> str:
        """Write the predictions and return their file, relative to `folder`."""
        part = origin.part
        if part not in self._files:
            self._files[part] = files_of(self._data.part(part))
        files = self._files[part]
        if len(files) not in (0, report.n):
            files = files.at(report.columns["index"])  # files that proved unreadable while streaming have no row
        predictions = predictions_of(report, origin, files)
        if folder is None:
            if self._scratch is None:
                self._scratch = tempfile.TemporaryDirectory(prefix="finetui-")
            path = _file_of(RunFolder(Path(self._scratch.name)), part, self._data.watched)
            predictions.save(path)
            return str(path)
        path = _file_of(folder, part, self._data.watched)
        predictions.save(path)
        if best:
            link(path, folder.best_predictions)
        return path.name

    def close(self) -> None:
        """Remove what was kept aside."""
        if self._scratch is not None:
            self._scratch.cleanup()


def _figures(report: Report) -> dict[str, Any]:
    """Return what an event has of `report` as it is."""
    names = ("loss", "accuracy", "n", "per_class", "averages")
    confusion = tuple(tuple(row) for row in report.confusion.tolist())
    return {name: getattr(report, name) for name in names} | {"confusion": confusion}


def _file_of(folder: RunFolder, part: Part, watched: Part) -> Path:
    return folder.last_predictions if part == watched else folder.predictions_of(part)
