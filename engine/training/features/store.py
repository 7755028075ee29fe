"""Where features are kept: in memory, on the device or beside it, or in a mapped file."""

import errno
import math
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from finetui.engine.data.image_data import free_memory
from finetui.engine.protocol.values import FeaturePlace

_MEMORY_SHARE = 0.25  # of what is free
_DEVICE_SHARE = 0.1  # where the activations of a step, which are not there yet, have to fit as well
_DISK_SHARE = 0.25
_MOST_ON_DISK = 32 * 2**30  # bytes
_MOST_TIMES_IMAGE = {"file": 2, "memory": 8}  # more than that is slower to move than to compute


@dataclass(frozen=True)
class Spec:
    """What is kept of an image in one tensor: its shape as it lies in memory, and where its dimensions belong."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    dimensions: tuple[int, ...]  # of the tensor as it lies in memory, batch first

    @classmethod
    def of(cls, tensor: Tensor) -> "Spec":
        """Return the specification for tensors such as `tensor`, `[B, ...]`."""
        order = (0, *sorted(range(1, tensor.ndim), key=tensor.stride, reverse=True))
        if tensor.is_contiguous() or not tensor.permute(order).is_contiguous():
            order = tuple(range(tensor.ndim))
        return cls(tuple(tensor.shape[dimension] for dimension in order[1:]), tensor.dtype, order)

    @property
    def bytes(self) -> int:
        """The bytes of an image."""
        return math.prod(self.shape) * self.dtype.itemsize

    def lying(self, tensor: Tensor) -> Tensor:
        """Return `tensor`, `[B, ...]`, as it is kept."""
        return tensor.permute(self.dimensions)

    def standing(self, kept: Tensor) -> Tensor:
        """Return what is kept of some images as the network had returned it."""
        return kept.permute(tuple(self.dimensions.index(place) for place in range(len(self.dimensions))))


class NoRoom(Exception):
    """Features fit nowhere; the message says why."""


def choose_place(size: int, images: int, image_bytes: int, device: torch.device, folder: Path | None) -> FeaturePlace:
    """Return where `size` bytes for so many `images` are kept: on the device, in memory, or in a file in `folder`.

    A tenth of what is free on a device, else a quarter, may be taken, of a disk at most 32 GB; and no more than a few
    times what the images take as the network's input, `image_bytes` each. Raises `NoRoom`.
    """
    times = size / max(images * image_bytes, 1)
    cpu = torch.device("cpu")
    if times > _MOST_TIMES_IMAGE["memory"]:
        raise NoRoom(f"they are {times:.0f} times as large as the images")
    if device.type != "cpu" and size <= free_memory(device) * _DEVICE_SHARE:
        return "device"
    if size <= free_memory(cpu) * _MEMORY_SHARE:
        return "memory"
    if folder is None:
        raise NoRoom("they do not fit into a quarter of the free memory")
    if times > _MOST_TIMES_IMAGE["file"]:
        raise NoRoom(f"they do not fit into memory, and are {times:.0f} times as large as the images")
    if size > min(shutil.disk_usage(folder).free * _DISK_SHARE, _MOST_ON_DISK):
        raise NoRoom("they do not fit into a quarter of the free memory, nor of the free disk (at most 32 GB)")
    return "file"


class FeatureStore:
    """Keeps tensors for each of `images` images; they are added in order, in blocks, then `gather` finds them.

    `place` is where; a file needs `folder`, and is there until `close`. What could not be read has no features.
    Raises OSError when the disk is full, MemoryError or RuntimeError when the memory is.
    """

    def __init__(
        self, specs: Sequence[Spec], images: int, place: FeaturePlace, device: torch.device, folder: Path | None
    ) -> None:
        self.place = place
        self.bytes = images * sum(spec.bytes for spec in specs)
        self.done = 0
        self.missing = torch.zeros(images, dtype=torch.bool)
        self._specs = tuple(specs)
        self._images = images
        self._device = device
        self._files: list[Path] = []
        where = device if place == "device" else torch.device("cpu")
        if place == "file":
            assert folder is not None, "a file is in a folder"
            self._files = [folder / f"{STEM}{number}.bin" for number in range(len(specs))]
        self._held = (
            [torch.empty((images, *spec.shape), dtype=spec.dtype, device=where) for spec in specs]
            if place != "file"
            else [self._mapped(path, spec) for path, spec in zip(self._files, specs, strict=True)]
        )

    def _mapped(self, path: Path, spec: Spec) -> Tensor:
        path.unlink(missing_ok=True)
        size = self._images * spec.bytes
        with path.open("wb") as file:
            # All of it now: where the disk is full, a write into the mapping would be the end of the process.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, max(size, 1))
            else:
                for start in range(0, max(size, 1), 2**24):
                    file.write(bytes(min(2**24, max(size, 1) - start)))
        flat = torch.from_file(str(path), shared=True, size=self._images * math.prod(spec.shape), dtype=spec.dtype)
        return flat.view(self._images, *spec.shape)

    def add(self, tensors: Sequence[Tensor], indices: Sequence[int], upto: int) -> None:
        """Add `tensors`, `[B, ...]`, of the images `indices`; those before `upto` that are missing have none.

        Without `tensors` it is only noted which images there are.
        """
        whole = len(indices) == upto - self.done
        if not whole:
            self.missing[self.done : upto] = True
            self.missing[list(indices)] = False
        first, self.done = self.done, upto
        if not tensors:
            return
        for held, spec, tensor in zip(self._held, self._specs, tensors, strict=True):
            if whole:
                held[first:upto].copy_(spec.lying(tensor))
            else:
                held[torch.tensor(indices, device=held.device)] = spec.lying(tensor).to(held.device)

    def gather(self, indices: Tensor) -> list[Tensor]:
        """Return the features of `indices` (int64 `[B]`, on the CPU), on the device, each as the network had it."""
        found = []
        for held, spec in zip(self._held, self._specs, strict=True):
            taken = held.index_select(0, indices.to(held.device))
            found.append(spec.standing(taken.to(self._device)))
        return found

    def close(self) -> None:
        """Give back the memory, and remove the files."""
        self._held = []
        for path in self._files:
            path.unlink(missing_ok=True)


STEM = "features-"


def is_full(error: Exception) -> bool:
    """Whether memory or disk ran out."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.ENOMEM)
    # The processor's memory has no error of its own in torch.
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or (
        isinstance(error, RuntimeError) and "allocate memory" in str(error).lower()
    )


def remove_stale(folder: Path) -> None:
    """Remove what an engine that was killed has left in `folder`."""
    for path in folder.glob(f"{STEM}*.bin"):
        path.unlink(missing_ok=True)
