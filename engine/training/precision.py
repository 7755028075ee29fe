"""The numbers that a training step's forward and backward pass are computed with."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from finetui.engine.errors import BadInput, describe
from finetui.engine.models.outputs import Outputs, outputs_of

NOTICE = "precision: bf16, forward and backward pass in bfloat16; weights, optimizer and evaluation in float32"
_SLOW = "precision: this processor has no instructions for bfloat16; steps may take ten times as long as with fp32"


def forward(model: Callable[[Tensor], Any], images: Tensor, precision: str) -> Tensor:
    """Return the logits of `images`, float32 or wider `[B, classes]`; see `outputs`."""
    return outputs(model, images, precision).logits


def outputs(model: Callable[[Tensor], Any], images: Tensor, precision: str) -> Outputs:
    """Return what `model` makes of a batch in training: logits and those of auxiliary heads, float32 or wider.

    With the precision `bf16` what gains by it is computed in bfloat16, by torch's automatic mixed precision
    (Micikevicius et al., "Mixed precision training", 2018); its range is that of float32, so that no loss has to be
    scaled. With `fp32` it is `model` alone.
    """
    if precision == "fp32":
        return outputs_of(model(images))
    with autocast(precision, images.device):
        returned = model(images)
    return outputs_of(returned)


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Return the context in which a training step computes by `precision` on `device`."""
    return nullcontext() if precision == "fp32" else torch.autocast(device.type, torch.bfloat16)


def notices(precision: str, device: torch.device) -> list[str]:
    """Return what there is to know about computing by `precision` on `device`, in sentences."""
    if precision == "fp32":
        return []
    # Not in torch 2.10, which therefore warns nobody.
    asked = hasattr(torch.cpu, "get_capabilities") and device.type == "cpu"
    slow = asked and not _has_bfloat16(torch.cpu.get_capabilities())
    return [NOTICE, _SLOW] if slow else [NOTICE]


def _has_bfloat16(capabilities: Mapping[str, object]) -> bool:
    return any(capabilities.get(name) for name in ("amx_bf16", "avx512_bf16", "bf16", "sve_bf16"))


def check(precision: str, device: torch.device) -> None:
    """Raise `BadInput` unless `device` computes by `precision`."""
    if precision == "fp32":
        return
    reason = ""
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        reason = "this GPU has no bfloat16"
    layer, values = nn.Linear(8, 8, device=device), torch.zeros(8, 8, device=device)
    try:
        with torch.autocast(device.type, torch.bfloat16):
            found = layer(values).dtype
        if found is not torch.bfloat16:  # on MPS, before macOS 14, torch only warns, and goes on without it
            reason = reason or "torch has no bfloat16 on this device"
    except RuntimeError as error:
        reason = reason or describe(error)
    if reason:
        raise BadInput(f"training.precision (--precision): {reason}; use --precision fp32")
