"""Which device a run computes on."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch.utils import deterministic

from finetui.engine.errors import BadInput
from finetui.engine.protocol.config_checks import check_device

# Both are read when they are first used, and what a person has set holds.
_COMPILER = {"TORCHINDUCTOR_DETERMINISTIC": "1"}  # chooses by rule, and not by measuring
_CUBLAS = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}  # what torch takes as a promise of the same bits
_FILLS = "fill_uninitialized_memory"


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
            f"training.device (--device): {name} is not available, torch sees {torch.cuda.device_count()} CUDA "
            "devices; use --device auto"
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
def reproducible(name: str) -> Iterator[None]:
    """Let algorithms be chosen by rule, and only such as give the same bits twice, for a run on the device `name`.

    On CUDA that is cuDNN, cuBLAS, torch's own kernels and its compiler, and the device becomes the current one, which
    pinned memory belongs to. Where torch has no such kernel it takes another, and warns. All is put back at the end.
    """
    before = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    try:
        if _is_cuda(name):
            with torch.cuda.device(int(name.partition(":")[2] or -1)), _kernels_by_rule():
                yield
        else:
            yield
    finally:
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = before


def _is_cuda(name: str) -> bool:
    """Whether the device `name` is a CUDA device of this machine."""
    kind, _, index = name.partition(":")
    wanted = kind == "cuda" or (kind == "auto" and torch.cuda.is_available())
    return wanted and int(index or 0) < torch.cuda.device_count()


@contextmanager
def _kernels_by_rule() -> Iterator[None]:
    enabled, warns = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    fills: bool = getattr(deterministic, _FILLS)  # torch's types do not know it
    torch.use_deterministic_algorithms(True, warn_only=True)
    setattr(deterministic, _FILLS, False)  # filling costs time, and is for whoever looks for a fault
    try:
        with _environment(_CUBLAS):
            _first_product()
        with _environment(_COMPILER):
            yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warns)
        setattr(deterministic, _FILLS, fills)


def _first_product() -> None:
    """Multiply two matrices on the current CUDA device: torch looks then, and only then, at how cuBLAS is configured.

    torch gives cuBLAS a workspace for each stream, which is all that the same bits need (cuBLAS's documentation, on
    reproducibility). While the variable is set, each product seems to parse it: on an H200 steps of LeNet took half as
    long again (torch 2.11).
    """
    one = torch.ones(1, 1, device="cuda")
    one @ one


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set those of the environment's variables that are not set, for a while."""
    missing = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(missing)
    try:
        yield
    finally:
        for name in missing:
            os.environ.pop(name, None)


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
