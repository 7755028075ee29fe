"""What the training loop needs of a part of a data set, and what is needed to make one."""

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from torch import Tensor

from finetui.engine.data.transform import Augment, Batch, Transform


class Unreadable(Exception):
    """An image cannot be read; the message says why in a few words."""


class Source(Protocol):
    """Where images come from, one by one; can be pickled, for worker processes."""

    @property
    def threads(self) -> int:
        """How many threads of one process may call `load` at a time."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of every image."""

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """The classes of the images, `[N]`."""

    @property
    def draws(self) -> bool:
        """Whether `load` draws random numbers."""

    def load(self, index: int, seed: int | None = None) -> npt.NDArray[Any]:
        """Return an image, uint8 or float32 `[C, H, W]`, the same shape for all. Raises `Unreadable`.

        What it draws depends on `seed` alone; None: on the index alone.
        """

    def describe(self, index: int) -> str:
        """Return what a person calls the image: its path, its place."""

    def file(self, index: int) -> str:
        """Return the absolute path of the image's file; empty where it has none of its own."""


class Split(Protocol):
    """Labelled images of a training or test set. One iteration at a time: of a
    streamed one, a new iteration ends the one before, which raises RuntimeError when it is continued."""

    @property
    def labels(self) -> Tensor:
        """The classes of the images, int64 `[N]`, on the CPU."""

    @property
    def in_memory(self) -> bool:
        """Whether `item` costs next to nothing."""

    @property
    def skipped(self) -> frozenset[int]:
        """The indices that are missing from the batch yielded last, because they proved unreadable."""

    @property
    def draws(self) -> bool:
        """Whether its images are another draw of random numbers each time that they are read."""

    @property
    def waited(self) -> float:
        """Seconds, in all, for which whoever iterates has waited for images that were still being read."""

    @property
    def copied(self) -> float:
        """Seconds, in all, for which it has waited for copies to the device."""

    def __len__(self) -> int: ...

    def batches(
        self, order: Tensor, batch_size: int, augment: Augment | None = None, seeds: Tensor | None = None
    ) -> Iterator[Batch]:
        """Yield inputs, float32 `[B, C, H, W]`, and labels, int64 `[B]`, on the device, for the indices `order`.

        `augment` is called right before its batch is yielded. Where files prove unreadable a batch is smaller
        than `batch_size`, or empty. Of images that `draws`, `seeds` (int64, one for each of `order`) says which draw;
        None: the one that belongs to the image.
        """

    def with_transform(self, transform: Transform) -> "Split":
        """Return the same images with another input transform."""

    def take_problems(self) -> list[str]:
        """Return what could not be read since the last call."""

    def item(self, index: int) -> Tensor:
        """Return an image as it is stored, uint8 (or float32) `[C, H, W]`, on the CPU. Raises `Unreadable`."""

    def file(self, index: int) -> str:
        """Return the absolute path of an image's file; empty where it has none of its own."""

    def close(self) -> None:
        """End worker processes, if there are any."""
