"""What a person should hear of while training goes on: plateau, overfitting, divergence, unstable gradients.

A loss that is not finite, or explodes, is no matter for an alert: the session's guard acts on it (`GuardsConfig`).
Everything is counted in steps or evaluations and nothing in seconds, and all that is remembered is in `state_dict`,
so that a resumed run raises what one without a break would have.
"""

import math
import statistics
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from finetui.engine.protocol.config import GuardsConfig
from finetui.engine.protocol.events import Alert, Evaluated, Part, TrainPoint

_Kind = Literal["plateau", "overfit", "divergence", "unstable"]

# An evaluation's loss that improves by less is standing still: on ten thousand images that is what chance makes of it.
_IMPROVEMENT = 0.001
# Above its minimum by less than this share it is not rising: evaluations of a settled network differ by it.
_RISE = 0.01

# The training loss is averaged over about so many steps. With shorter memory the minimum of a long run is a lucky
# streak, and twice that lies within the noise: of small batches the loss of a step varies by more than its mean.
_MEMORY_STEPS = 500
_DIVERGED = 2.0
# A loss of 0.005 that becomes 0.01 has doubled, and nobody should care: it must also have risen by this many nats.
_DIVERGED_NATS = 0.1
_DIVERGED_STEPS = 500  # so long in a row
# A new head, thawed layers and a raised rate cost something at first, and pay for it within this many steps.
_GRACE_STEPS = 1000

_UNSTABLE = 100.0
_MEDIAN_OF = 101  # points
_FEWEST = 20  # points that make a median
# A network that knows its images by heart has next to no gradient, and a hundred times that is still a small one.
_SMALL_NORM = 1.0
_CALM_STEPS = 500  # below the bound for so long, gradients are stable again


class _Evaluation(NamedTuple):
    """What is remembered of an evaluation; the training loss is None where it is not known."""

    epoch: int
    loss: float
    train_loss: float | None


