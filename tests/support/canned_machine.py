"""What a machine is busy with, as canned samples."""

from finetui.engine.protocol.events import MachineSample
from finetui.engine.protocol.machine import Gpu, GpuProcess, Machine

GB = 2**30
BEGAN = 1_000_000_000.0


def gpu(index: int = 0, **changes: object) -> Gpu:
    figures: dict[str, object] = {
        "name": "NVIDIA H100 80GB HBM3",
        "use": 0.97,
        "memory_used": (11 + index) * GB,
        "memory_total": 80 * GB,
        "temperature": 71.0,
        "power": 310.4,
        "power_limit": 700.0,
        "clock": 1755.0,
        "processes": (GpuProcess(pid=4711, memory=11 * GB, name="python3.11", user="ana", mine=True),),
        "process_count": 1,
        **changes,
    }
    return Gpu(index=index, **figures)  # type: ignore[arg-type]


def sample(at: float = 0.0, gpus: tuple[Gpu, ...] = (), *, seconds: float = 2.0, **changes: object) -> MachineSample:
    """Return a sample that was taken `at` seconds after the first."""
    figures: dict[str, object] = {
        "host": "node07",
        "cores": 64.0,
        "cpu": 0.82,
        "engine_cpu": 0.31,
        "workers": 8,
        "load": 21.3,
        "memory_used": int(1.2 * GB),
        "memory_total": int(7.6 * GB),
        "engine_memory": int(0.9 * GB),
        "disk_free": 65 * GB,
        "disk_total": 100 * GB,
        "disk_read": 46.0 * 2**20,
        "disk_written": 1.0 * 2**20,
        "gpus": gpus,
        "no_gpu": "" if gpus else "no NVIDIA driver on this machine",
        **changes,
    }
    return MachineSample(machine=Machine(**figures), seconds=seconds, time=BEGAN + at)  # type: ignore[arg-type]
