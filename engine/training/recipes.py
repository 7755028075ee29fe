"""Finetuning recipes: which layer groups train when, and at which rate.

`linear-probe`  only the head is trained, on frozen features (the tutorial's finetuning).
`lp-ft`         a linear probe, then everything at a tenth of the rate: a trained head does not distort the features
                (Kumar et al., "Fine-tuning can distort pretrained features", 2022).
`gradual`       the head, then one more group from the top at a time (Howard and Ruder, "ULMFiT", 2018).
`full`          everything from the first step.
`fastai`        fastai's `fine_tune`: an epoch with only the head and all normalisation, then everything at half the
                rate, one cycle each, with rates that rise geometrically from a hundredth over fastai's layer groups.

Of fastai (2.8, `fastai/callback/schedule.py`, `vision/learner.py`, `optimizer.py`) `fastai` takes the two cycles with
their momentum, the layer groups and their rates, the normalisation layers that train in the frozen part, and the
optimizer's state that is cleared at the unfreeze. What `fine_tune` does not define stays the run's: optimizer, weight
decay, AdamW's beta2 and eps (fastai's Adam: 0.01, 0.99, 1e-5), augmentation, and the head (fastai builds one of two
layers on concatenated poolings). Dropout in wholly frozen groups is off; in fastai it is on.
"""

import math
from collections.abc import Sequence

import msgspec

from finetui.engine.errors import BadInput
from finetui.engine.models import ModuleGroup
from finetui.engine.protocol.config import TrainingConfig
from finetui.engine.text import clean
from finetui.engine.training.fastai_groups import layer_group
from finetui.engine.training.freezing import Freezer
from finetui.engine.training.rules import CURRENT
from finetui.engine.training.schedules import Schedules, build_schedule, fastai_cycle, first_one_cycle

_FULL_AFTER_PROBE = 0.1  # lp-ft: the share of the probe's rate; within the range that Kumar et al. searched
_FASTAI_RANGE = 100.0  # lr_mult
_FASTAI_FROZEN = 0.1  # of the head's rate: `slice(base_lr)` gives that to all groups but the last


class Cycle(msgspec.Struct, frozen=True, kw_only=True):
    """A one-cycle schedule of a stage's own; see `schedules.fastai_cycle`."""

    rise: float
    start_div: float


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a run: `epochs` epochs in which the groups `frozen` are frozen, with `norms_train` but for their norms.

    The learning rate is the run's times `lr_factor`, times that of the layer in `factors`, where it is named.
    `cycle` None: the run's own schedule. With `fresh` the optimizer forgets what it knew of all layers when the stage
    begins, and none warms up.
    """

    name: str
    epochs: int
    frozen: tuple[str, ...] = ()
    norms_train: bool = False
    lr_factor: float = 1.0
    factors: dict[str, float] = {}
    cycle: Cycle | None = None
    fresh: bool = False


def frozen_layers(stage: Stage, freezer: Freezer) -> frozenset[str]:
    """Return the layers of `freezer` that are frozen in `stage`."""
    return freezer.layers_of(stage.frozen) - (freezer.norms if stage.norms_train else frozenset())


def check_plan(plan: Sequence[Stage], freezer: Freezer, always_frozen: frozenset[str]) -> None:
    """Raise `BadInput` where what the model's owner froze, and the layers `always_frozen`, leave a stage nothing."""
    for stage in plan if freezer.owner else ():
        wanted = freezer.layers_of(stage.frozen) | always_frozen | freezer.owner | freezer.bypassed
        if not freezer.leaves_any(wanted):
            name = f" in the stage {stage.name!r}" if stage.name else ""
            raise BadInput(
                f"nothing would train{name}: the network's own code freezes everything that should train "
                f"(requires_grad_(False) in {clean(min(freezer.owner))}); leave that out, or choose another recipe"
            )


def stage_at(plan: Sequence[Stage], epoch: int) -> int:
    """Return the index of the stage that `epoch` (from 0) belongs to; after the last epoch, that of the last."""
    end = 0
    for index, stage in enumerate(plan):
        end += stage.epochs
        if epoch < end:
            return index
    return len(plan) - 1


def schedules_of(
    stage: Stage, training: TrainingConfig, steps_per_epoch: int, *, first: bool, rules: int = CURRENT
) -> Schedules:
    """Return the schedules of `stage`, its own cycle or those that `training` asks for; see `build_schedule`."""
    steps = stage.epochs * steps_per_epoch
    if stage.cycle is not None:
        cycle = fastai_cycle if rules > 1 else first_one_cycle
        return cycle(steps, stage.cycle.rise, stage.cycle.start_div)
    return build_schedule(training, steps, steps_per_epoch, first=first, rules=rules)


