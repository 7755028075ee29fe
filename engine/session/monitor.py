"""Which evaluation of a run is the best so far, and when it is time to stop because none is any more."""

from collections.abc import Callable, Mapping
from typing import Any

from finetui.engine.errors import BadInput
from finetui.engine.inspection.evaluation import Report
from finetui.engine.predictions.metrics import TOP_K, averages, balanced_accuracy, in_top
from finetui.engine.protocol.config import RunConfig
from finetui.engine.text import figure_text

_FIGURES: Mapping[str, Callable[[Report], float]] = {
    "accuracy": lambda report: report.accuracy,
    "loss": lambda report: report.loss,
    "macro-f1": lambda report: averages(report.confusion)[0].f1,
    "balanced-accuracy": lambda report: balanced_accuracy(report.confusion),
    "top5": lambda report: float(in_top(report.top, report.columns["label"], TOP_K).mean()),
}


class Monitor:
    """Compares the evaluations of a run by the figure that `config` names.

    `figure` is that of the last evaluation, `best` the best of all. Early stopping counts those at the ends of epochs
    only, since only they come again in a replay: `since` is the number of them in a row that did not improve.
    Raises `BadInput` for a figure that says nothing of so few `classes`.
    """

    def __init__(self, config: RunConfig, classes: int) -> None:
        self.by = config.checkpoints.best_by
        if self.by == "top5" and classes <= TOP_K:
            raise BadInput(
                f"checkpoints.best_by (--best-by): with {classes} classes the top 5 are always right; "
                "choose another metric"
            )
        self.patience = config.guards.early_stop
        self.figure: float | None = None
        self.best: float | None = None
        self.since = 0
        self._best_end: float | None = None
        self._best_epoch = 0

    def is_best(self, report: Report) -> bool:
        """Take the figure of `report`; return whether it is better than all before."""
        self.figure = _FIGURES[self.by](report)
        found = self._better(self.figure, self.best)
        if found:
            self.best = self.figure
        return found

    def epoch_ended(self, epoch: int) -> None:
        """Count the last evaluation as that of the end of `epoch` (from 1)."""
        assert self.figure is not None, "an epoch ends with its evaluation"
        if self._better(self.figure, self._best_end):
            self._best_end, self._best_epoch, self.since = self.figure, epoch, 0
        else:
            self.since += 1

    @property
    def over(self) -> bool:
        """Whether as many epochs as the patience has, if it has any, did not improve."""
        return 0 < self.patience <= self.since

    def reason(self) -> str:
        """Return why the run is over, in a sentence."""
        assert self._best_end is not None, "the first epoch is better than none"
        best = figure_text(self.by, self._best_end)
        epochs = f"{self.since} epoch{'s' if self.since > 1 else ''}"
        return f"stopped early: no improvement for {epochs}; best epoch {self._best_epoch} ({best})"

    def begin(self, patience: int) -> None:
        """Have `patience` from here on, and all of it."""
        self.patience, self.since = patience, 0

    def begin_branch(self) -> None:
        """Let the best be what the run begins with, until it does better."""
        self.best = self._best_end = self.figure
        self.since = 0

    def _better(self, figure: float, than: float | None) -> bool:
        return than is None or (figure < than if self.by == "loss" else figure > than)

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint must keep."""
        return {
            "by": self.by,
            "figure": self.figure,
            "best": self.best,
            "since": self.since,
            "best_end": self._best_end,
            "best_epoch": self._best_epoch,
        }

    def load_state_dict(self, training: Mapping[str, Any]) -> None:
        """Restore what a checkpoint's training state tells; the first ones tell of the accuracy only."""
        accuracy, best = training["accuracy"], training["best_accuracy"]
        first = {"by": "accuracy", "figure": accuracy, "best": best if best >= 0 else None}
        state = training.get("monitor", first)
        if state["by"] != self.by:
            state = {}  # a figure of another kind compares with none
        self.figure, self.best = state.get("figure"), state.get("best")
        self.since = state.get("since", 0)
        self._best_end = state.get("best_end", self.best)
        self._best_epoch = state.get("best_epoch", training["epoch"])
