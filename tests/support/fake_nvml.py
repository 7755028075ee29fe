"""A stand-in for the module of nvidia-ml-py: answers as a driver does, hostile answers included."""

from types import SimpleNamespace
from typing import Any

GB = 2**30


class NVMLError(Exception):
    def __init__(self, value: int) -> None:
        super().__init__(f"error {value}")
        self.value = value


class FakeNvml:
    """A driver with `count` GPUs; `silent` names questions that it does not answer, `changed` answers of its own."""

    NVMLError = NVMLError
    NVML_ERROR_NOT_SUPPORTED, NVML_ERROR_DRIVER_NOT_LOADED, NVML_ERROR_LIBRARY_NOT_FOUND = 3, 9, 12
    NVML_TEMPERATURE_GPU, NVML_CLOCK_SM = 0, 1

    def __init__(
        self, count: int = 1, silent: tuple[str, ...] = (), failure: int | None = None, **changed: Any
    ) -> None:
        self.count, self.silent, self.failure = count, silent, failure
        self.answers: dict[str, Any] = {
            "nvmlDeviceGetMemoryInfo": SimpleNamespace(used=11 * GB, total=24 * GB, free=13 * GB),
            "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=97, memory=40),
            "nvmlDeviceGetName": "NVIDIA GeForce RTX 4090",
            "nvmlDeviceGetComputeRunningProcesses": [],
            "nvmlDeviceGetTemperature": 71,
            "nvmlDeviceGetPowerUsage": 310_500,
            "nvmlDeviceGetEnforcedPowerLimit": 450_000,
            "nvmlDeviceGetClockInfo": 2520,
            "nvmlDeviceGetMaxClockInfo": 3105,
            **changed,
        }

    def nvmlInit(self) -> None:  # noqa: N802
        if self.failure is not None:
            raise NVMLError(self.failure)

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return self.count

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        if "nvmlDeviceGetHandleByIndex" in self.silent:
            raise NVMLError(15)
        return index

    def __getattr__(self, name: str) -> Any:
        if name not in self.answers:
            raise AttributeError(name)

        def answer(*_: object) -> Any:
            if name in self.silent:
                raise NVMLError(self.NVML_ERROR_NOT_SUPPORTED)
            return self.answers[name]

        return answer


def process(pid: int, memory: int | None) -> Any:
    return SimpleNamespace(pid=pid, usedGpuMemory=memory)
