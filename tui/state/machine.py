"""What the machine was busy with over a run, in bounded memory."""

import math
from collections import deque

import numpy as np

from finetui.engine.protocol.events import MachineSample, TrainPoint
from finetui.engine.protocol.machine import Gpu, Machine
from finetui.engine.protocol.values import TimeShares
from finetui.tui.state.curves import Curve, Floats

RECENT_SECONDS = 600.0
_RECENT_SAMPLES = 1024
_MOST_GPUS = 64
_LONGEST_GAP = 60.0  # seconds: while nobody looks, no time passes
_SHARES_SECONDS = 120.0  # the time that the shares of time are means over, about
_MINUTE, _FEW = 60.0, 5  # seconds, and samples, by which the processors are judged
_BUSY = 0.9  # of the processors: none is free for longer than a moment
_SHARES = tuple(name for name in TimeShares.__struct_fields__ if name != "seconds")


class History:
    """One quantity: all of it in few buckets, and what is recent one by one."""

    def __init__(self) -> None:
        self._all = Curve()
        self._recent: deque[tuple[float, float]] = deque(maxlen=_RECENT_SAMPLES)

    def add(self, x: float, y: float | None) -> None:
        """Add the value `y` at `x` seconds; nothing where it is not known."""
        if y is not None and math.isfinite(y):
            self._all.add(x, y)
            self._recent.append((x, y))

    def points(self, since: float | None = None) -> tuple[Floats, Floats]:
        """Return x and y, float64 `[n]` each: all, or in full detail those `since` some seconds."""
        if since is None:
            return self._all.points()
        found = np.array([point for point in self._recent if point[0] >= since], dtype=np.float64).reshape(-1, 2)
        return found[:, 0], found[:, 1]


class MachineHistory:
    """What samples of the machine have told: the `latest` of them, and a `History` of each quantity by its name.

    Time is that for which somebody looked at the machine, in seconds from the first sample: `now`. `shares` is where
    the time of a step went lately. `changes` counts what has come.
    """

    def __init__(self) -> None:
        self.latest: MachineSample | None = None
        self.now = 0.0
        self.shares: TimeShares | None = None
        self._spent = dict.fromkeys(_SHARES, 0.0)  # seconds of late, those long past counting less
        self._told = 0.0
        self.changes = 0
        self._histories: dict[str, History] = {}

    def of(self, name: str) -> History:
        """Return the history of the quantity `name`; an empty one where there is none."""
        return self._histories.setdefault(name, History())

    def hear(self, sample: MachineSample) -> None:
        """Take `sample` in, unless it only sums up what was told in detail before."""
        before = self.latest
        if before is not None:
            if sample.time - sample.seconds / 2 < before.time:
                return
            self.now += min(max(sample.time - before.time, 0.0), max(2 * sample.seconds, _LONGEST_GAP))
        self.latest = sample
        self.changes += 1
        for name, value in _quantities(sample.machine).items():
            self.of(name).add(self.now, value)

    def hear_point(self, point: TrainPoint) -> None:
        """Take in where the time went before `point`."""
        told = point.time_shares
        if told is None or not math.isfinite(told.seconds) or told.seconds <= 0:
            return
        weight = math.exp(-told.seconds / _SHARES_SECONDS)
        self._told = weight * self._told + told.seconds
        for name in _SHARES:
            value = getattr(told, name)
            spent = told.seconds * value if math.isfinite(value) else 0.0
            self._spent[name] = weight * self._spent[name] + spent
        self.shares = TimeShares(**{name: spent / self._told for name, spent in self._spent.items()})
        self.changes += 1


def others_on_cpu(history: MachineHistory) -> float | None:
    """Return the share of the processors (0 to 1) that other programs took over the last minute; None if not known.

    0 where some were free: then they took nothing from the run.
    """
    whole, others = (history.of(name).points(history.now - _MINUTE)[1] for name in ("cpu", "others"))
    if len(others) < _FEW:
        return None
    return max(float(others.mean()), 0.0) if whole.mean() >= _BUSY else 0.0


def gpu_use(gpu: Gpu) -> str:
    """Return the name of the quantity that the use of `gpu` is."""
    return f"gpu {gpu.index}"


def _quantities(machine: Machine) -> dict[str, float | None]:
    disk = [rate for rate in (machine.disk_read, machine.disk_written) if rate is not None]
    return {
        "cpu": machine.cpu,
        "others": None if machine.cpu is None or machine.engine_cpu is None else machine.cpu - machine.engine_cpu,
        "memory": share(machine.memory_used, machine.memory_total),
        "disk": sum(disk) if disk else None,
        **{gpu_use(gpu): gpu.use for gpu in machine.gpus[:_MOST_GPUS]},
    }


def share(part: float | None, whole: float | None) -> float | None:
    """Return `part` of `whole` (0 to 1); None where one of them is not known."""
    return None if part is None or not whole else min(max(part / whole, 0.0), 1.0)
