"""Finetuning recipes: which layer groups train when, and at which rate.

`linear-probe`  only the head is trained, on frozen features (the tutorial's finetuning).
`lp-ft`         a linear probe, then everything at a tenth of the rate: a trained head does not distort the features
                (Kumar et al., "Fine-tuning can distort pretrained features", 2022).
`gradual`       the head, then one more group from the top at a time (Howard and Ruder, "ULMFiT", 2018).
`full`          everything from the first step.
`fastai`        fastai's `fine_tune`: an epoch with only the head, then everything at half the rate, one cycle, with
                rates that fall geometrically to a hundredth from the head down to the stem.
"""

import math
from collections.abc import Sequence

import msgspec

from finetui.engine.errors import BadInput
from finetui.engine.models import ModuleGroup

_FULL_AFTER_PROBE = 0.1  # lp-ft: the share of the probe's rate; within the range that Kumar et al. searched
_FASTAI_RANGE = 100.0


class Cycle(msgspec.Struct, frozen=True, kw_only=True):
    """A one-cycle schedule of a stage's own; see `schedules.one_cycle`."""

    rise: float
    start_div: float


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a run: `epochs` epochs in which the groups `frozen` are frozen.

    The learning rate is the run's times `lr_factor`, times that of the group in `group_factors`, where it is named.
    `cycle` None: the run's own schedule.
    """

    name: str
    epochs: int
    frozen: tuple[str, ...] = ()
    lr_factor: float = 1.0
    group_factors: dict[str, float] = {}
    cycle: Cycle | None = None


def whole_run(epochs: int) -> tuple[Stage, ...]:
    """Return the plan of a training from scratch: one stage, nothing frozen."""
    return (Stage(name="", epochs=epochs),)


def build_plan(recipe: str, groups: Sequence[ModuleGroup], epochs: int) -> tuple[Stage, ...]:
    """Return the stages of `recipe` for a model's layer groups, from the stem up to the head, over `epochs` epochs.

    Raises `BadInput` when there are too few epochs for the recipe's stages.
    """
    used = [group.name for group in groups if group.in_use]
    heads = [group.name for group in groups if group.head]
    body = tuple(name for name in used if name not in heads)
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
            return _fastai(used, body, epochs)
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


def _fastai(used: Sequence[str], body: tuple[str, ...], epochs: int) -> tuple[Stage, ...]:
    steps = max(len(used) - 1, 1)
    factors = {name: _FASTAI_RANGE ** (index / steps - 1) for index, name in enumerate(used)}
    return (
        Stage(name="head only", epochs=1, frozen=body, cycle=Cycle(rise=0.99, start_div=25.0)),
        Stage(
            name="all layers",
            epochs=epochs - 1,
            lr_factor=0.5,
            group_factors=factors,
            cycle=Cycle(rise=0.3, start_div=5.0),
        ),
    )
