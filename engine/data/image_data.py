"""A data set ready to be trained on, and how sources become one: kept resident or streamed."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
import torch

from finetui.engine.data.download import Progress
from finetui.engine.data.known import ImageKeys
from finetui.engine.data.parallel import for_each
from finetui.engine.data.resident import ResidentSplit
from finetui.engine.data.split import Source, Split, Unreadable
from finetui.engine.data.streaming import StreamedSplit
from finetui.engine.data.transform import Transform
from finetui.engine.errors import BadInput
from finetui.engine.protocol.config import DataConfig
from finetui.engine.protocol.description import DataDescription

MOST_PROBLEMS = 1000
_MOST_RESIDENT = 4 * 2**30  # bytes
_FREE_SHARE = 0.25
_SAMPLE = 1000  # images that mean and deviation of a streamed set are computed from
_MOST_REASONS = 3  # that the sentence about what was skipped names


@dataclass(frozen=True)
class ImageData:
    """A data set. `name` is what is used, `requested` what was asked for; `notices` say why they differ.

    `mean` and `std` have a number for each of `channels`; `location` is where it came from, `loader` how it is held,
    for people. `problems` lists what was skipped. `description` and `keys` say what the images are (see `Known`);
    `unused` counts those that are new to a run whose parts were drawn, and `differences` says in sentences how the data
    is not what a run saw.
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
    description: DataDescription | None = None
    keys: ImageKeys = dataclasses.field(default_factory=dict)
    unused: int = 0
    differences: tuple[str, ...] = ()

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
    description: DataDescription | None = None
    keys: ImageKeys = dataclasses.field(default_factory=dict)
    unused: int = 0


def free_memory(device: torch.device) -> int:
    """Return the bytes that are free on `device`, or for what shares the machine's memory, in that."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def hold(
    found: Found, request: DataConfig, device: torch.device, progress: Progress, cancelled: Callable[[], bool]
) -> ImageData:
    """Return the data set `found`, resident on `device` or streamed as `request.loader` says.

    Raises `BadInput` when nothing can be read or it cannot be held, `Cancelled`.
    """
    count = len(found.train.labels) + len(found.test.labels)
    size = count * int(np.prod(found.shape)) * (4 if found.is_float else 1)
    free = free_memory(device)
    fits = size <= min(free * _FREE_SHARE, _MOST_RESIDENT)
    if request.loader == "stream" or (request.loader == "auto" and not fits):
        return _streamed(found, request, device, streamed_by(request.workers, size), progress, cancelled)
    if size > free:
        raise BadInput(
            f"data.loader (--loader): {found.name} needs {_bytes(size)} to be resident, and {_bytes(free)} are free; "
            "use stream or auto"
        )
    return _resident(found, device, resident_in(size, free), progress, cancelled)


def resident_in(size: int, free: int) -> str:
    """Return how `size` bytes are held on a device that had `free` bytes, for people."""
    return f"resident, {_bytes(size)} of {_bytes(free)} free"


def streamed_by(workers: int, size: int) -> str:
    """Return how `size` bytes are streamed, for people."""
    return f"streamed by {workers} worker{'s' if workers > 1 else ''}, {_bytes(size)}"


def _resident(
    found: Found, device: torch.device, loader: str, progress: Progress, cancelled: Callable[[], bool]
) -> ImageData:
    total = len(found.train.labels) + len(found.test.labels)
    parts = []
    problems = list(found.problems)
    done = 0
    for source, what in ((found.train, "training"), (found.test, "test")):
        tell = partial(_report, progress, f"Reading {found.name}", done, total)
        indices = range(len(source.labels))
        images, good, bad = load_all(source, indices, found.shape, found.is_float, tell, cancelled)
        labels = source.labels if len(good) == len(indices) else source.labels[good]
        # A source has files for all of its images, or for none.
        files = [source.file(index) for index in good] if good and source.file(good[0]) else []
        parts.append((images, labels, files))
        problems += bad
        done += len(indices)
        _require_some(len(images), what, found.location, problems)
    mean, std = _moments(found, parts[0][0])
    train, test = (
        ResidentSplit(torch.from_numpy(images).to(device), torch.from_numpy(labels).to(device), mean, std, files=files)
        for images, labels, files in parts
    )
    return _image_data(found, train, test, mean, std, loader, problems)


def _require_some(count: int, what: str, location: str, problems: Sequence[str]) -> None:
    if not count:
        raise BadInput(
            f"none of the {what} images in {location} can be read ({problems[-1] if problems else 'there are none'}); "
            "look at its files"
        )


def _report(progress: Progress, name: str, before: int, total: int, done: int) -> None:
    progress(name, before + done, total)


def _moments(found: Found, images: npt.NDArray[Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if found.is_float:
        return (0.0,) * found.shape[0], (1.0,) * found.shape[0]
    return mean_and_std(images, found.location)


def _streamed(
    found: Found,
    request: DataConfig,
    device: torch.device,
    loader: str,
    progress: Progress,
    cancelled: Callable[[], bool],
) -> ImageData:
    count = len(found.train.labels)
    indices = np.unique(np.linspace(0, count - 1, min(_SAMPLE, count)).astype(int)).tolist()
    tell = partial(_report, progress, f"Sampling {found.name}", 0, len(indices))
    # What cannot be read is told when a worker meets it.
    sample, _, bad = load_all(found.train, indices, found.shape, found.is_float, tell, cancelled)
    _require_some(len(sample), "training", found.location, bad)
    mean, std = _moments(found, sample)
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
        notices = (*notices, _counts(problems))
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
        description=found.description,
        keys=found.keys,
        unused=found.unused,
    )


def _counts(problems: Sequence[str]) -> str:
    """Return one sentence with the counts of `problems` ("PATH: why") by what is wrong."""
    reasons = Counter(problem.partition(": ")[2].partition(" (")[0].partition(";")[0] for problem in problems)
    listed = ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common(_MOST_REASONS))
    more = ", and others" if len(reasons) > _MOST_REASONS else ""
    what = "file or class was" if len(problems) == 1 else "files or classes were"
    return f"{len(problems):,} {what} skipped ({listed}{more}); the log lists them"


def load_all(
    source: Source,
    indices: Sequence[int],
    shape: tuple[int, int, int],
    is_float: bool,
    tell: Callable[[int], None],
    cancelled: Callable[[], bool],
) -> tuple[npt.NDArray[Any], list[int], list[str]]:
    """Return the readable ones of the images `indices`, uint8 or float32 `[N, C, H, W]`; which these are; and what is
    wrong with the others.

    `tell(done)` counts images. Raises `Cancelled`.
    """
    images = np.empty((len(indices), *shape), dtype=np.float32 if is_float else np.uint8)
    problems: dict[int, str] = {}

    def load(place: int) -> None:
        try:
            images[place] = source.load(indices[place])
        except Unreadable as problem:
            problems[place] = f"{source.describe(indices[place])}: {problem}"

    for_each(load, len(indices), tell=tell, cancelled=cancelled, threads=source.threads)
    if not problems:
        return images, list(indices), []
    good = [place for place in range(len(indices)) if place not in problems]
    return images[good], [indices[place] for place in good], [problems[place] for place in sorted(problems)]


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
