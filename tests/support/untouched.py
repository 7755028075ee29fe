"""Whether a network, and all that is global around it, is the same as before, bit for bit."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def _digest(tensor: torch.Tensor | None) -> str:
    if tensor is None:
        return "none"
    return hashlib.sha256(tensor.detach().cpu().contiguous().numpy().tobytes()).hexdigest()


def state(model: nn.Module) -> dict[str, object]:
    """Return all that must not change, under names that tell what did."""
    found: dict[str, object] = {name: _digest(tensor) for name, tensor in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        found[f"{name}: gradient"] = (_digest(parameter.grad), parameter.requires_grad, parameter._version)
    for name, module in model.named_modules():
        found[f"{name}: mode"] = module.training
        found[f"{name}: hooks"] = [len(getattr(module, kind)) for kind in HOOKS]
    found["random numbers"] = _digest(torch.get_rng_state())
    found["gradients on"] = torch.is_grad_enabled()
    found["fused attention on"] = torch.backends.mha.get_fastpath_enabled()
    return found


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Assert that what happens inside, also when it fails, leaves `model` as it was."""
    torch.backends.mha.set_fastpath_enabled(True)  # as it is by default, whatever an earlier test left behind
    before = state(model)
    try:
        yield
    finally:
        after = state(model)
        changed = [name for name in before if after[name] != before[name]]
        assert not changed, changed


def in_training(model: nn.Module, inputs: torch.Tensor) -> nn.Module:
    """Return `model` as a training leaves it between two steps: gradients, statistics, some layers frozen."""
    model.train()
    first = next(model.parameters())
    first.requires_grad_(False)
    model(inputs).square().sum().backward()
    next(iter(model.children())).training = False
    return model
