"""Data sets that are decoded anew for every epoch, by worker processes."""

import multiprocessing
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from engine.data.split import Source, Unreadable
from engine.data.transform import Augment, Batch, Finisher, Transform

_PREFETCH = 4  # batches for each worker
_Loaded = tuple[Tensor, Tensor, list[str]]  # images, labels, problems


class _Images(Dataset[Any]):
    """What the workers get: the source, by index; a problem takes an image's place."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def __getitem__(self, index: int) -> tuple[Any, int] | str:
        try:
            return self._source.load(index), int(self._source.labels[index])
        except Unreadable as problem:
            return f"{self._source.describe(index)}: {problem}"


def _collate(items: list[tuple[Any, int] | str]) -> _Loaded:
    found = [item for item in items if not isinstance(item, str)]
    problems = [item for item in items if isinstance(item, str)]
    if not found:
        return torch.empty(0, 1, 1, 1), torch.empty(0, dtype=torch.int64), problems
    images = torch.stack([torch.from_numpy(image) for image, _ in found])
    return images, torch.tensor([label for _, label in found]), problems


class _Plan:
    """The batch sampler: an explicit list of batches, so that an epoch can be continued where it was left."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


class StreamedSplit:
    """A training or test set that is decoded by `workers` processes; they start with the first batch."""

    def __init__(self, source: Source, transform: Transform, device: torch.device, workers: int) -> None:
        self.labels = torch.from_numpy(source.labels)
        self._source = source
        self._device = device
        self._workers = workers
        self._finish = Finisher(transform, device)
        self._plan = _Plan()
        self._loader: DataLoader[Any] | None = None
        self._problems: list[str] = []
        self._told: set[str] = set()

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, order: Tensor, batch_size: int, augment: Augment | None = None) -> Iterator[Batch]:
        """Yield the images `order` in batches; see `Split`."""
        self._plan.batches = [batch.tolist() for batch in torch.split(order, batch_size)]
        if self._loader is None:
            self._loader = self._start()
        for images, labels, problems in self._loader:
            self._note(problems)
            on_device = images.to(self._device, non_blocking=True)
            inputs = self._finish(on_device, augment) if len(labels) else on_device
            yield inputs, labels.to(self._device, non_blocking=True)

    def _start(self) -> DataLoader[Any]:
        # Not fork: the engine has threads, and CUDA does not survive a fork.
        methods = multiprocessing.get_all_start_methods()
        return DataLoader(
            _Images(self._source),
            batch_sampler=self._plan,
            num_workers=self._workers,
            collate_fn=_collate,
            pin_memory=self._device.type == "cuda",
            prefetch_factor=_PREFETCH,
            persistent_workers=True,
            multiprocessing_context="forkserver" if "forkserver" in methods else "spawn",
        )

    def _note(self, problems: list[str]) -> None:
        # The same file is unreadable in every epoch; it is told once.
        fresh = [problem for problem in problems if problem not in self._told]
        self._told.update(fresh)
        self._problems += fresh

    def with_transform(self, transform: Transform) -> "StreamedSplit":
        """Return the same images with another input transform, and workers of its own."""
        return StreamedSplit(self._source, transform, self._device, self._workers)

    def take_problems(self) -> list[str]:
        """Return the files that proved unreadable since the last call."""
        found, self._problems = self._problems, []
        return found

    def item(self, index: int) -> Tensor:
        """Return an image as it is decoded. Raises `Unreadable`."""
        return torch.from_numpy(self._source.load(index))

    def close(self) -> None:
        """End the worker processes."""
        # The loader's iterator owns the processes and ends them when nothing refers to it any more.
        self._loader = None
