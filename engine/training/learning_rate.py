"""The one owner of the learning rate, `base x stage x layer x schedule(step) x user`, and of the momentum."""

from collections.abc import Mapping
from typing import Any

from finetui.engine.training.optimizer import ParameterGroups
from finetui.engine.training.schedules import Schedule, Schedules, constant


class LearningRates:
    """Sets the learning rate of every parameter before each step, and the momentum where the schedule has one.

    A person's change is the factor `user`, which no schedule and no stage overwrites. The factor of a layer that was
    unfrozen while training rises linearly to 1 over `warmup_steps` steps: its optimizer state is new, and a full
    first step from cold momentum into trained neighbours would undo what those have learned.
    """

    def __init__(self, base: float, warmup_steps: int, schedule: Schedule = constant) -> None:
        self.base = base
        self.user = 1.0
        self._schedules = Schedules(schedule)
        self._first_step = 0
        self._stage_factor = 1.0
        self._factors: Mapping[str, float] = {}
        self._warmup_steps = warmup_steps
        self._thawed: dict[str, int] = {}  # layers that warm up, and the step at which they were thawed

    def begin(self, schedules: Schedules, first_step: int, stage_factor: float, factors: Mapping[str, float]) -> None:
        """Follow `schedules` from step `first_step` on, times `stage_factor`, times the layer's own of `factors`."""
        self._schedules = schedules
        self._first_step = first_step
        self._stage_factor = stage_factor
        self._factors = factors

    @property
    def highest(self) -> float:
        """The learning rate of this stage where its schedule is at 1."""
        return self.base * self._stage_factor * self.user

    def at(self, step: int) -> float:
        """Return the learning rate of step `step` (from 0) for a layer without a factor of its own."""
        return self.highest * self._schedules.rate(step - self._first_step)

    def set_factor(self, value: float) -> None:
        """Follow the schedule times `value`; 1 is as nobody had touched it."""
        self.user = value

    def set(self, value: float, step: int) -> None:
        """Make `value` the learning rate of step `step`; later schedule changes scale it."""
        self.user = value / (self.base * self._stage_factor * self._schedules.rate(step - self._first_step))

    def thaw(self, layer: str, step: int) -> None:
        """Start the warm-up of `layer` at step `step`."""
        self._thawed[layer] = step

    def factor(self, layer: str, step: int) -> float:
        """Return the factor of `layer` at step `step`: its own times that of its warm-up."""
        own = self._factors.get(layer, 1.0)
        done = step - self._thawed.get(layer, step - self._warmup_steps) + 1
        return own if done >= self._warmup_steps else own * done / self._warmup_steps

    def apply(self, groups: ParameterGroups, step: int) -> None:
        """Set the learning rates and the momentum for step `step`."""
        if self._thawed:
            self._thawed = {layer: at for layer, at in self._thawed.items() if step - at + 1 < self._warmup_steps}
        if self._thawed or self._factors:
            groups.set_rates(self.at(step), lambda layer: self.factor(layer, step))
        else:
            groups.set_rate(self.at(step))
        momentum = self._schedules.momentum
        groups.set_momentum(momentum(step - self._first_step) if momentum is not None else None)

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint must keep; schedule and stage follow from the configuration and the epoch."""
        return {"user": self.user, "thawed": dict(self._thawed)}

    def load_state_dict(self, state: dict[str, Any], layers: Mapping[str, tuple[str, ...]]) -> None:
        """Restore what `state_dict` returned; the first checkpoints name groups, of which `layers` has the layers."""
        self.user = float(state["user"])
        if "thawed" in state:
            self._thawed = dict(state["thawed"])
        else:
            self._thawed = {layer: at for group, at in state["thawed_at"].items() for layer in layers[group]}
