"""The one owner of the learning rate: `lr = base x stage x group x schedule(step) x user`."""

from collections.abc import Mapping
from typing import Any

from finetui.engine.training.optimizer import ParameterGroups
from finetui.engine.training.schedules import Schedule, constant


class LearningRates:
    """Sets the learning rate of every parameter group before each step.

    A person's change is the factor `user`, which no schedule and no stage overwrites. The factor of a group that was
    unfrozen while training rises linearly to 1 over `warmup_steps` steps: its optimizer state is new, and a full
    first step from cold momentum into trained neighbours would undo what those have learned.
    """

    def __init__(self, base: float, warmup_steps: int, schedule: Schedule = constant) -> None:
        self.base = base
        self.user = 1.0
        self._schedule = schedule
        self._first_step = 0
        self._stage_factor = 1.0
        self._group_factors: Mapping[str, float] = {}
        self._warmup_steps = warmup_steps
        self._thawed_at: dict[str, int] = {}

    def begin(
        self, schedule: Schedule, first_step: int, stage_factor: float, group_factors: Mapping[str, float]
    ) -> None:
        """Follow `schedule` from step `first_step` on, times `stage_factor`, times the group's own factor."""
        self._schedule = schedule
        self._first_step = first_step
        self._stage_factor = stage_factor
        self._group_factors = group_factors

    @property
    def highest(self) -> float:
        """The learning rate of this stage where its schedule is at 1."""
        return self.base * self._stage_factor * self.user

    def at(self, step: int) -> float:
        """Return the learning rate of step `step` (from 0) for a group without a factor of its own."""
        return self.highest * self._schedule(step - self._first_step)

    def set(self, value: float, step: int) -> None:
        """Make `value` the learning rate of step `step`; later schedule changes scale it."""
        self.user = value / (self.base * self._stage_factor * self._schedule(step - self._first_step))

    def thaw(self, group: str, step: int) -> None:
        """Start the warm-up of `group` at step `step`."""
        self._thawed_at[group] = step

    def factor(self, group: str, step: int) -> float:
        """Return the factor of `group` at step `step`: its own times that of its warm-up."""
        own = self._group_factors.get(group, 1.0)
        thawed_at = self._thawed_at.get(group)
        if thawed_at is None:
            return own
        done = step - thawed_at + 1
        if done >= self._warmup_steps:
            del self._thawed_at[group]
            return own
        return own * done / self._warmup_steps

    def apply(self, groups: ParameterGroups, step: int) -> None:
        """Set the learning rates for step `step`."""
        if self._thawed_at or self._group_factors:
            groups.set_rates(self.at(step), lambda group: self.factor(group, step))
        else:
            groups.set_rate(self.at(step))

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint must keep; schedule and stage follow from the configuration and the epoch."""
        return {"user": self.user, "thawed_at": dict(self._thawed_at)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.user = float(state["user"])
        self._thawed_at = dict(state["thawed_at"])
