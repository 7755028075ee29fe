"""NVIDIA's GPUs, as its management library (NVML) tells of them; nvidia-ml-py has the bindings (`pynvml`)."""

import importlib
import math
from collections.abc import Callable, Container
from pathlib import Path
from typing import Any

import psutil

from finetui.engine.protocol.machine import Gpu, GpuProcess
from finetui.engine.text import clean

_MOST_PROCESSES = 8  # on each GPU
_NOT_INSTALLED = "nvidia-ml-py is not installed: pip install nvidia-ml-py"
_NO_DRIVER = "no NVIDIA driver on this machine"
_DRIVER_FILES = ("/proc/driver/nvidia", "/dev/nvidiactl", "/dev/dxg")  # the last one is that of WSL


class NvidiaGpus:
    """The NVIDIA GPUs of this machine; where there are none to be read, `problem` says why."""

    def __init__(self, nvml: Any = None) -> None:
        """Use the module `nvml`, by default nvidia-ml-py's."""
        self.problem = ""
        self._handles: list[Any] = []
        self._owners: dict[int, tuple[str, str]] = {}  # by pid: name and user
        try:
            self._nvml = nvml if nvml is not None else importlib.import_module("pynvml")
        except ImportError:
            there = any(Path(path).exists() for path in _DRIVER_FILES)
            self.problem = _NOT_INSTALLED if there else _NO_DRIVER
            return
        try:
            self._nvml.nvmlInit()
            count = self._nvml.nvmlDeviceGetCount()
        except self._nvml.NVMLError as error:
            self.problem = self._why(error)
            return
        for index in range(count):
            self._handles.append(self._asked(self._nvml.nvmlDeviceGetHandleByIndex, index))
        if not self._handles:
            self.problem = "the NVIDIA driver finds no GPU"

    def __len__(self) -> int:
        """The number of them."""
        return len(self._handles)

    def _why(self, error: Exception) -> str:
        if getattr(error, "value", None) in (
            getattr(self._nvml, "NVML_ERROR_LIBRARY_NOT_FOUND", None),
            getattr(self._nvml, "NVML_ERROR_DRIVER_NOT_LOADED", None),
        ):
            return _NO_DRIVER
        return f"the NVIDIA driver does not answer: {clean(str(error), 80)}"

    def read(self, mine: Container[int]) -> tuple[Gpu, ...]:
        """Return what each GPU does now; `mine` has the numbers of this run's processes."""
        gpus = tuple(self._read(index, handle, mine) for index, handle in enumerate(self._handles))
        alive = {process.pid for gpu in gpus for process in gpu.processes}
        self._owners = {pid: owner for pid, owner in self._owners.items() if pid in alive}
        return gpus

    def _read(self, index: int, handle: Any, mine: Container[int]) -> Gpu:
        nvml, asked = self._nvml, self._asked
        if handle is None:
            return Gpu(index=index, name="a GPU that does not answer")
        memory = asked(nvml.nvmlDeviceGetMemoryInfo, handle)
        rates = asked(nvml.nvmlDeviceGetUtilizationRates, handle)
        name = asked(nvml.nvmlDeviceGetName, handle) or ""
        processes = asked(nvml.nvmlDeviceGetComputeRunningProcesses, handle)
        use = number(getattr(rates, "gpu", None), 0.01)
        return Gpu(
            index=index,
            name=clean(name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name), 60),
            use=use if use is None else min(use, 1.0),
            memory_used=_bytes(getattr(memory, "used", None)),
            memory_total=_bytes(getattr(memory, "total", None)),
            temperature=number(asked(nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU)),
            power=number(asked(nvml.nvmlDeviceGetPowerUsage, handle), 1e-3),
            power_limit=number(asked(nvml.nvmlDeviceGetEnforcedPowerLimit, handle), 1e-3),
            clock=number(asked(nvml.nvmlDeviceGetClockInfo, handle, nvml.NVML_CLOCK_SM)),
            clock_limit=number(asked(nvml.nvmlDeviceGetMaxClockInfo, handle, nvml.NVML_CLOCK_SM)),
            processes=self._processes(processes or (), mine),
            process_count=None if processes is None else len(processes),
        )

    def _asked(self, question: Callable[..., Any], *arguments: Any) -> Any:
        """Return the answer to `question`; None where this GPU, or this driver, has none."""
        try:
            return question(*arguments)
        except (self._nvml.NVMLError, UnicodeDecodeError):
            return None

    def _processes(self, found: Any, mine: Container[int]) -> tuple[GpuProcess, ...]:
        processes = []
        for one in found:
            pid = int(one.pid)
            if pid not in self._owners:
                self._owners[pid] = _owner(pid)
            name, user = self._owners[pid]
            memory = _bytes(one.usedGpuMemory)
            processes.append(GpuProcess(pid=pid, memory=memory, name=name, user=user, mine=pid in mine))
        processes.sort(key=lambda process: (not process.mine, -(process.memory or 0)))
        return tuple(processes[:_MOST_PROCESSES])


def number(value: Any, scale: float = 1.0) -> float | None:
    """Return `value` times `scale`, if it is a number that can be."""
    if not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
        return None
    return round(float(value) * scale, 3)


def _bytes(value: Any) -> int | None:
    # What is not available is told as the largest number there is.
    return value if isinstance(value, int) and 0 <= value < 2**60 else None


def _owner(pid: int) -> tuple[str, str]:
    """Return the name and the user of process `pid`; empty where the system does not tell."""
    name = user = ""
    try:
        process = psutil.Process(pid)
        name = clean(process.name(), 40)
        user = clean(process.username(), 40)
    except (psutil.Error, KeyError):  # KeyError: a user without a name
        pass
    return name, user
