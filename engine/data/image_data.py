"""A data set ready to be trained on, and how sources become one: kept resident or streamed."""

import dataclasses
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
import torch

from engine.config import DataConfig
from engine.data.download import Progress
from engine.data.resident import ResidentSplit
from engine.data.split import Source, Split, Unreadable
from engine.data.streaming import StreamedSplit
from engine.data.transform import Transform
from engine.errors import BadInput, Cancelled

MOST_PROBLEMS = 1000
_MOST_RESIDENT = 4 * 2**30  # bytes
_FREE_SHARE = 0.25
_SAMPLE = 1000  # images that mean and deviation of a streamed set are computed from
_CHUNK = 64  # images at a time in a thread
_THREADS = 4


@dataclass(frozen=True)
class ImageData:
    """A data set. `name` is what is used, `requested` what was asked for; `notices` say why they differ.

    `mean` and `std` have a number for each of `channels`; `location` is where it came from, `loader` how it is held,
    for people. `problems` lists what was skipped.
    """

    name: str
    requested: str
    classes: tuple[str, ...]
    train: Split
    test: Split
    mean: tuple[float, ...]
    std: tuple[float, ...]
    channels: int
    height: int
    width: int
    location: str
    notices: tuple[str, ...]
    loader: str = "resident"
    problems: tuple[str, ...] = ()

    def with_transform(self, transform: Transform) -> "ImageData":
        """Return the same images with another input transform."""
        return dataclasses.replace(
            self,
            train=self.train.with_transform(transform),
            test=self.test.with_transform(transform),
            mean=transform.mean,
            std=transform.std,
        )


