"""Which device a run computes on."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch

from finetui.engine.errors import BadInput
from finetui.engine.protocol.config import check_device


def resolve(name: str) -> torch.device:
    """Return the device that `name` (`auto`, `cpu`, `cuda`, `cuda:N`, `mps`) means on this machine.

    Raises `BadInput` when this machine has no such device.
    """
    check_device(name)
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise BadInput(
            f"training.device (--device): {name} is not here, torch sees {torch.cuda.device_count()} CUDA devices; "
            "use --device auto"
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise BadInput("training.device (--device): mps is not available on this machine; use --device auto")
    return device


def describe(device: torch.device) -> str:
    """Return the device's name for people: `cpu (2 threads)`, `cuda:0 (NVIDIA H100)`."""
    if device.type == "cuda":
        return f"cuda:{device.index or 0} ({torch.cuda.get_device_name(device)})"
    threads = torch.get_num_threads()
    return f"cpu ({threads} thread{'s' if threads > 1 else ''})" if device.type == "cpu" else device.type


def rng_states(device: torch.device) -> dict[str, torch.Tensor]:
    """Return the states of the global random generators of the CPU and of `device`, uint8 tensors by kind of device."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        states["mps"] = torch.mps.get_rng_state()
    return states


def set_rng_states(device: torch.device, states: Mapping[str, torch.Tensor]) -> None:
    """Put the generators of the CPU and of `device` where `states` says; another kind of device has none there."""
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
    elif device.type == "mps" and "mps" in states:
        torch.mps.set_rng_state(states["mps"])


@contextmanager
def deterministic_convolutions() -> Iterator[None]:
    """Let cuDNN choose its algorithms by rule, and only such as give the same bits twice."""
    before = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    try:
        yield
    finally:
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = before


@contextmanager
def preserved_rng(device: torch.device) -> Iterator[None]:
    """Put the global random generators of the CPU and of `device` back to where they were."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        kept = torch.mps.get_rng_state() if device.type == "mps" else None
        try:
            yield
        finally:
            if kept is not None:
                torch.mps.set_rng_state(kept)
