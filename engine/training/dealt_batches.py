"""The batches of a training, of which each rank reads and computes its own part."""

from collections.abc import Iterator

import torch
from torch import Tensor

from finetui.engine.data import Split
from finetui.engine.data.transform import Augment, Batch, Part
from finetui.engine.distributed.dealing import Dealt, copied, deal
from finetui.engine.distributed.ranks import Ranks


class DealtBatches:
    """Reads what `ranks` have of each batch of `data`; `class_weights` are those of the loss, float32 `[classes]`.

    A rank gets `least` images or none; with `together` (statistics of all ranks' images) batches that are too small to
    be divided are computed by all. `now` tells how the batch that comes next, or was yielded last, is divided, and
    `weight` the sum of the weights of its images on all ranks.
    """

    def __init__(
        self,
        data: Split,
        ranks: Ranks,
        class_weights: Tensor | None,
        least: int,
        device: torch.device,
        *,
        together: bool,
    ) -> None:
        self._device = device
        self.now = Dealt(0, (0,) * ranks.world, (0,) * ranks.world)
        self.weight = 0.0
        self._data = data
        self._ranks = ranks
        self._class_weights = None if class_weights is None else class_weights.double().cpu()
        self._least = least
        self._together = together
        # Which images cannot be read only the rank knows that tried.
        self._uncertain = ranks.any_flag(not data.in_memory or bool(getattr(data, "unreadable", ())))

    @property
    def images(self) -> int:
        """How many images the batch has on all ranks."""
        return sum(self.now.sizes)

    @property
    def copied(self) -> bool:
        """Whether every one of several ranks has all images of the batch."""
        return self._ranks.world > 1 and min(self.now.sizes) == self.now.total

    @property
    def part(self) -> Part:
        """Which images of the batch this rank has."""
        return self.now.starts[self._ranks.rank], self.now.total

    def weight_of(self, labels: Tensor) -> float:
        """Return the sum of the weights of images with these `labels`."""
        if self._class_weights is None:
            return float(len(labels))
        return float(self._class_weights[labels.cpu()].sum())

    def batches(self, order: Tensor, batch_size: int, augment: Augment | None, seeds: Tensor | None) -> Iterator[Batch]:
        """Yield this rank's part of each batch of the images `order`; it may be empty."""
        whole = len(order) // batch_size * batch_size
        for part, size in ((slice(0, whole), batch_size), (slice(whole, None), len(order) - whole)):
            if len(order[part]):
                yield from self._alike(order[part], size, augment, seeds if seeds is None else seeds[part])

    def _alike(self, order: Tensor, size: int, augment: Augment | None, seeds: Tensor | None) -> Iterator[Batch]:
        """Yield this rank's part of batches that are all of `size`."""
        small = self._together and size < self._ranks.world
        dealt = copied(size, self._ranks.world) if small else deal(size, self._ranks.world, self._least)
        start, count = dealt.starts[self._ranks.rank], dealt.sizes[self._ranks.rank]

        def own(values: Tensor) -> Tensor:
            return values.view(-1, size)[:, start : start + count].reshape(-1)

        empty = torch.empty(0, 1, 1, 1, device=self._device), torch.empty(0, dtype=torch.int64, device=self._device)
        read = self._data.batches(own(order), count, augment, seeds if seeds is None else own(seeds)) if count else None
        for batch in order.view(-1, size):
            self.now = dealt
            images, labels = next(read) if read is not None else empty
            if self._uncertain:
                found = self._ranks.begin_gather((len(labels), self.weight_of(labels)))()
                enough = [one if one[0] >= self._least else (0, 0.0) for one in found]
                self.now = dealt._replace(sizes=tuple(int(some) for some, _ in enough))
                self.weight = sum(weight for _, weight in enough)
            else:
                self.weight = self.weight_of(self._data.labels[batch]) * (self._ranks.world if small else 1)
            yield images, labels