@dataclass(frozen=True)
class Found:
    """Sources of a data set before its images are read; `shape` is `(channels, height, width)` of every image."""

    name: str
    requested: str
    classes: tuple[str, ...]
    train: Source
    test: Source
    shape: tuple[int, int, int]
    location: str
    is_float: bool = False
    notices: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def free_memory(device: torch.device) -> int:
    """Return the bytes that are free on `device`, or for what shares the machine's memory, in that."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def hold(
    found: Found, request: DataConfig, device: torch.device, progress: Progress, cancelled: Callable[[], bool]
) -> ImageData:
    """Return the data set `found`, resident on `device` or streamed as `request.loader` says.

    Raises `BadInput` when nothing can be read, `Cancelled`.
    """
    count = len(found.train.labels) + len(found.test.labels)
    size = count * int(np.prod(found.shape)) * (4 if found.is_float else 1)
    free = free_memory(device)
    fits = size <= min(free * _FREE_SHARE, _MOST_RESIDENT)
    if request.loader == "stream" or (request.loader == "auto" and not fits):
        return _streamed(found, request, device, f"streamed by {request.workers} workers, {_bytes(size)}")
    return _resident(found, device, f"resident, {_bytes(size)} of {_bytes(free)} free", progress, cancelled)


def _resident(
    found: Found, device: torch.device, loader: str, progress: Progress, cancelled: Callable[[], bool]
) -> ImageData:
    name = f"Reading {found.name}"
    total = len(found.train.labels) + len(found.test.labels)
    parts = []
    problems = list(found.problems)
    done = 0
    for source in (found.train, found.test):
        start = done
        images, labels, bad = load_all(
            source, found.shape, found.is_float, partial(_report, progress, name, start, total), cancelled
        )
        parts.append((images, labels))
        problems += bad
        done += len(source.labels)
    for (images, _), what in zip(parts, ("training", "test"), strict=True):
        if not len(images):
            raise BadInput(f"none of the {what} images in {found.location} can be read; look at its files")
    mean, std = ((0.0,), (1.0,)) if found.is_float else mean_and_std(parts[0][0], found.location)
    if found.is_float:
        mean, std = mean * found.shape[0], std * found.shape[0]
    train, test = (
        ResidentSplit(torch.from_numpy(images).to(device), torch.from_numpy(labels).to(device), mean, std)
        for images, labels in parts
    )
    return _image_data(found, train, test, mean, std, loader, problems)


def _report(progress: Progress, name: str, before: int, total: int, done: int) -> None:
    progress(name, before + done, total)


def _streamed(found: Found, request: DataConfig, device: torch.device, loader: str) -> ImageData:
    if found.is_float:
        mean, std = (0.0,) * found.shape[0], (1.0,) * found.shape[0]
    else:
        count = len(found.train.labels)
        indices = np.unique(np.linspace(0, count - 1, min(_SAMPLE, count)).astype(int))
        sample, _, _ = _load_chunk(found.train, indices.tolist(), found.shape, False)
        if not len(sample):
            raise BadInput(f"none of the training images in {found.location} can be read; look at its files")
        mean, std = mean_and_std(sample, found.location)
    transform = Transform(mean=mean, std=std)
    train, test = (StreamedSplit(source, transform, device, request.workers) for source in (found.train, found.test))
    return _image_data(found, train, test, mean, std, loader, list(found.problems))


def _image_data(
    found: Found,
    train: Split,
    test: Split,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    loader: str,
    problems: list[str],
) -> ImageData:
    notices = found.notices
    if problems:
        notices = (*notices, f"{len(problems):,} files or classes were skipped; the log lists them")
    if len(problems) > MOST_PROBLEMS:
        problems = [*problems[:MOST_PROBLEMS], f"and {len(problems) - MOST_PROBLEMS:,} more"]
    channels, height, width = found.shape
    return ImageData(
        name=found.name,
        requested=found.requested,
        classes=found.classes,
        train=train,
        test=test,
        mean=mean,
        std=std,
        channels=channels,
        height=height,
        width=width,
        location=found.location,
        notices=notices,
        loader=loader,
        problems=tuple(problems),
    )


_Chunk = tuple[npt.NDArray[Any], list[int], list[str]]  # images, their indices, problems


def load_all(
    source: Source,
    shape: tuple[int, int, int],
    is_float: bool,
    progress: Callable[[int], None],
    cancelled: Callable[[], bool],
) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64], list[str]]:
    """Return all readable images, uint8 or float32 `[N, C, H, W]`, their labels, and what could not be read.

    `progress(done)` counts images. Raises `Cancelled`.
    """
    count = len(source.labels)
    images = np.empty((count, *shape), dtype=np.float32 if is_float else np.uint8)
    good = np.zeros(count, dtype=bool)
    problems: dict[int, list[str]] = {}
    chunks = [range(start, min(start + _CHUNK, count)) for start in range(0, count, _CHUNK)]
    done = 0
    # Pillow lets go of the interpreter while it decodes and resizes.
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="finetui-decode") as pool:
        waiting: dict[Future[_Chunk], range] = {
            pool.submit(_load_chunk, source, chunk, shape, is_float): chunk for chunk in chunks
        }
        for future in as_completed(waiting):
            if cancelled():
                pool.shutdown(wait=False, cancel_futures=True)
                raise Cancelled("reading the data was cancelled")
            loaded, indices, bad = future.result()
            images[indices] = loaded
            good[indices] = True
            chunk = waiting.pop(future)
            problems[chunk.start] = bad
            done += len(chunk)
            progress(done)
    listed = [problem for start in sorted(problems) for problem in problems[start]]
    labels = source.labels
    return (images, labels, listed) if good.all() else (images[good], labels[good], listed)


def _load_chunk(source: Source, indices: Sequence[int], shape: tuple[int, int, int], is_float: bool) -> _Chunk:
    images, good, problems = [], [], []
    for index in indices:
        try:
            images.append(source.load(index))
            good.append(index)
        except Unreadable as problem:
            problems.append(f"{source.describe(index)}: {problem}")
    empty = np.empty((0, *shape), dtype=np.float32 if is_float else np.uint8)
    return (np.stack(images) if images else empty), good, problems


def mean_and_std(images: npt.NDArray[np.uint8], location: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each channel of `images`, uint8 `[N, C, H, W]`, scaled to [0, 1].

    Exact: bytes have 256 values, so counting them is enough. Raises `BadInput` when all pixels are the same.
    """
    means, deviations = [], []
    values = np.arange(256) / 255
    for channel in range(images.shape[1]):
        counts = np.zeros(256, dtype=np.int64)
        for start in range(0, len(images), 4096):
            counts += np.bincount(images[start : start + 4096, channel].ravel(), minlength=256)
        mean = float((counts * values).sum() / counts.sum())
        means.append(mean)
        deviations.append(float(np.sqrt((counts * (values - mean) ** 2).sum() / counts.sum())))
    if not any(deviations):
        raise BadInput(f"all training images in {location} are one and the same colour; look at its files")
    # A channel without any variation tells nothing; it must not be divided by 0.
    return tuple(means), tuple(deviation or 1.0 for deviation in deviations)


def _bytes(count: float) -> str:
    for unit in ("B", "KB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
