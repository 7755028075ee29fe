"""The fast paths: the same mathematics in an order and layout that is faster.

Nothing here changes a loss by more than its last digits. What was chosen is kept with the run, so that it goes on, and
is replayed, by the same path, and so to the same bits.
"""

import copy
import os
import warnings
from collections.abc import Sequence

import msgspec
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from finetui.engine.errors import BadInput, describe as describe_error, reason_of
from finetui.engine.models import Architecture, ModuleGroup
from finetui.engine.models.device import preserved_rng
from finetui.engine.protocol.config import TrainingConfig
from finetui.engine.protocol.values import FastPath
from finetui.engine.training.optimizer import build_optimizer
from finetui.engine.training.precision import forward

_NOT_DETERMINISTIC = " does not have a deterministic implementation"  # in torch's warning, after the kernel's name
_MOST_WEIGHTS = 2**19  # of a convolution: with larger ones the plain layout is as fast on a CPU, or faster


def plain(device: torch.device) -> FastPath:
    """Return the path of the plain loop on `device`."""
    return FastPath(threads=torch.get_num_threads() if device.type == "cpu" else 0)


def arrange(model: nn.Module, path: FastPath) -> None:
    """Let `model` lie in memory as `path` has it; its parameters stay the same objects."""
    if path.channels_last:
        model.to(memory_format=torch.channels_last)


def choose(
    model: nn.Module, groups: Sequence[ModuleGroup], architecture: Architecture, training: TrainingConfig
) -> tuple[FastPath, str]:
    """Return the path that `training.fast` means for `model`, and a sentence on it; empty for `off`.

    By rules alone, so that the same command computes the same bits: see docs/decisions/0010-fast-paths.md. A step is
    tried on a copy; where that fails, it is the next path towards the plain one, which is taken untried.
    """
    device = next(model.parameters()).device
    slow = plain(device)
    if training.fast == "off":
        return slow, ""
    layout = _has_images(model) and (training.fast == "on" or _gains(model, device, training.precision))
    wanted = FastPath(threads=slow.threads, channels_last=layout, fused=_can_fuse(groups, training))
    problem = ""
    for path in (wanted, msgspec.structs.replace(wanted, channels_last=False), slow):
        why = _problem(model, groups, architecture, training, path) if path != slow else ""
        if not why:
            break
        problem = problem or f" ({describe(wanted)} fails: {why})"
    return path, f"fast path ({training.fast}): {describe(path)}{problem}"


def describe(path: FastPath) -> str:
    """Return `path` in a few words."""
    words = [
        "channels-last" if path.channels_last else "",
        "fused optimizer" if path.fused else "",
        f"{path.threads} thread{'s' if path.threads > 1 else ''}" if path.threads else "",
    ]
    return ", ".join(filter(None, words)) or "the plain loop"


def _has_images(model: nn.Module) -> bool:
    # Torch has no such format for tensors of five dimensions, and raises.
    tensors = [*model.parameters(), *model.buffers()]
    convolves = any(isinstance(module, nn.Conv2d | nn.ConvTranspose2d) for module in model.modules())
    return convolves and all(tensor.ndim != 5 for tensor in tensors)


def _can_fuse(groups: Sequence[ModuleGroup], training: TrainingConfig) -> bool:
    try:
        build_optimizer(groups, training, fused=True)
    except RuntimeError:  # torch knows for which devices and dtypes it has one
        return False
    return True


def _gains(model: nn.Module, device: torch.device, precision: str) -> bool:
    """Return whether channels-last is expected to be faster, by what was measured."""
    if device.type == "cuda":
        return precision == "bf16"  # tensor cores take images so; in float32 it depends on the network
    sizes = [module.weight.numel() for module in model.modules() if isinstance(module, nn.Conv2d)]
    return device.type == "cpu" and max(sizes, default=0) <= _MOST_WEIGHTS


def _problem(
    model: nn.Module,
    groups: Sequence[ModuleGroup],
    architecture: Architecture,
    training: TrainingConfig,
    path: FastPath,
) -> str:
    """Return what is wrong with a step of two images by `path`, on a copy; empty where nothing is."""
    device = next(model.parameters()).device
    shape = (2, architecture.in_channels, architecture.height, architecture.width)
    try:
        with preserved_rng(device):
            copied, its_groups = copy.deepcopy((model, groups))
            arrange(copied, path)
            copied.train()
            optimizer = build_optimizer(its_groups, training, fused=path.fused)
            images = torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(device)
            logits = forward(copied, laid_out(images, path), training.precision)
            F.cross_entropy(logits, torch.zeros(2, dtype=torch.int64, device=device)).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    except Exception as error:  # noqa: BLE001  # a person's own code raises what it likes
        return describe_error(error)
    return ""


def not_reproducible(
    model: nn.Module,
    groups: Sequence[ModuleGroup],
    architecture: Architecture,
    training: TrainingConfig,
    path: FastPath,
) -> list[str]:
    """Return a sentence on what torch cannot compute to the same bits twice in a step by `path`, as a list of one.

    An empty list where it can, and where it was not told to (see `device.reproducible`). Tried on a copy.
    """
    if not torch.are_deterministic_algorithms_enabled():
        return []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        _problem(model, groups, architecture, training, path)
    said = (str(warning.message).partition(_NOT_DETERMINISTIC) for warning in caught)
    names = sorted({name.split()[-1] for name, found, _ in said if found and name.strip()})
    if not names:
        return []
    return [f"torch has no deterministic {', '.join(names)}: the same command may give different last digits"]


def laid_out(images: Tensor, path: FastPath) -> Tensor:
    """Return `images`, `[B, C, H, W]`, in the memory format of `path`."""
    return images.contiguous(memory_format=torch.channels_last) if path.channels_last else images


def recorded(state: object, device: torch.device) -> FastPath:
    """Return the path that a checkpoint's training state tells of as `state`; the plain one where it tells of none.

    Threads that this machine has no processors for are left out. Raises `BadInput` when it is no path.
    """
    if state is None:
        return plain(device)
    try:
        path = msgspec.convert(state, FastPath)
    except msgspec.ValidationError as error:
        raise BadInput(f"the checkpoint does not say which path the run used ({reason_of(error)})") from error
    here = path.threads <= (os.cpu_count() or 1)
    return path if here else msgspec.structs.replace(path, threads=torch.get_num_threads())
