"""A data set with its images labelled as a network's classes are numbered."""

import dataclasses
from collections.abc import Iterator

import torch
from torch import Tensor

from finetui.engine.data.image_data import ImageData
from finetui.engine.data.split import Split
from finetui.engine.data.transform import Augment, Batch, Transform
from finetui.engine.predictions.class_matching import ClassMatch


def with_classes(images: ImageData, match: ClassMatch) -> ImageData:
    """Return `images` with the network's classes, as `match` has them.

    Images of a class that the network does not know keep their place, and are labelled -1.
    """
    if match.same_order:
        return dataclasses.replace(images, classes=match.network)
    places = torch.from_numpy(match.places)
    val, test = (None if part is None else RelabelledSplit(part, places) for part in (images.val, images.test))
    train = RelabelledSplit(images.train, places)
    return dataclasses.replace(images, classes=match.network, train=train, val=val, test=test)


class RelabelledSplit:
    """The images of `split` with `places[label]` for each label; `places` is int64 `[classes]`, on the CPU."""

    def __init__(self, split: Split, places: Tensor) -> None:
        self.labels = places[split.labels]
        self._split = split
        self._places = places

    @property
    def in_memory(self) -> bool:
        """Whether `item` costs next to nothing."""
        return self._split.in_memory

    @property
    def skipped(self) -> frozenset[int]:
        """The indices that are missing from the batch yielded last."""
        return self._split.skipped

    @property
    def draws(self) -> bool:
        """Whether its images are another draw of random numbers each time that they are read."""
        return self._split.draws

    @property
    def waited(self) -> float:
        """Seconds of waiting for images."""
        return self._split.waited

    @property
    def copied(self) -> float:
        """Seconds of waiting for copies to the device."""
        return self._split.copied

    def __len__(self) -> int:
        return len(self._split)

    def batches(
        self, order: Tensor, batch_size: int, augment: Augment | None = None, seeds: Tensor | None = None
    ) -> Iterator[Batch]:
        """Yield the images `order` in batches; see `Split`."""
        for inputs, labels in self._split.batches(order, batch_size, augment, seeds):
            yield inputs, self._places.to(labels.device)[labels]

    def with_transform(self, transform: Transform) -> "RelabelledSplit":
        """Return the same images with another input transform."""
        return RelabelledSplit(self._split.with_transform(transform), self._places)

    def take_problems(self) -> list[str]:
        """Return what could not be read since the last call."""
        return self._split.take_problems()

    def item(self, index: int) -> Tensor:
        """Return an image as it is stored. Raises `Unreadable`."""
        return self._split.item(index)

    def file(self, index: int) -> str:
        """Return the path of an image's file, if it has one."""
        return self._split.file(index)

    def close(self) -> None:
        """End worker processes, if there are any."""
        self._split.close()
