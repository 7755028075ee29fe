"""The numbers that somebody's loop logs, read from the device only when a point is due."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from finetui.engine.errors import BadInput
from finetui.engine.protocol.values import TimeShares
from finetui.engine.text import clean
from finetui.engine.training.metrics import POINT_INTERVAL

_SHARE = 0.001  # of the time, at most, goes into points: the time between two of them follows from what one costs
_LONGEST = 2.0  # seconds between two points
ALWAYS, NEVER = -math.inf, math.inf  # as times
_MOST_LOGGED = 100_000  # numbers of one name that wait for a point: a loop may never tell of its steps
_MOST_STEPS_A_POINT = 1000  # bounds the tensors that wait on the device


class LoopMeter:
    """Collects what is logged, by name, and what the steps took, since the last point.

    Its attributes are all that most steps touch, and they are written by whoever counts them: `steps` counts those
    completed, `samples` and `waiting` (seconds) are sums since the last point, `stepped_at` is when the last step
    ended, by `perf_counter`. A step that ends before `look_at` needs no more than that; it is `ALWAYS` once somebody
    wants to know of the step that comes, and `NEVER` where nothing is watched.

    `due` tells that a point is due with the end of the step that comes, or is under way.
    """

    __slots__ = (
        "_at_point",
        "_began",
        "_cost",
        "_interval",
        "_logged",
        "_step_seconds",
        "due",
        "look_at",
        "samples",
        "stepped_at",
        "steps",
        "waiting",
    )

    def __init__(self, look_at: float = ALWAYS) -> None:
        self.steps = self.samples = 0
        self.waiting = 0.0
        self.look_at = look_at
        self.due = False
        self._at_point = 0  # steps by the last point
        self._logged: dict[str, list[Tensor | float]] = {}
        self._interval = POINT_INTERVAL
        self._cost = 0.0  # seconds of the point that comes next, until now
        self._step_seconds = 0.0  # that one took, in the last point
        self.restart_clock()

    @property
    def steps_since_point(self) -> int:
        """The steps since the last point."""
        return self.steps - self._at_point

    def restart_clock(self) -> None:
        """Leave the time until now out of the next point."""
        self._began = self.stepped_at = perf_counter()
        self.waiting = 0.0

    def look_ahead(self, anyway: bool, point: bool = False) -> bool:
        """Return whether the next step is one to look at: a point is due with its end, or it is so `anyway`.

        With `point` one is due whatever the time.
        It is told before the step, so that its gradients can be looked at, and those of no other.
        """
        look_at = self._began + self._interval - self._step_seconds
        self.due = point or self.stepped_at >= look_at or self.steps_since_point >= _MOST_STEPS_A_POINT
        self.look_at = ALWAYS if self.due or anyway else look_at
        return self.due or anyway

    @property
    def overdue(self) -> bool:
        """Whether a point is due by now."""
        return self.stepped_at - self._began >= self._interval

    def log(self, metrics: Mapping[str, Any]) -> None:
        """Keep numbers by their names: Python's, numpy's, or tensors of one element, which nobody waits for.

        Raises `BadInput` for one that is no number, which is left out.
        """
        problem: BadInput | None = None
        for name, value in metrics.items():
            try:
                number = _number(name, value)
            except BadInput as error:
                problem = error
                continue
            logged = self._logged.get(name)
            if logged is None:
                self._logged[name] = [number]
                continue
            if len(logged) < _MOST_LOGGED:
                logged.append(number)
            if len(logged) >= _MOST_STEPS_A_POINT:
                self.look_at = ALWAYS
        if problem is not None:
            raise problem

    @contextmanager
    def costs(self, *, last: bool = False) -> Iterator[None]:
        """Count what is done within as a cost of the next point; with the `last` of it, that is all."""
        began = time.thread_time()
        yield
        self._cost += time.thread_time() - began
        if last:
            self._interval = min(max(POINT_INTERVAL, self._cost / _SHARE), _LONGEST)
            self._cost = 0.0

    def take(self) -> tuple[dict[str, float], dict[str, list[float]]]:
        """Return the means of what was logged since the last call, and all of it, by name. This waits for the device.

        A mean that is not finite is left out.
        """
        logged, self._logged = self._logged, {}
        read = {name: _read(values) for name, values in logged.items()}
        means = {
            name: math.fsum(values) / len(values) for name, values in read.items() if all(map(math.isfinite, values))
        }
        return means, read

    def shares(self) -> tuple[float, TimeShares]:
        """Return how long the steps since the last point took, in seconds, and where those went; and begin anew."""
        seconds = max(self.stepped_at - self._began, 1e-9)
        waiting = min(self.waiting / seconds, 1.0)
        shares = TimeShares(waiting=round(waiting, 4), computing=round(1 - waiting, 4), seconds=round(seconds, 4))
        self._step_seconds = seconds / max(self.steps_since_point, 1)
        self._at_point, self.samples = self.steps, 0
        self.restart_clock()
        return seconds, shares


def _number(name: str, value: Any) -> Tensor | float:
    try:
        if not isinstance(value, Tensor):
            return float(value)
        if value.is_cpu:
            return float(value.item())
        if value.numel() == 1:  # reading it now would wait for the device
            return value.detach().clone()  # a loop may go on computing with its own in place
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        if not isinstance(value, Tensor) or value.numel() == 1:
            raise BadInput(f"run.log({name}=...) takes a number, and was given a {type(value).__name__}") from error
    raise BadInput(f"run.log({name}=...) takes one number, and was given a tensor of {tuple(value.shape)}")


def _read(values: list[Tensor | float]) -> list[float]:
    tensors = [value.reshape(()).float() for value in values if isinstance(value, Tensor)]
    by_device: dict[torch.device, list[Tensor]] = {}
    for tensor in tensors:
        by_device.setdefault(tensor.device, []).append(tensor)
    read = [number for alike in by_device.values() for number in torch.stack(alike).tolist()]
    return read + [value for value in values if not isinstance(value, Tensor)]


def numbers(metrics: Mapping[str, Any], warn: Callable[[str], None]) -> dict[str, float | None]:
    """Return the numbers among `metrics`, None for one that is not finite; `warn` is told of others, but for None."""
    found = {}
    for name, value in metrics.items():
        if value is None:
            continue
        try:
            found[str(name)] = finite(float(value))
        except (TypeError, ValueError, OverflowError, RuntimeError):  # the last one is torch's
            warn(f"the metric {name} is left out: it is not a number, but a {type(value).__name__}")
    return found


def finite(value: float) -> float | None:
    """Return `value`; None where it is infinite or not a number, for which JSON has nothing."""
    return value if math.isfinite(value) else None


def others(metrics: Mapping[str, float | None]) -> dict[str, float]:
    """Return the finite ones of `metrics`, by names that can be shown."""
    return {clean(name, 60): value for name, value in metrics.items() if value is not None}


def rounded(values: Sequence[float]) -> tuple[float, ...]:
    """Return `values` with four digits; 0 for what is not finite."""
    return tuple(float(f"{value:.4g}") if math.isfinite(value) else 0.0 for value in values)
