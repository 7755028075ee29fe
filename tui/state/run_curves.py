"""The curves of a run: each number that its journal tells along the way, over the epochs.

Somebody else's loop has numbers of its own: each gets a metric and a curve once it is told. One that tells of no epochs
has its curves over its steps: every x in this module that is said to be in epochs is one in steps then.
"""

import math
from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np

from finetui.engine.protocol import events
from finetui.engine.text import clean
from finetui.tui.state.curves import Curve, Floats

XUnit = Literal["epoch", "step", "time"]
X_UNITS: tuple[XUnit, ...] = ("epoch", "step", "time")
MOST_OTHERS = 200  # of a run's own numbers


class Metric(NamedTuple):
    """A number that is plotted: `percent` if it is a share of 1, `smooths` if its noise hides what it does."""

    key: str
    title: str
    short: str
    percent: bool = False
    smooths: bool = False


METRICS = (
    Metric("loss", "Loss", "Loss", smooths=True),
    Metric("accuracy", "Accuracy", "Acc", percent=True, smooths=True),
    Metric("lr", "LR", "LR"),
    Metric("grad_norm", "Grad norm", "Grad", smooths=True),
    Metric("speed", "Img/s", "Img/s", smooths=True),
    Metric("macro-f1", "Macro F1", "F1", percent=True),
    Metric("balanced-accuracy", "Balanced accuracy", "Bal", percent=True),
    Metric("top5", "Top-5 accuracy", "Top5", percent=True),
)
TRAINED = {"loss": "loss", "accuracy": "accuracy", "lr": "learning_rate", "grad_norm": "grad_norm"} | {
    "speed": "samples_per_second"
}
_FIGURES = ("macro-f1", "balanced-accuracy", "top5")  # of an evaluation, where the best goes by one of them
WATCHED = ("loss", "accuracy", *_FIGURES)
_OTHER = "other-"  # before the key of a metric that somebody else's loop has


def other_metric(name: str) -> Metric:
    """Return the metric for the number that somebody else's loop calls `name`; its key does as the id of a widget."""
    shown = clean(name, 60)
    return Metric(_OTHER + name.encode("utf-8", "replace").hex(), shown, shown, smooths=True)


def _put(curve: Curve, x: float, y: float, mean: float | None = None, weight: float = 1.0) -> None:
    """Add a point to `curve`; what was told from an earlier x on is void once it is told again.

    So somebody else's loop does it. The journal of a run of finetui's own says so itself.
    """
    if len(curve) and x < curve.span[1]:
        curve.cut(math.nextafter(x, -math.inf))
    curve.add(x, y, mean, weight)


