"""Learning-rate schedules: how a stage's rate goes from its first step to its last, as a factor."""

import math
from collections.abc import Callable

from finetui.engine.protocol.config import TrainingConfig

Schedule = Callable[[int], float]


def constant(_step: int) -> float:
    """Return 1: the schedule that changes nothing."""
    return 1.0


def stepped(every: int, factor: float) -> Schedule:
    """Return a schedule that multiplies by `factor` after every `every` steps."""
    return lambda step: float(factor ** (step // every))


def cosine(steps: int) -> Schedule:
    """Return a half cosine from 1 towards 0 over `steps` steps (Loshchilov and Hutter, "SGDR", 2017, without restarts).

    The last step still moves: 0 would be reached one step after it.
    """
    return lambda step: (1 + math.cos(math.pi * min(step, steps - 1) / steps)) / 2


def one_cycle(steps: int, rise: float = 0.3, start_div: float = 25.0, end_div: float = 1e5) -> Schedule:
    """Return a cosine rise from 1/`start_div` to 1 over the share `rise` of `steps`, then a fall to 1/`end_div`.

    After Smith and Topin, "Super-convergence" (2018), with fastai's cosine form and defaults. The momentum stays
    as it is: here only the learning rate has an owner.
    """
    peak = rise * (steps - 1)

    def factor(step: int) -> float:
        step = min(step, steps - 1)
        if step < peak:
            return _between(1 / start_div, 1.0, step / peak)
        return _between(1.0, 1 / end_div, (step - peak) / max(steps - 1 - peak, 1e-9))

    return factor


def _between(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


def warmed_up(schedule: Schedule, warmup: int) -> Schedule:
    """Return `schedule` after a linear rise over `warmup` steps to its first value."""
    if warmup == 0:
        return schedule
    return lambda step: (step + 1) / warmup * schedule(0) if step < warmup else schedule(step - warmup)


def build_schedule(training: TrainingConfig, steps: int, steps_per_epoch: int) -> Schedule:
    """Return the schedule that `training` asks for, over `steps` steps, its linear warm-up included."""
    warmup = min(round(training.warmup_epochs * steps_per_epoch), steps - 1)
    left = steps - warmup
    match training.schedule:
        case "step":
            every = training.step_epochs * steps_per_epoch or math.ceil(left / 3)
            schedule = stepped(every, training.step_factor)
        case "cosine":
            schedule = cosine(left)
        case "one-cycle":
            schedule = one_cycle(left)
        case _:
            schedule = constant
    return warmed_up(schedule, warmup)
