"""How many steps an epoch has: batch normalisation cannot train on a single image."""

from torch import nn


def steps_per_epoch(model: nn.Module, images: int, batch_size: int) -> int:
    """Return the number of steps that see `images` images.

    Batch normalisation cannot train on a single image, so where the model has some, a last batch of one is left out
    (of another image in every epoch).
    """
    full, rest = divmod(images, batch_size)
    return full + (rest > 1 or (rest == 1 and (not has_batch_norm(model) or full == 0)))


def has_batch_norm(model: nn.Module) -> bool:
    """Return whether `model` has batch normalisation, which needs two images a step."""
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())
