"""The stem of a network: its first convolution, adapted to the number of channels that the images have."""

from typing import Any

import torch
from torch import Tensor, nn

from finetui.engine.errors import BadInput
from finetui.engine.text import clean


def find_stem(model: nn.Module) -> tuple[str, nn.Conv2d] | None:
    """Return the name and module of the first convolution, None for a network that has none."""
    return next(((name, m) for name, m in model.named_modules() if isinstance(m, nn.Conv2d)), None)


def find_unfit(model: nn.Module, images: Tensor) -> tuple[str, nn.Conv2d] | None:
    """Return the convolution that `images`, `[B, C, H, W]`, reach and whose channels are not theirs, by name; or None.

    None also where the network takes them, or fails for another reason. It is run as it is, and left so.
    """
    names: dict[nn.Module, str] = {module: name for name, module in model.named_modules()}
    entered: list[tuple[str, nn.Conv2d, int]] = []

    def note(module: nn.Module, inputs: Any) -> None:
        if isinstance(module, nn.Conv2d) and inputs and isinstance(inputs[0], Tensor) and inputs[0].ndim > 2:
            entered.append((names[module], module, inputs[0].shape[-3]))

    convolutions = [m for m in names if isinstance(m, nn.Conv2d) and not isinstance(m, torch.jit.ScriptModule)]
    hooks = [module.register_forward_pre_hook(note) for module in convolutions]
    try:
        with torch.no_grad():
            model(images.clone())
    except Exception:  # noqa: BLE001  # a person's own code, which whoever runs it next is told of
        if entered:
            name, module, channels = entered[-1]
            if module.in_channels != channels == images.shape[1]:
                return name, module
    finally:
        for hook in hooks:
            hook.remove()
    return None


def adapt_stem(model: nn.Module, in_channels: int, found: tuple[str, nn.Conv2d] | None = None) -> str | None:
    """Let a convolution of `model` take images of `in_channels` channels; return a sentence if that changed it.

    It is `found`, by default the first that is registered.

    For one channel, each filter is the sum of its three: a grey image is then seen as the same image in grey RGB. For
    three, each of the three is a third of the one. Raises `BadInput` for other numbers of channels.
    """
    found = found or find_stem(model)
    if found is None or found[1].in_channels == in_channels:
        return None
    name, stem = found
    if stem.groups != 1 or {stem.in_channels, in_channels} != {1, 3}:
        raise BadInput(
            f"the network {type(model).__name__} takes images of {stem.in_channels} channels and these have "
            f"{in_channels}; only 1 and 3 channels can be adapted to each other"
        )
    stem.weight = nn.Parameter(adapt_filters(stem.weight.detach(), in_channels), stem.weight.requires_grad)
    stem.in_channels = in_channels
    change = "summed over the three channels" if in_channels == 1 else "shared among three channels"
    return f"the filters of {clean(name)} are {change}"


def adapt_filters(filters: Tensor, in_channels: int) -> Tensor:
    """Return the filters `[out, 1 or 3, H, W]` for `in_channels` channels: their sum, or a third for each."""
    if in_channels == 1:
        return filters.sum(dim=1, keepdim=True)
    return torch.cat([filters / 3] * 3, dim=1)
