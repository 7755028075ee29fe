"""Data sets held as bytes on the training device: a batch is gathered, cast and normalised there."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from finetui.engine.data.split import Unreadable
from finetui.engine.data.transform import Augment, Batch, InputTransform, Transform

_AHEAD = 2**18  # numbers that are gathered at once: 1 MB of float32, which a processor's cache still holds
_AHEAD_ON_GPU = 2**24  # for which each operation has its price, whatever its size


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
        unreadable: Mapping[int, str] | None = None,
    ) -> None:
        """Take the images and, where each has a file of its own, the absolute paths of the `files`.

        What cannot be read keeps its place, as in a streamed set: `unreadable` says why. No batch has it.
        """
        self.images = images
        self.labels = labels.cpu()
        self._labels = labels
        self._files = files
        transform = Transform(mean=tuple(mean), std=tuple(std), height=height, width=width)
        self._finish = InputTransform(transform, images.device)
        self.unreadable = unreadable or {}
        self.skipped: frozenset[int] = frozenset()

    in_memory = True
    draws = False  # what was read once stays as it is
    waited = copied = 0.0  # all images are there: what a batch takes is computed

    def __len__(self) -> int:
        return len(self.labels)

    def batches(
        self, order: Tensor, batch_size: int, augment: Augment | None = None, _seeds: Tensor | None = None
    ) -> Iterator[Batch]:
        """Yield the images `order` in batches; see `Split`."""
        if self.unreadable:
            yield from self._without_unreadable(order, batch_size, augment)
            return
        order = order.to(self.images.device)
        # Several batches are gathered and normalised at once, which costs a small batch half of what it would alone.
        # Not so where each is augmented: that has to come before the normalisation, and right before the step.
        most = _AHEAD if self.images.is_cpu else _AHEAD_ON_GPU
        ahead = batch_size * (1 if augment else max(1, most // (batch_size * self.images[0].numel())))
        for start in range(0, len(order), ahead):
            indices = order[start : start + ahead]
            images, labels = self._finish(self.images[indices], augment), self._labels[indices]
            yield from zip(torch.split(images, batch_size), torch.split(labels, batch_size), strict=True)

    def _without_unreadable(self, order: Tensor, batch_size: int, augment: Augment | None) -> Iterator[Batch]:
        for indices in torch.split(order, batch_size) if len(order) else ():
            good = [index for index in indices.tolist() if index not in self.unreadable]
            self.skipped = frozenset(indices.tolist()).difference(good)
            places = torch.tensor(good, dtype=torch.int64, device=self.images.device)
            images = self.images[places]
            yield self._finish(images, augment) if good else images.float(), self._labels[places]

    def renumbered(self) -> "ResidentSplit":
        """Return the readable images alone, numbered anew: as earlier versions held them."""
        good = [index for index in range(len(self)) if index not in self.unreadable]
        places = torch.tensor(good, device=self.images.device)
        transform = self._finish.transform
        files = [self._files[index] for index in good] if self._files else ()
        split = ResidentSplit(self.images[places], self._labels[places], transform.mean, transform.std, files=files)
        return split.with_transform(transform)

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
            unreadable=self.unreadable,
        )

    def take_problems(self) -> list[str]:
        """Return nothing: all was read before."""
        return []

    def item(self, index: int) -> Tensor:
        """Return an image as it is stored, on the CPU. Raises `Unreadable`."""
        if index in self.unreadable:
            raise Unreadable(self.unreadable[index])
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
    generator = _generator(seed, epoch)
    if weights is None:
        return torch.randperm(n, generator=generator)
    # torch.multinomial takes at most 2^24 weights.
    bounds = weights.double().cumsum(0)
    draws = torch.rand(n, generator=generator, dtype=torch.float64) * bounds[-1]
    # right: a weight of 0 is never drawn, not even by a draw of 0.
    return torch.searchsorted(bounds, draws, right=True).clamp_(max=n - 1)


def epoch_seeds(n: int, seed: int, epoch: int) -> Tensor:
    """Return the seed of what is drawn for each of the `n` images that epoch `epoch` (from 0) sees: int64 `[n]`.

    By the place in the epoch, so that an image that `epoch_order` gives twice gets two draws.
    """
    return torch.randint(2**62, (n,), generator=_generator(seed, epoch + 2**31))


def _generator(seed: int, epoch: int) -> torch.Generator:
    # A CPU generator heeds only the low 32 bits of its seed: the high bits of ours are added to them.
    mixed = seed * 0x9E3779B97F4A7C15 + (seed >> 32) * 0xC2B2AE3D27D4EB4F + epoch
    return torch.Generator().manual_seed(mixed % 2**63)
