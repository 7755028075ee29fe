"""Data sets held as bytes on the training device: a batch is gathered, cast and normalised there."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from finetui.engine.data.transform import Augment, Batch, InputTransform, Transform

_AHEAD = 2**18  # numbers that are gathered at once: 1 MB of float32, which a processor's cache still holds


class ResidentSplit:
    """Images and labels of a training or test set.

    `images` is uint8 (or float32, used as it is) `[N, C, H, W]` and `labels` int64 `[N]`, both on the device; `mean`
    and `std` have a number for each channel and are subtracted from, and divided by, pixels in [0, 1].
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        mean: Sequence[float],
        std: Sequence[float],
        *,
        height: int = 0,
        width: int = 0,
        files: Sequence[str] = (),
    ) -> None:
        """Take the images and, where each has a file of its own, the absolute paths of the `files`."""
        self.images = images
        self.labels = labels.cpu()
        self._labels = labels
        self._files = files
        transform = Transform(mean=tuple(mean), std=tuple(std), height=height, width=width)
        self._finish = InputTransform(transform, images.device)

    in_memory = True
    skipped: frozenset[int] = frozenset()  # unreadable files were left out when the images were loaded

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, order: Tensor, batch_size: int, augment: Augment | None = None) -> Iterator[Batch]:
        """Yield the images `order` in batches; see `Split`."""
        order = order.to(self.images.device)
        # Several batches are gathered and normalised at once, which costs a small batch half of what it would alone.
        # Not so where each is augmented: that has to come before the normalisation, and right before the step.
        ahead = batch_size * (1 if augment else max(1, _AHEAD // (batch_size * self.images[0].numel())))
        for start in range(0, len(order), ahead):
            indices = order[start : start + ahead]
            images, labels = self._finish(self.images[indices], augment), self._labels[indices]
            yield from zip(torch.split(images, batch_size), torch.split(labels, batch_size), strict=True)

    def with_transform(self, transform: Transform) -> "ResidentSplit":
        """Return the same images, not copied, with another input transform."""
        return ResidentSplit(
            self.images,
            self._labels,
            transform.mean,
            transform.std,
            height=transform.height,
            width=transform.width,
            files=self._files,
        )

    def take_problems(self) -> list[str]:
        """Return nothing: all was read before."""
        return []

    def item(self, index: int) -> Tensor:
        """Return an image as it is stored, on the CPU."""
        return self.images[index].cpu()

    def file(self, index: int) -> str:
        """Return the path of an image's file, if it has one."""
        return self._files[index] if self._files else ""

    def close(self) -> None:
        """Do nothing: there are no worker processes."""


def epoch_order(n: int, seed: int, epoch: int, *, weights: Tensor | None = None) -> Tensor:
    """Return the order in which epoch `epoch` (from 0) sees `n` images: int64 `[n]`, on the CPU.

    It depends on the arguments alone and uses no global generator, so a run can be continued within an epoch by its
    position, and the same seed gives the same order on every device. With `weights` (float `[n]`) images are drawn
    with replacement, in proportion.
    """
    # A CPU generator heeds only the low 32 bits of its seed: the high bits of ours are added to them.
    mixed = seed * 0x9E3779B97F4A7C15 + (seed >> 32) * 0xC2B2AE3D27D4EB4F + epoch
    generator = torch.Generator().manual_seed(mixed % 2**63)
    if weights is None:
        return torch.randperm(n, generator=generator)
    # torch.multinomial takes at most 2^24 weights.
    bounds = weights.double().cumsum(0)
    draws = torch.rand(n, generator=generator, dtype=torch.float64) * bounds[-1]
    # right: a weight of 0 is never drawn, not even by a draw of 0.
    return torch.searchsorted(bounds, draws, right=True).clamp_(max=n - 1)
