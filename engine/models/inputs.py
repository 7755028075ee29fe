"""What a network is given: numbers for each channel, example batches."""

import torch
from torch import Tensor

from finetui.engine.models import Architecture


def for_channels(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    """Return the means or deviations `values` for images of another number of channels: their mean for each."""
    if len(values) == channels:
        return values
    return (sum(values) / len(values),) * channels


def example(architecture: Architecture, device: torch.device | None = None) -> Tensor:
    """Return a batch of two inputs of the right shape, float32 `[2, C, H, W]`."""
    return torch.zeros(2, architecture.in_channels, architecture.height, architecture.width, device=device)
