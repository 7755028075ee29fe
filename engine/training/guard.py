"""The guard against a training that has left every useful path: a loss that is no number, or absurdly large."""

import math

from engine.errors import FinetuiError


class Diverged(FinetuiError):
    """A loss became NaN or infinite, or exploded, at `step` (counted from 1)."""

    def __init__(self, message: str, step: int) -> None:
        super().__init__(message)
        self.step = step


class LossGuard:
    """Knows which losses are none any more.

    A network that guesses has a cross entropy of the logarithm of the number of classes; one that is `explode_factor`
    times as wrong as that, on average over a batch, is confidently wrong about everything (0: never taken for that).
    """

    def __init__(self, explode_factor: float, classes: int) -> None:
        self._limit = explode_factor * math.log(max(classes, 2)) or math.inf

    def check(self, loss: float, step: int) -> None:
        """Raise `Diverged` unless `loss`, the mean cross entropy of step `step` (from 1), is finite and sane."""
        # NaN is smaller than nothing, so it fails this as well.
        if loss <= self._limit and math.isfinite(loss):
            return
        became = f"became {loss}" if not math.isfinite(loss) else f"exploded to {loss:.4g}"
        raise Diverged(f"the training loss {became} at step {step}", step)
