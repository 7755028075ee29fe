"""One look at the machine."""

import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from finetui.engine.machine.amd import AmdGpus
from finetui.engine.machine.container import Container
from finetui.engine.machine.nvidia import NvidiaGpus
from finetui.engine.machine.processes import EngineProcesses
from finetui.engine.protocol.machine import Gpu, Machine
from finetui.engine.text import clean

_APPLE = "macOS reports GPU use to administrators only (sudo powermetrics)"


class Sampler:
    """Reads what this machine, and this process with its workers, are busy with.

    Shares and rates are means since the look before; the first has none. What cannot be read is None.
    """

    def __init__(
        self,
        *,
        nvml: Any = None,
        amd: AmdGpus | None = None,
        container: Container | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`nvml` stands for the module of nvidia-ml-py, which is imported otherwise."""
        self.folder: Path | None = None  # of the run, once there is one: its disk is looked at
        self._clock = clock
        self._host = clean(socket.gethostname(), 60)
        self._container = container or Container()
        self._processes = EngineProcesses()
        self._nvidia = NvidiaGpus(nvml)
        self._amd = amd or AmdGpus()
        limit = self._container.cores
        cores = float(_cores())
        self._cpu_limited = limit is not None and limit < cores
        self._cores = limit if limit is not None and self._cpu_limited else cores
        self._before: dict[str, float] = {}
        self._looked_at = clock()

    def read(self) -> Machine:
        """Return what there is to be told now."""
        now = self._clock()
        seconds, self._looked_at = now - self._looked_at, now
        usage = self._processes.usage()
        memory_used, memory_total, memory_limited = self._memory()
        disk = self._disk()
        gpus, no_gpu = self._gpus()
        engine = self._rate("engine", usage.cpu, seconds)
        return Machine(
            host=self._host,
            contained=memory_limited or self._cpu_limited,
            cores=self._cores,
            cpu=_share(self._cpu(seconds)),
            engine_cpu=_share(None if engine is None else engine / self._cores),
            workers=self._processes.workers,
            load=_load(),
            memory_used=memory_used,
            memory_total=memory_total,
            engine_memory=usage.memory or None,
            disk_free=None if disk is None else disk.free,
            disk_total=None if disk is None else disk.total,
            disk_read=self._rate("read", usage.read, seconds),
            disk_written=self._rate("written", usage.written, seconds),
            gpus=gpus,
            no_gpu=no_gpu,
        )

    def _rate(self, name: str, total: float | None, seconds: float) -> float | None:
        """Return by how much `total` has grown in a second since the last look; it never falls."""
        if total is None:
            return None
        before = self._before.get(name)
        self._before[name] = total
        return None if before is None or seconds <= 0 else round(max(total - before, 0.0) / seconds, 3)

    def _cpu(self, seconds: float) -> float | None:
        if self._cpu_limited:
            used = self._rate("container", self._container.cpu_seconds(), seconds)
            return None if used is None else used / self._cores
        times = psutil.cpu_times()
        waiting = times.idle + getattr(times, "iowait", 0.0)
        # Linux counts the time of guests as that of users as well.
        total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
        busy, passed = self._rate("busy", total - waiting, seconds), self._rate("passed", total, seconds)
        return None if busy is None or not passed else busy / passed

    def _memory(self) -> tuple[int | None, int | None, bool]:
        """Return the bytes used and the bytes there are, and whether a container's limit is what counts."""
        machine = psutil.virtual_memory()
        limit = self._container.memory_limit
        if limit is not None and limit < machine.total:
            return self._container.memory_used(), limit, True
        return machine.total - machine.available, machine.total, False

    def _disk(self) -> Any:
        try:
            return None if self.folder is None else psutil.disk_usage(str(self.folder))
        except OSError:  # somebody has deleted it
            return None

    def _gpus(self) -> tuple[tuple[Gpu, ...], str]:
        if not self._nvidia.problem:
            return self._nvidia.read(self._processes), ""
        others = self._amd.read()
        problem = _APPLE if sys.platform == "darwin" else self._nvidia.problem
        return others, "" if others else problem


def _cores() -> int:
    """Return how many CPU cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0)) or 1
    return os.cpu_count() or 1


def _share(value: float | None) -> float | None:
    return None if value is None else round(min(value, 1.0), 4)


def _load() -> float | None:
    try:
        return round(os.getloadavg()[0], 2)
    except (OSError, AttributeError):
        return None
