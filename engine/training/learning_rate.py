"""The one owner of the learning rate: `lr = base x group x schedule(step) x user`."""

from collections.abc import Callable
from typing import Any

from torch.optim import Optimizer

Schedule = Callable[[int], float]


def constant(_step: int) -> float:
    """Return 1: the schedule that changes nothing."""
    return 1.0


class LearningRates:
    """Sets the learning rate of every parameter group before each step.

    A person's change is the factor `user`, which no schedule overwrites. The factor of a group that was
    unfrozen while training rises linearly to 1 over `warmup_steps` steps: its optimizer state is new, and a full
    first step from cold momentum into trained neighbours would undo what those have learned.
    """

    def __init__(self, base: float, warmup_steps: int, schedule: Schedule = constant) -> None:
        self.base = base
        self.user = 1.0
        self._schedule = schedule
        self._warmup_steps = warmup_steps
        self._thawed_at: dict[str, int] = {}

    def at(self, step: int) -> float:
        """Return the learning rate of step `step` (from 0) for a group without a factor of its own."""
        return self.base * self._schedule(step) * self.user

    def set(self, value: float, step: int) -> None:
        """Make `value` the learning rate of step `step`; later schedule changes scale it."""
        self.user = value / (self.base * self._schedule(step))

    def thaw(self, group: str, step: int) -> None:
        """Start the warm-up of `group` at step `step`."""
        self._thawed_at[group] = step

    def factor(self, group: str, step: int) -> float:
        """Return the factor of `group` at step `step`, above 0 and at most 1."""
        thawed_at = self._thawed_at.get(group)
        if thawed_at is None:
            return 1.0
        done = step - thawed_at + 1
        if done >= self._warmup_steps:
            del self._thawed_at[group]
            return 1.0
        return done / self._warmup_steps

    def apply(self, optimizer: Optimizer, step: int) -> None:
        """Set the learning rates for step `step`. Parameter groups carry the key `group`, their layer group."""
        lr = self.at(step)
        for group in optimizer.param_groups:
            group["lr"] = lr * self.factor(group["group"], step) if self._thawed_at else lr

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint must keep."""
        return {"user": self.user, "thawed_at": dict(self._thawed_at)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.user = float(state["user"])
        self._thawed_at = dict(state["thawed_at"])
