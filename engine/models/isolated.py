"""A network looked into without touching it: whatever runs, runs on a copy."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from finetui.engine.errors import BadInput, reason_of
from finetui.engine.models.device import preserved_rng
from finetui.engine.text import clean


@contextmanager
def isolated(model: nn.Module, device: torch.device) -> Iterator[nn.Module]:
    """Yield a deep copy of `model`, which is on `device`, in evaluation mode; its `requires_grad` are the model's.

    What is done to the copy leaves the model as it was: weights, buffers, gradients, modes and hooks. The global random
    generators of the CPU and of `device` are put back. Fused attention is off meanwhile: it would pass over the modules
    that it stands for. Raises `BadInput` for a network that cannot be copied.
    """
    fused = torch.backends.mha.get_fastpath_enabled()
    with preserved_rng(device):
        try:
            torch.backends.mha.set_fastpath_enabled(False)
            yield _copied(model).eval()
        finally:
            torch.backends.mha.set_fastpath_enabled(fused)


def check_hooks(model: nn.Module) -> None:
    """Raise `BadInput` for a network whose layers cannot be watched while it runs."""
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        raise BadInput(f"the network {kind(model)} is TorchScript, whose layers cannot be inspected")


def submodule(model: nn.Module, path: str) -> nn.Module:
    """Return the module at `path`, such as "layer1.0.conv1"; "" is the model itself. Raises `BadInput`."""
    modules: dict[str, nn.Module] = dict(model.named_modules(remove_duplicate=False))
    if path not in modules:
        raise BadInput(
            f"the network {kind(model)} has no layer {path!r}; name one by its path in the module tree, "
            "such as layer1.0.conv1"
        )
    return modules[path]


def kind(module: nn.Module) -> str:
    """Return the name of the module's class, harmless to show."""
    return clean(type(module).__name__, 60)


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in what a module returned: a tensor, or tuples, lists and dicts of such to any depth."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from tensors_in(item)
    elif isinstance(value, dict):
        yield from tensors_in(list(value.values()))


def _copied(model: nn.Module) -> nn.Module:
    # Tensors that a forward pass left on a module (a cached activation, a normed weight) hang on the training's graph,
    # and torch refuses to copy those.
    memo: dict[int, Any] = {}
    for module in model.modules():
        for value in vars(module).values():
            if isinstance(value, Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().clone()
    try:
        with torch.no_grad():  # a copy of TorchScript would hang on the graph
            copied: nn.Module = copy.deepcopy(model, memo)
    except Exception as error:
        # A person's own network may hold anything, and copying runs its code.
        raise BadInput(
            f"the network {kind(model)} cannot be copied, so it cannot be inspected while it may be training "
            f"({type(error).__name__}: {reason_of(error)})"
        ) from error
    return copied