class AlertWatch:
    """Follows a run's points and evaluations, and says once what a person should look at.

    An alert is raised again only after its condition was gone in between, or something was changed.
    """

    def __init__(self, guards: GuardsConfig) -> None:
        self._guards = guards
        self._part: Part = "test"
        self._raised: set[_Kind] = set()
        # Evaluations, at most one an epoch: the newest, and the best of all that were before these.
        self._evaluations: list[_Evaluation] = []
        self._best_before: float | None = None
        self._best_epoch_before = 0
        self._since_change = 0
        # The smoothed training loss: sums that fade, and their minimum.
        self._sum = self._weight = 0.0
        self._steps = 0
        self._lowest: float | None = None
        self._lowest_step = 0
        self._grace = 0
        self._high_steps = 0
        self._norms: list[float] = []
        self._calm_steps = 0

    def changed(self) -> None:
        """Note that a rate, the frozen layers or the stage changed: what comes now needs time to show.

        The evaluations' loss is judged by evaluations from here on, the training loss after a while; and what had been
        raised may be raised again, for then the change did not help.
        """
        self._since_change = 0
        self._grace = _GRACE_STEPS
        self._high_steps = 0
        self._raised -= {"plateau", "overfit", "divergence"}

    def point(self, point: TrainPoint) -> list[Alert]:
        """Return what is to be said after `point`."""
        found = (self._divergence(point), self._unstable(point))
        return [alert for alert in found if alert is not None]

    def evaluated(self, evaluated: Evaluated, train_loss: float) -> list[Alert]:
        """Return what is to be said after an evaluation; `train_loss` is the mean since the one before, or NaN.

        Of several evaluations in an epoch only the last counts: a person who evaluates five times in a minute has
        not seen five times that nothing improves.
        """
        if evaluated.loss is None or not math.isfinite(evaluated.loss):
            return []
        self._part = evaluated.part
        self._remember(_Evaluation(evaluated.epoch, evaluated.loss, train_loss if math.isfinite(train_loss) else None))
        overfit = self._overfit(evaluated.step)
        plateau = self._plateau(evaluated.step)
        return [alert for alert in (overfit, plateau) if alert is not None]

    # -- the evaluations' loss --------------------------------------------------------------------------------------

    def _remember(self, evaluation: _Evaluation) -> None:
        if self._evaluations and self._evaluations[-1].epoch == evaluation.epoch:
            self._evaluations[-1] = evaluation
            self._since_change = max(self._since_change, 1)
            return
        self._evaluations.append(evaluation)
        self._since_change += 1
        # One more than the longest rule looks at: the evaluation at which the loss was lowest, or an older one.
        if len(self._evaluations) > max(self._guards.plateau_evaluations, self._guards.overfit_evaluations) + 1:
            oldest = self._evaluations.pop(0)
            if self._best_before is None or oldest.loss < self._best_before:
                self._best_before, self._best_epoch_before = oldest.loss, oldest.epoch

    def _best_of_all_but(self, newest: int) -> tuple[float, int] | None:
        """Return the lowest loss before the `newest` evaluations, and its epoch."""
        older = [(e.loss, e.epoch) for e in self._evaluations[:-newest]]
        if self._best_before is not None:
            older.append((self._best_before, self._best_epoch_before))
        return min(older, default=None)

    def _plateau(self, step: int) -> Alert | None:
        """The best loss did not improve by more than `_IMPROVEMENT` over the configured evaluations.

        Overfitting says the same and more, so that nothing is added to it.
        """
        count = self._guards.plateau_evaluations
        best = self._best_of_all_but(count) if 0 < count <= self._since_change else None
        if best is None:
            return None
        lowest, epoch = best
        newest = min(e.loss for e in self._evaluations[-count:])
        holds = newest >= lowest * (1 - _IMPROVEMENT)
        return self._raise(
            "plateau",
            holds and "overfit" not in self._raised,
            step,
            lambda: (
                f"the {self._part} loss has not improved over {count} evaluations (best {_number(lowest)} in "
                f"epoch {epoch}, since then {_number(newest)}); try a lower learning rate, thaw layers, or stop here"
            ),
        )

    def _overfit(self, step: int) -> Alert | None:
        """The loss stayed above its minimum by `_RISE` and does not come down, while the training loss fell.

        It has cleared once the loss is back at its minimum: between two rises it wavers.
        """
        count = self._guards.overfit_evaluations
        best = self._best_of_all_but(count) if 0 < count <= self._since_change else None
        if best is None:
            return None
        lowest, epoch = best
        newest = self._evaluations[-count:]
        before = self._evaluations[-count - 1].train_loss
        after = newest[-1].train_loss
        risen = all(e.loss > lowest * (1 + _RISE) for e in newest) and newest[-1].loss >= newest[0].loss
        fell = before is not None and after is not None and after < before
        return self._raise(
            "overfit",
            (risen and fell) or ("overfit" in self._raised and newest[-1].loss > lowest * (1 + _RISE)),
            step,
            lambda: (
                f"the {self._part} loss rose from {_number(lowest)} in epoch {epoch} to {_number(newest[-1].loss)} "
                f"while the training loss fell from {_number(before)} to {_number(after)}; "
                "go back to the best checkpoint, or try augmentation or weight decay"
            ),
        )

    # -- the training loss and its gradient -------------------------------------------------------------------

    def _divergence(self, point: TrainPoint) -> Alert | None:
        """The smoothed training loss has been above twice its minimum, and `_DIVERGED_NATS` more, for a good while.

        Steps whose own loss is lower do not count: the mean comes down long after the losses.
        """
        if point.loss is None or not math.isfinite(point.loss):
            return None
        # As if each of the point's steps had had its mean.
        fade = (1 - 1 / _MEMORY_STEPS) ** point.steps
        self._sum = self._sum * fade + point.loss * (1 - fade)
        self._weight = self._weight * fade + 1 - fade
        smoothed = self._sum / self._weight
        self._steps += point.steps
        self._grace = max(self._grace - point.steps, 0)
        if self._steps < _MEMORY_STEPS:
            return None
        if self._lowest is None or smoothed < self._lowest:
            self._lowest, self._lowest_step = smoothed, point.step
        lowest = self._lowest
        bound = max(_DIVERGED * lowest, lowest + _DIVERGED_NATS)
        if smoothed <= bound:
            self._high_steps = 0
        elif not self._grace and point.loss > bound:
            self._high_steps += point.steps
        rate = "" if point.learning_rate is None else f" (now {point.learning_rate:g})"
        return self._raise(
            "divergence",
            self._high_steps >= _DIVERGED_STEPS,
            point.step,
            lambda: (
                f"the training loss is {_number(smoothed)}, up from {_number(lowest)} at step {self._lowest_step:,}; "
                f"lower the learning rate{rate}, or roll back to a checkpoint"
            ),
        )

    def _unstable(self, point: TrainPoint) -> Alert | None:
        """The norm of the gradient is above `_UNSTABLE` times its running median."""
        norm = point.grad_norm
        if norm is None:
            return None
        median = statistics.median(self._norms) if len(self._norms) >= _FEWEST else None
        high = median is not None and not norm <= max(_UNSTABLE * median, _SMALL_NORM)  # NaN is as bad as infinity
        if math.isfinite(norm) and norm > 0:  # a step that trains nothing has no gradient
            self._norms = [*self._norms[-_MEDIAN_OF + 1 :], norm]
        self._calm_steps = 0 if high else self._calm_steps + point.steps
        return self._raise(
            "unstable",
            high or ("unstable" in self._raised and self._calm_steps < _CALM_STEPS),
            point.step,
            lambda: (
                f"the gradient norm is {_number(norm)}, usually {_number(median)}; "
                f"lower the learning rate (now {point.learning_rate:g}), or look at the data"
            ),
        )

    # -- raising ----------------------------------------------------------------------------------------------

    def _raise(self, kind: _Kind, holds: bool, step: int, message: Callable[[], str]) -> Alert | None:
        """Return the alert where its condition `holds` and it was not raised for that already."""
        if not holds:
            self._raised.discard(kind)
            return None
        if kind in self._raised:
            return None
        self._raised.add(kind)
        return Alert(step=step, kind=kind, message=message())

    # -- checkpoints ------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint must keep: numbers, strings, lists and None."""
        return {
            "raised": sorted(self._raised),
            "evaluations": [list(evaluation) for evaluation in self._evaluations],
            "best_before": self._best_before,
            "best_epoch_before": self._best_epoch_before,
            "since_change": self._since_change,
            "sum": self._sum,
            "weight": self._weight,
            "steps": self._steps,
            "lowest": self._lowest,
            "lowest_step": self._lowest_step,
            "grace": self._grace,
            "high_steps": self._high_steps,
            "norms": list(self._norms),
            "calm_steps": self._calm_steps,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self._raised = set(state["raised"])
        self._evaluations = [_Evaluation(*evaluation) for evaluation in state["evaluations"]]
        self._best_before = state["best_before"]
        self._best_epoch_before = state["best_epoch_before"]
        self._since_change = state["since_change"]
        self._sum, self._weight, self._steps = state["sum"], state["weight"], state["steps"]
        self._lowest, self._lowest_step = state["lowest"], state["lowest_step"]
        self._grace, self._high_steps = state["grace"], state["high_steps"]
        self._norms = list(state["norms"])
        self._calm_steps = state["calm_steps"]


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4g}"