def whole_run(epochs: int) -> tuple[Stage, ...]:
    """Return the plan of a training from scratch: one stage, nothing frozen."""
    return (Stage(name="", epochs=epochs),)


def stretched(plan: Sequence[Stage], epochs: int) -> tuple[Stage, ...]:
    """Return `plan` over `epochs` epochs: its last stage lasts as long as that makes it, the others as they did.

    Where there are too few epochs the last stages go.
    """
    stages: list[Stage] = []
    left = epochs
    for stage in plan:
        take = left if stage is plan[-1] else min(stage.epochs, left)
        if take:
            stages.append(msgspec.structs.replace(stage, epochs=take))
        left -= take
    return tuple(stages)


def build_plan(
    recipe: str, groups: Sequence[ModuleGroup], epochs: int, *, model: str = "", rules: int = CURRENT
) -> tuple[Stage, ...]:
    """Return the stages of `recipe` for the layer groups, from the stem up to the head, of an architecture `model`.

    They have `epochs` epochs in all, also those of `fastai`, the first of which is its frozen one. For `rules` see
    `finetui.engine.training.rules`. Raises `BadInput` when there are too few epochs for the recipe's stages.
    """
    used = [group for group in groups if group.in_use]
    body = tuple(group.name for group in used if not group.head)
    if recipe in ("lp-ft", "gradual", "fastai") and epochs < 2:
        raise BadInput(f"training.epochs (--epochs): the recipe {recipe} has two stages or more, so give it 2 epochs")
    match recipe:
        case "linear-probe":
            return (Stage(name="head only", epochs=epochs, frozen=body),)
        case "lp-ft":
            probe = max(1, epochs // 3)
            return (
                Stage(name="head only", epochs=probe, frozen=body),
                Stage(name="all layers", epochs=epochs - probe, lr_factor=_FULL_AFTER_PROBE),
            )
        case "gradual":
            return _gradual(body, epochs)
        case "fastai":
            return _fastai(used, body, epochs, model) if rules > 1 else _first_fastai(used, body, epochs)
        case _:
            return (Stage(name="all layers", epochs=epochs),)


def _gradual(body: tuple[str, ...], epochs: int) -> tuple[Stage, ...]:
    count = min(epochs, len(body) + 1)
    stages = []
    for index in range(count):
        thawed = math.ceil(len(body) * index / max(count - 1, 1))
        frozen = body[: len(body) - thawed]
        name = "head only" if index == 0 else f"from {body[len(frozen)]}" if frozen else "all layers"
        stages.append(Stage(name=name, epochs=1 if index < count - 1 else epochs - count + 1, frozen=frozen))
    return tuple(stages)


def _fastai(used: Sequence[ModuleGroup], body: tuple[str, ...], epochs: int, model: str) -> tuple[Stage, ...]:
    """Return `fine_tune(epochs - 1)`: `freeze_epochs` is 1, and comes beside what it calls `epochs`."""
    count, places = layer_group(model, used)
    return (
        Stage(
            name="head only",
            epochs=1,
            frozen=body,
            norms_train=True,
            factors={layer: _FASTAI_FROZEN for layer, place in places.items() if place < count - 1},
            cycle=Cycle(rise=0.99, start_div=25.0),
            fresh=True,
        ),
        Stage(
            name="all layers",
            epochs=epochs - 1,
            lr_factor=0.5,
            factors={layer: _FASTAI_RANGE ** (place / (count - 1) - 1) for layer, place in places.items()},
            cycle=Cycle(rise=0.3, start_div=5.0),
            fresh=True,
        ),
    )


def _first_fastai(used: Sequence[ModuleGroup], body: tuple[str, ...], epochs: int) -> tuple[Stage, ...]:
    steps = max(len(used) - 1, 1)
    factors = {
        layer.name: _FASTAI_RANGE ** (index / steps - 1) for index, group in enumerate(used) for layer in group.layers
    }
    return (
        Stage(name="head only", epochs=1, frozen=body, cycle=Cycle(rise=0.99, start_div=25.0)),
        Stage(
            name="all layers", epochs=epochs - 1, lr_factor=0.5, factors=factors, cycle=Cycle(rise=0.3, start_div=5.0)
        ),
    )
