"""Schedules: how a stage's learning rate, as a factor, and its momentum go from its first step to its last."""

import math
from collections.abc import Callable
from typing import NamedTuple

from finetui.engine.protocol.config import TrainingConfig

Schedule = Callable[[int], float]
_MOMENTA = (0.95, 0.85, 0.95)  # torch's and fastai's: at the start, the peak and the end of a cycle


class Schedules(NamedTuple):
    """The factor of the learning rate at each step, and the momentum (AdamW's beta1); None: it stays as it is."""

    rate: Schedule
    momentum: Schedule | None = None


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


def one_cycle(steps: int, rise: float = 0.3, start_div: float = 25.0, final_div: float = 1e4) -> Schedules:
    """Return the cycle of `torch.optim.lr_scheduler.OneCycleLR` with its defaults, over `steps` steps.

    The rate rises by a cosine from 1/`start_div` to 1 over the share `rise` of the steps, then falls to the start's
    1/`final_div`; the momentum goes from 0.95 to 0.85 and back (Smith and Topin, "Super-convergence", 2018).
    """
    peak, last = rise * steps - 1, steps - 1
    end = 1 / (start_div * final_div)
    return Schedules(_cycle(steps, peak, last, 1 / start_div, 1.0, end), _cycle(steps, peak, last, *_MOMENTA))


def fastai_cycle(steps: int, rise: float, start_div: float, end_div: float = 1e5) -> Schedules:
    """Return the cycle of fastai's `fit_one_cycle`: its step k of n stands at k / n, so that the end is not reached."""
    peak = rise * steps
    rate = _cycle(steps, peak, steps, 1 / start_div, 1.0, 1 / end_div)
    return Schedules(rate, _cycle(steps, peak, steps, *_MOMENTA))


def first_one_cycle(steps: int, rise: float = 0.3, start_div: float = 25.0) -> Schedules:
    """Return the cycle of the first training rules: its peak lies between steps, and the momentum stays as it is."""
    return Schedules(_cycle(steps, rise * (steps - 1), steps - 1, 1 / start_div, 1.0, 1e-5))


def _cycle(steps: int, peak: float, last: float, start: float, top: float, end: float) -> Schedule:
    """Return a cosine from `start` at step 0 to `top` at step `peak`, then one to `end` at step `last`."""

    def value(step: int) -> float:
        step = min(step, steps - 1)
        if step < peak:
            return _between(start, top, step / peak)
        return _between(top, end, (step - peak) / max(last - peak, 1e-9))

    return value


def _between(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


def warmed_up(schedules: Schedules, warmup: int) -> Schedules:
    """Return `schedules` after a linear rise over `warmup` steps to their first rate, with their first momentum."""
    if warmup == 0:
        return schedules
    rate, momentum = schedules
    return Schedules(
        lambda step: (step + 1) / warmup * rate(0) if step < warmup else rate(step - warmup),
        momentum and (lambda step: momentum(max(step - warmup, 0))),
    )


def build_schedule(
    training: TrainingConfig, steps: int, steps_per_epoch: int, *, first: bool = True, rules: int = 2
) -> Schedules:
    """Return the schedules that `training` asks for, over the `steps` steps of a stage.

    The `first` stage begins with the linear warm-up. For `rules` see `finetui.engine.training.rules`.
    """
    warmup = min(round(training.warmup_epochs * steps_per_epoch), steps - 1) if first or rules == 1 else 0
    left = steps - warmup
    match training.schedule:
        case "step":
            every = training.step_epochs * steps_per_epoch or math.ceil(left / 3)
            schedules = Schedules(stepped(every, training.step_factor))
        case "cosine":
            schedules = Schedules(cosine(left))
        case "one-cycle":
            schedules = one_cycle(left) if rules > 1 else first_one_cycle(left)
        case _:
            schedules = Schedules(constant)
    return warmed_up(schedules, warmup)
