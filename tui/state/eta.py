"""How fast a run trains, and how much longer it takes: figures that one slow moment does not move."""

import math
import statistics
from collections import deque

from finetui.engine.protocol import events
from finetui.engine.protocol.run_clock import RunClock
from finetui.tui.state.view import View

_WINDOWS = 20  # that an estimate looks back on: an epoch's worth of steps, or the time below
_TRIMMED = 0.3  # of the windows, the fastest and the slowest ones each: not counted
_SHORTEST, _LONGEST = 0.2, 6.0  # seconds of a window: hour-long epochs are not waited for
_EPOCHS = 5  # the last ones, by which the time between epochs is judged
_GUESS = 1e-9  # steps of a window that is a guess: any other one outweighs it
_FORWARD = 1 / 3  # of a step's time is its forward pass, about: what an evaluation costs before there was one


class EtaEstimator:
    """Estimates from a run's events the time of a step, that of an epoch, and the time left.

    The time of a step is the mean of the middle windows of the last `_WINDOWS`, sorted by speed (a trimmed mean): a
    hiccup falls among the trimmed ones, a lasting change has taken over once most windows are of it. What comes between
    epochs, evaluation and saving, is measured apart, since it takes no steps.
    """

    def __init__(self) -> None:
        self.clock = RunClock()
        self._path = ""
        self._forget()

    def _forget(self) -> None:
        self._windows: deque[tuple[float, float]] = deque(maxlen=_WINDOWS)  # steps, seconds
        self._steps, self._seconds = 0, 0.0  # of the window that is not full yet
        self._between: deque[float] = deque(maxlen=_EPOCHS)
        self._between_now = self._evaluation = 0.0
        self._epoch: int | None = None

    def hear(self, event: events.AnyEvent, view: View) -> None:
        """Take in `event`, after which the run is as in `view`."""
        match event:
            case events.RunPrepared():
                self._forget()
            case events.RunStarted() if event.path != self._path:
                self._path, self.clock = event.path, RunClock()
            case events.TrainPoint():
                self._hear_point(event, view)
            case events.Evaluated(watched=True):
                self._evaluation = event.seconds
            case events.LayersChanged() | events.TrainingChanged() | events.StageStarted() | events.FeaturesChanged():
                # Steps take another time from here on. Until two windows say which, the old one is the best guess: the
                # first one may be slow by what comes of the change.
                known = self.step_seconds
                self._windows.clear()
                self._windows.extend([] if known is None else [(_GUESS, known * _GUESS)] * 2)
                self._steps, self._seconds = 0, 0.0
        self.clock.note(event)

    def _hear_point(self, point: events.TrainPoint, view: View) -> None:
        seconds = _training_seconds(point, view)
        if math.isfinite(seconds):
            self._steps += point.steps
            self._seconds += seconds
        full = self._steps * _WINDOWS >= view.steps_per_epoch and self._seconds >= _SHORTEST
        if self._steps and (full or self._seconds >= _LONGEST):
            self._windows.append((self._steps, self._seconds))
            self._steps, self._seconds = 0, 0.0
        told = point.time_shares
        if told is not None and math.isfinite(told.seconds):
            self._between_now += max(told.seconds, 0.0) * min(max(told.evaluating + told.saving, 0.0), 1.0)
        if self._epoch is not None and point.epoch > self._epoch:
            self._between.append(max(self._between_now, self._evaluation))
            self._between_now = 0.0
        self._epoch = point.epoch

    @property
    def step_seconds(self) -> float | None:
        """Time of a training step; None while that is not known."""
        if not self._windows:
            return self._seconds / self._steps if self._steps else None
        ordered = sorted(self._windows, key=lambda window: window[1] / window[0])
        trimmed = min(round(_TRIMMED * len(ordered)), (len(ordered) - 1) // 2)
        middle = ordered[trimmed : len(ordered) - trimmed]
        return math.fsum(seconds for _, seconds in middle) / sum(steps for steps, _ in middle)

    def epoch_seconds(self, view: View) -> float | None:
        """Return the time of an epoch with what follows it; None while that is not known."""
        step = self.step_seconds
        return (
            None if step is None or not view.steps_per_epoch else step * view.steps_per_epoch + self._after(view, step)
        )

    def seconds_left(self, view: View) -> float | None:
        """Return the time until the run has finished; None while that is not known."""
        step = self.step_seconds
        if step is None or not view.total_steps:
            return None
        epochs = view.epochs - view.epochs_at(view.step)
        ends = max(math.ceil(epochs - 1e-6), 0.0)
        whole = abs(epochs - round(epochs)) < 1e-6
        if whole and view.step and (view.evaluation is None or view.evaluation.step < view.step):
            phase = view.phase
            ends += 1 - (phase.done / phase.total if phase is not None and phase.total else 0.0)
        return max(view.total_steps - view.step, 0) * step + ends * self._after(view, step)

    def _after(self, view: View, step: float) -> float:
        """Return the time of what follows an epoch; before there was any, what it should be by its images."""
        if self._between:
            return statistics.median(self._between)
        if self._evaluation or view.data is None:
            return self._evaluation
        images = view.data.sizes.get(view.data.watched, 0)
        return _FORWARD * step * images / view.config.training.batch_size


def _training_seconds(point: events.TrainPoint, view: View) -> float:
    """Return how long the steps of `point` took; infinite where that is not known.

    How many images a batch of somebody else's loop has is not always told, but how long its steps take is.
    """
    shares = point.time_shares
    if view.hparams is not None and shares is not None:
        return max(shares.seconds, 0.0) * (1 - min(max(shares.evaluating + shares.saving, 0.0), 1.0)) or math.inf
    speed = point.samples_per_second or 0.0
    return point.steps * view.config.training.batch_size / speed if speed > 0 else math.inf
