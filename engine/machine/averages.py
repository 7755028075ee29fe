"""Many looks at the machine as one: means of what goes up and down, the most memory, the newest of all else."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from finetui.engine.protocol.machine import Gpu, Machine

_MEANS = ("cpu", "engine_cpu", "load", "disk_read", "disk_written")
_MOST = ("memory_used", "engine_memory")
_GPU_MEANS = ("use", "temperature", "power", "clock")
_GPU_MOST = ("memory_used",)


def average(looks: Sequence[tuple[float, Machine]]) -> Machine:
    """Return `looks`, each with its seconds, as one. Raises `ValueError` where there is none."""
    if not looks:
        raise ValueError("there is nothing to take the mean of")
    latest = looks[-1][1]
    gpus = tuple(_gpu(gpu, looks) for gpu in latest.gpus)
    return msgspec.structs.replace(latest, gpus=gpus, **_changes(looks, _MEANS, _MOST))


def _gpu(latest: Gpu, looks: Sequence[tuple[float, Machine]]) -> Gpu:
    same = [(seconds, gpu) for seconds, machine in looks for gpu in machine.gpus if gpu.index == latest.index]
    return msgspec.structs.replace(latest, **_changes(same, _GPU_MEANS, _GPU_MOST))


def _changes(looks: Sequence[tuple[float, Any]], means: Iterable[str], most: Iterable[str]) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    for name in means:
        told = [(seconds, value) for seconds, one in looks if (value := getattr(one, name)) is not None]
        weight = math.fsum(seconds for seconds, _ in told)
        if told:
            mean = math.fsum(seconds * value for seconds, value in told) / weight if weight else told[-1][1]
            changes[name] = round(mean, 4)
    for name in most:
        changes[name] = max((value for _, one in looks if (value := getattr(one, name)) is not None), default=None)
    return changes