class RunCurves:
    """The curves of a run by the keys of `METRICS`: of training, and of the part that is evaluated meanwhile.

    `best` are the places, in epochs, of the evaluations that were the best until then, the newest last. `base` is the
    unit that they are over, and `others` are those of the run's own numbers, by the keys of their metrics.
    """

    def __init__(self, base: Literal["epoch", "step"] = "epoch") -> None:
        self.base = base
        self.others: dict[str, Curve] = {}
        self._other_metrics: dict[str, Metric] = {}  # by the names that the run has for them
        self.train = {key: Curve() for key in TRAINED}
        self.watched = {key: Curve() for key in WATCHED}
        self.best: list[float] = []
        self._clocks: dict[XUnit, Curve] = {"step": Curve(), "time": Curve()}  # over the epochs, rising
        if base == "step":
            del self._clocks["step"]
        self._latest = -math.inf  # x: what several files tell of may come a little out of order
        self._seconds = 0.0  # of training until the last event
        self._heard_at: float | None = None  # the time of that, where the run has been running since

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The metrics that there is something to show of; loss and accuracy always, the run's own ones last."""
        known = (
            metric
            for metric in METRICS
            if metric.key in ("loss", "accuracy") or any(len(curve) for curve in self.of(metric.key))
        )
        return (*known, *self.other_metrics)

    @property
    def other_metrics(self) -> tuple[Metric, ...]:
        """The metrics of the run's own numbers."""
        return tuple(self._other_metrics.values())

    @property
    def has_points(self) -> bool:
        """Whether there is anything to plot so far."""
        return any(map(len, self._all()))

    @property
    def units(self) -> tuple[XUnit, ...]:
        """The units that x can be shown in."""
        return tuple(unit for unit in X_UNITS if unit == self.base or unit in self._clocks)

    def of(self, key: str) -> tuple[Curve, ...]:
        """Return the curves of a metric: that of training, then that of the evaluations, where there may be one."""
        return tuple(curves[key] for curves in (self.train, self.watched, self.others) if key in curves)

    def hear(self, event: events.AnyEvent, x: float, *, running: bool) -> None:
        """Take `event` in, which came at `x` epochs; `running` tells whether the run trained until then."""
        if not event.time:
            pass
        elif running and self._heard_at is not None:
            self._seconds += max(event.time - self._heard_at, 0.0)
            self._heard_at = event.time
        else:
            self._heard_at = event.time
        match event:
            case events.ThinnedPoint():
                means = {"loss": event.mean_loss, "accuracy": event.mean_accuracy}
                for key, name in TRAINED.items():
                    if (value := getattr(event, name)) is not None:
                        _put(self.train[key], x, value, means.get(key), event.points)
                self._hear_others(event, x, event.means, event.points)
            case events.TrainPoint():
                for key, name in TRAINED.items():
                    if (value := getattr(event, name)) is not None:
                        _put(self.train[key], x, value)
                self._hear_others(event, x)
            case events.Evaluated(watched=True):
                self._hear_evaluation(event, x)
            case _:
                return
        for unit, told in (("step", float(event.step)), ("time", self._seconds)):
            if unit in self._clocks and x >= self._latest:
                self._clocks[unit].add(x, told)
        self._latest = max(x, self._latest)

    def _hear_others(
        self,
        event: events.TrainPoint | events.Evaluated,
        x: float,
        means: Mapping[str, float] = {},
        points: float = 1.0,
    ) -> None:
        for name, value in event.others.items():
            metric = self._other_metrics.get(name)
            if metric is None:
                if len(self._other_metrics) >= MOST_OTHERS:
                    continue
                metric = self._other_metrics[name] = other_metric(name)
                self.others[metric.key] = Curve()
            _put(self.others[metric.key], x, value, means.get(name), points)

    def _hear_evaluation(self, event: events.Evaluated, x: float) -> None:
        told = {"loss": event.loss, "accuracy": event.accuracy}
        self._hear_others(event, x)
        if event.averages:
            told["macro-f1"] = event.averages[0].f1
        if event.figure is not None and event.best_by in _FIGURES:
            told[event.best_by] = event.figure
        for key, value in told.items():
            if value is not None:
                _put(self.watched[key], x, value)
        if event.best:
            self.best.append(x)

    def _all(self) -> tuple[Curve, ...]:
        return (*self.train.values(), *self.watched.values(), *self.others.values(), *self._clocks.values())

    def copy(self) -> "RunCurves":
        """Return curves of their own with the same points."""
        other = RunCurves(self.base)
        other._other_metrics, other._latest = self._other_metrics.copy(), self._latest
        for name in ("train", "watched", "others", "_clocks"):
            setattr(other, name, {key: curve.copy() for key, curve in getattr(self, name).items()})
        other.best = self.best.copy()
        other._seconds, other._heard_at = self._seconds, self._heard_at
        return other

    def cut(self, x: float) -> None:
        """Forget what came behind `x` epochs."""
        for curve in self._all():
            curve.cut(x)
        self._latest = min(self._latest, x)
        self.best = [place for place in self.best if place <= x]
        self.go_on()

    def go_on(self) -> None:
        """Let the time of training go on from the end of the curves: what was undone took none."""
        seconds = self._clocks["time"].buckets().high
        self._seconds, self._heard_at = float(seconds[-1]) if len(seconds) else 0.0, None

    def in_unit(self, unit: XUnit, x: Floats) -> Floats:
        """Return `x`, in epochs, float64 `[n]`, as steps or as seconds of training."""
        if unit == self.base or unit not in self._clocks:
            return x
        told = self._clocks[unit].buckets()  # they rise: the greatest of a bucket is its last
        return np.asarray(np.interp(x, np.append(0.0, told.x), np.append(0.0, told.high)), dtype=np.float64)

    def to_epochs(self, unit: XUnit, x: Floats) -> Floats:
        """Return where `x`, in a unit, lies in epochs; the inverse of `in_unit`."""
        if unit == self.base or unit not in self._clocks:
            return x
        told = self._clocks[unit].buckets()
        return np.asarray(np.interp(x, np.append(0.0, told.high), np.append(0.0, told.x)), dtype=np.float64)
