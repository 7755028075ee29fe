"""The guard against a training that has left every useful path: a loss that is no number, or absurdly large."""

import math
from typing import Literal

from finetui.engine.errors import FinetuiError
from finetui.engine.protocol.config import GuardsConfig

_ADVICE = "start again with a lower learning rate, or look at the data"


class Diverged(FinetuiError):
    """A loss became NaN or infinite, or exploded, at `step` (counted from 1)."""

    def __init__(self, message: str, step: int) -> None:
        super().__init__(message)
        self.step = step


class LossGuard:
    """Knows which losses are none any more.

    A network that guesses has a cross entropy of the logarithm of the number of classes. A new head on large features
    may begin far above that, and come down well; so a loss explodes when it is `explode_factor` times as high as both
    guessing and the run's first loss (0: never).
    """

    def __init__(self, explode_factor: float, classes: int) -> None:
        self._factor = explode_factor
        self._guessing = math.log(max(classes, 2))
        self._limit = math.inf  # until the first loss is known

    def state_dict(self) -> dict[str, float]:
        """Return what a run that goes on has to know."""
        return {"limit": self._limit}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Restore what `state_dict` returned."""
        self._limit = float(state["limit"])

    def check(self, loss: float, step: int) -> None:
        """Raise `Diverged` unless `loss`, the mean cross entropy of step `step` (from 1), is finite and sane."""
        # NaN is smaller than nothing, so it fails this as well.
        if loss <= self._limit and math.isfinite(loss):
            if math.isinf(self._limit) and self._factor:
                self._limit = self._factor * max(self._guessing, loss)
            return
        became = f"became {loss}" if not math.isfinite(loss) else f"exploded to {loss:.4g}"
        raise Diverged(f"the training loss {became} at step {step}", step)


class DivergencePolicy:
    """Knows what the configuration wants done about a divergence, and how often that has been done in a row."""

    def __init__(self, config: GuardsConfig) -> None:
        self._config = config
        self._rollbacks = self._diverged_at = 0

    def for_(self, error: Diverged, steps_per_epoch: int) -> Literal["pause", "rollback"]:
        """Return what to do about `error`. Raises `FinetuiError` where the run is to end."""
        config = self._config
        if config.on_divergence == "stop":
            raise FinetuiError(f"{error}; {_ADVICE}") from error
        if config.on_divergence == "pause":
            return "pause"
        # More than an epoch beyond the last time it is another trouble, and not the same one still.
        same = error.step <= self._diverged_at + steps_per_epoch
        self._rollbacks, self._diverged_at = self._rollbacks + 1 if same else 1, error.step
        if self._rollbacks > config.rollbacks:
            times = f"{config.rollbacks} times with {config.rollback_factor:g} x the learning rate"
            raise FinetuiError(f"{error}, after it was rolled back {times}; {_ADVICE}") from error
        return "rollback"
