"""Classes that differ in size: weights in the loss, and weights by which images are drawn."""

import torch
from torch import Tensor, nn


def sampling_weights(labels: Tensor) -> Tensor:
    """Return a weight for each image, float64 `[N]`, inverse to the size of its class (int64 `labels` `[N]`)."""
    return 1.0 / torch.bincount(labels)[labels].double()


def class_weights(labels: Tensor, choice: str, classes: int, model: nn.Module) -> Tensor | None:
    """Return `N / (classes x images of the class)`, the weights that scikit-learn calls balanced; None for none."""
    if choice == "none":
        return None
    counts = torch.bincount(labels, minlength=classes)
    # A class without images weighs nothing: smoothed labels would give it their share times its weight.
    weights = torch.where(counts > 0, len(labels) / (len(counts) * counts.clamp(min=1)), 0.0)
    return weights.to(next(model.parameters()))
