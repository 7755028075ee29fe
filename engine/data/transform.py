"""The input transform that belongs to a network's weights, and its application to whole batches."""

import copy
from collections.abc import Callable

import msgspec
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from finetui.engine.data.buffers import Buffers

Augment = Callable[[Tensor], Tensor]
Part = tuple[int, int]  # which images of a batch are there: the first one's place, and how many the whole batch has
Augmentation = Callable[[Tensor, torch.Generator, Part | None], Tensor]
Batch = tuple[Tensor, Tensor]


class Transform(msgspec.Struct, frozen=True, kw_only=True):
    """Pixels in [0, 1], resized to `height` x `width` (0: as they are), minus `mean`, over `std`, per channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    height: int = 0
    width: int = 0


class InputTransform:
    """Turns batches of stored images into a network's inputs, on the device.

    With `one_thread` torch's threads are not used for what a CPU does in one pass: beside threads that read images they
    would take processors from these, and keep them while they spin for more to do.
    """

    def __init__(self, transform: Transform, device: torch.device, *, one_thread: bool = False) -> None:
        self.transform = transform
        self.device = device
        self._one_thread = one_thread and device.type == "cpu"
        self._buffers = Buffers()
        self._size = (transform.height, transform.width)
        self._mean = torch.tensor(transform.mean, dtype=torch.float32, device=device).view(1, -1, 1, 1)
        self._std = torch.tensor(transform.std, dtype=torch.float32, device=device).view(1, -1, 1, 1)

    def __call__(self, images: Tensor, augment: Augment | None) -> Tensor:
        """Return float32 `[B, C, H, W]` for `images`, uint8 (or float32, taken as it is) `[B, C, h, w]` on the device.

        `augment` acts on pixels in [0, 1], after resizing.
        """
        if self._one_thread and augment is None and images.dtype == torch.uint8 and not self._resizes(images):
            return self._by_this_thread(images)
        # The operations of torchvision's ToTensor and Normalize, in their order: the same numbers, bit for bit.
        values = images.to(torch.float32).div_(255) if images.dtype == torch.uint8 else images.to(torch.float32)
        if self._resizes(values):
            shrinks = values.shape[2] > self._size[0] or values.shape[3] > self._size[1]
            values = _shrunk(values, self._size) if shrinks else _enlarged(values, self._size)
        if augment is not None:
            values = augment(values)
        return values.sub_(self._mean).div_(self._std)

    def _resizes(self, images: Tensor) -> bool:
        return bool(self.transform.height) and tuple(images.shape[2:]) != self._size

    def _by_this_thread(self, images: Tensor) -> Tensor:
        values = self._buffers.empty(images.shape)
        mean, std = (np.broadcast_to(of.numpy().ravel(), images.shape[1]) for of in (self._mean, self._std))
        for image, into in zip(images.numpy(), values.numpy(), strict=True):
            for channel, out, low, scale in zip(image, into, mean, std, strict=True):  # so little stays in the cache
                np.divide(channel, np.float32(255), out=out, dtype=np.float32)
                np.subtract(out, low, out=out)
                np.divide(out, scale, out=out)
        return values


def _shrunk(values: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(values, size, mode="bilinear", antialias=True)


def _enlarged(values: Tensor, size: tuple[int, int]) -> Tensor:
    # What `F.interpolate` calls, but for torch's deterministic mode, in which that takes a detour on a GPU for the sake
    # of a backward pass: slower, and with other last digits than where a network is evaluated without a run.
    found: Tensor = torch.ops.aten.upsample_bilinear2d.vec(values, list(size), False, None)
    return found


def augmentation(name: str) -> Augmentation | None:
    """Return the augmentation `name` (`none`, `light`, `standard`); its randomness comes from the generator alone.

    It takes and returns float32 `[B, C, H, W]` in [0, 1]; the generator is on the same device. Of a part of a batch it
    makes what it makes of these images in the whole batch.
    """
    if name == "none":
        return None
    from finetui.engine.data.augment import STEPS  # torchvision's transforms take a second to import

    steps = copy.deepcopy(STEPS[name])  # each keeps its generator: two runs in two threads must not share it

    def augment(images: Tensor, generator: torch.Generator, part: Part | None = None) -> Tensor:
        for step in steps:
            step.generator, step.part = generator, part
            images = step(images)
        return images

    return augment


def for_channels(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    """Return the means or deviations `values` for images of another number of channels: their mean for each."""
    if len(values) == channels:
        return values
    return (sum(values) / len(values),) * channels
