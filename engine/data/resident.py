"""Data sets held as bytes on the training device: a batch is gathered, cast and normalised there."""

from collections.abc import Sequence

import torch
from torch import Tensor


class ResidentSplit:
    """Images and labels of a training or test set.

    `images` is uint8 `[N, C, H, W]` and `labels` int64 `[N]`, both on the device; `mean` and `std` have a number for
    each channel and are subtracted from, and divided by, pixels in [0, 1].
    """

    def __init__(self, images: Tensor, labels: Tensor, mean: Sequence[float], std: Sequence[float]) -> None:
        self.images = images
        self.labels = labels
        self.mean = torch.tensor(mean, dtype=torch.float32, device=images.device).view(1, -1, 1, 1)
        self.std = torch.tensor(std, dtype=torch.float32, device=images.device).view(1, -1, 1, 1)

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return the images `indices` (int64 `[B]`, on the device), normalised, float32 `[B, C, H, W]`, and their
        labels, int64 `[B]`.
        """
        return self._normalise(self.images[indices]), self.labels[indices]

    def slice(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Return images (float32 `[B, C, H, W]`, normalised) and labels (int64 `[B]`) from `start` up to `stop`.

        `stop` may lie behind the end: the last batch is then shorter.
        """
        return self._normalise(self.images[start:stop]), self.labels[start:stop]

    def _normalise(self, images: Tensor) -> Tensor:
        # The operations of torchvision's ToTensor and Normalize, in their order: the same numbers, bit for bit.
        return images.to(torch.float32).div_(255).sub_(self.mean).div_(self.std)


def epoch_order(n: int, seed: int, epoch: int, device: torch.device) -> Tensor:
    """Return the order in which epoch `epoch` (from 0) sees `n` images: int64 `[n]` on `device`.

    It depends on the arguments alone and uses no global generator, so a run can be continued within an epoch by its
    position, and the same seed gives the same order on every device.
    """
    # A CPU generator heeds only the low 32 bits of its seed: the high bits of ours are added to them.
    mixed = seed * 0x9E3779B97F4A7C15 + (seed >> 32) * 0xC2B2AE3D27D4EB4F + epoch
    generator = torch.Generator().manual_seed(mixed % 2**63)
    return torch.randperm(n, generator=generator).to(device)
