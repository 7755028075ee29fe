"""What a network returns, in any of the forms that people give it, as logits."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from finetui.engine.errors import BadInput

_ONE_AUXILIARY = 0.4
_SEVERAL = 0.3


class Outputs(NamedTuple):
    """The logits `[B, classes]`, float32 or wider, and those of auxiliary heads, which some have while they train."""

    logits: Tensor
    auxiliary: tuple[Tensor, ...] = ()

    def auxiliary_weight(self) -> float:
        """Return the factor of each auxiliary head's loss.

        That is 0.3 for several (Szegedy et al., "Going deeper with convolutions", 2014, section 5: GoogLeNet has two)
        and 0.4 for one (PyTorch's finetuning tutorial, for Inception v3, which has one). torchvision's reference
        training has no rule of its own: it builds these networks without auxiliary heads.
        """
        return _ONE_AUXILIARY if len(self.auxiliary) == 1 else _SEVERAL


def outputs_of(returned: Any) -> Outputs:
    """Return what a network returned, whose first part are the logits.

    That is a tensor; a tuple or list of a tensor and others, of which those of the same shape are auxiliary; a dict
    with `logits`; or an object with `logits` (Hugging Face's). Raises `BadInput` for anything else.
    """
    if isinstance(returned, Tensor):
        return Outputs(returned if returned.dtype is torch.float32 else _wide(returned))
    if isinstance(returned, (tuple, list)) and returned and isinstance(returned[0], Tensor):
        first, *rest = returned
        alike = [_wide(other) for other in rest if isinstance(other, Tensor) and other.shape == first.shape]
        return Outputs(_wide(first), tuple(alike))
    found = returned.get("logits") if isinstance(returned, Mapping) else getattr(returned, "logits", None)
    if isinstance(found, Tensor):
        return Outputs(_wide(found))
    keys = f" with {', '.join(map(str, list(returned)[:6]))}" if isinstance(returned, Mapping) else ""
    raise BadInput(
        f"the network must return logits [batch, classes], as a tensor, the first of a tuple, or `logits` of a dict, "
        f"and returns {type(returned).__name__}{keys}"
    )


def outputs(model: Callable[[Tensor], Any], images: Tensor) -> Outputs:
    """Return what `model` makes of `images`, `[B, C, H, W]`.

    Networks that squeeze all dimensions of one take no batch of a single image; it is then given twice, and the first
    answer counts. Raises whatever the network does.
    """
    if len(images) != 1:
        return outputs_of(model(images))
    try:
        found = outputs_of(model(images.clone()))  # it may work in place
        if found.logits.ndim == 2:
            return found
    except (RuntimeError, IndexError, ValueError, TypeError):
        pass  # if it is not for the single image, it is raised again
    twice = outputs_of(model(torch.cat([images, images])))
    return Outputs(twice.logits[:1], tuple(auxiliary[:1] for auxiliary in twice.auxiliary))


def logits(model: Callable[[Tensor], Any], images: Tensor) -> Tensor:
    """Return the logits of `images`, `[B, C, H, W]`: float32 or wider, `[B, classes]`. Raises as `outputs` does."""
    return outputs(model, images).logits


def _wide(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor
