"""A data set ready to be trained on, and how sources become one: kept resident or streamed."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
import torch

from finetui.engine.data.decoded_cache import decoded_once
from finetui.engine.data.download import Progress
from finetui.engine.data.found import Found
from finetui.engine.data.moments import mean_and_std
from finetui.engine.data.parallel import for_each
from finetui.engine.data.recorded_data import ImageKeys
from finetui.engine.data.resident import ResidentSplit
from finetui.engine.data.split import Source, Split, Unreadable
from finetui.engine.data.streaming import StreamedSplit
from finetui.engine.data.transform import Transform
from finetui.engine.errors import BadInput
from finetui.engine.protocol.config import DataConfig
from finetui.engine.protocol.description import DataDescription
from finetui.engine.protocol.values import Part

MOST_PROBLEMS = 1000
_MOST_RESIDENT = 4 * 2**30  # bytes
_FREE_SHARE = 0.25
SAMPLE = 1000  # images that mean and deviation are computed from
_MOST_REASONS = 3  # that the sentence about what was skipped names

Loaded = tuple[npt.NDArray[Any], dict[int, str]]  # images, and by index what is wrong with those that are not readable


@dataclass(frozen=True)
class ImageData:
    """A data set. `name` is what is used, `requested` what was asked for; `notices` say why they differ.

    `mean` and `std` have a number for each of `channels`; `location` is where it came from, `loader` how it is held,
    for people. `problems` lists what was skipped. There is no `val` or no `test` where a data set has none, or nobody
    wants it; never neither. `sampled` images are those that `mean` and `std` were computed from; 0: nothing was
    computed. `description` and `keys` say what the images are (see `RecordedData`); `unused` counts those that
    are new to a run whose parts were drawn, and `differences` says in sentences how the data is not what a run saw.
    """

    name: str
    requested: str
    classes: tuple[str, ...]
    train: Split
    test: Split | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    channels: int
    height: int
    width: int
    location: str
    notices: tuple[str, ...]
    loader: str = "resident"
    problems: tuple[str, ...] = ()
    sampled: int = 0
    description: DataDescription | None = None
    keys: ImageKeys = dataclasses.field(default_factory=dict)
    unused: int = 0
    differences: tuple[str, ...] = ()
    val: Split | None = None

    @property
    def parts(self) -> dict[Part, Split]:
        """The parts that there are: train, val, test."""
        found: dict[Part, Split | None] = {"train": self.train, "val": self.val, "test": self.test}
        return {part: split for part, split in found.items() if split is not None}

    @property
    def stored_bytes(self) -> int:
        """What all images take as they are stored: bytes, or where nothing was computed from them, float32."""
        count = sum(map(len, self.parts.values()))
        return count * self.channels * self.height * self.width * (1 if self.sampled else 4)

    @property
    def watched(self) -> Part:
        """What is evaluated while training, and chosen by: val, and only where there is none, test."""
        return "test" if self.val is None else "val"

    @property
    def scored(self) -> Part:
        """What a trained network is scored on: test, and where there is none, val."""
        return "val" if self.test is None else "test"

    def part(self, part: Part) -> Split:
        """Return the images of `part`. Raises `BadInput` where there are none."""
        found = self.parts.get(part)
        if found is None:
            raise BadInput(f"{self.name} has no {part} part; it has {' and '.join(self.parts)}")
        return found

    def watching(self, part: Part) -> "ImageData":
        """Return the same images with `part` as that which is evaluated while training.

        A run that began when there was no val goes on with the images that it was evaluated on, as its test part.
        """
        if part == self.watched:
            return self
        if part == "test":
            return dataclasses.replace(self, val=None, test=self.test or self.val)
        raise BadInput(f"the run was evaluated on val while it trained, and {self.name} has no val images now")

    def with_transform(self, transform: Transform) -> "ImageData":
        """Return the same images with another input transform."""
        return dataclasses.replace(
            self,
            train=self.train.with_transform(transform),
            val=None if self.val is None else self.val.with_transform(transform),
            test=None if self.test is None else self.test.with_transform(transform),
            mean=transform.mean,
            std=transform.std,
        )

    def numbered_for(self, count: int) -> "ImageData":
        """Return the images as a run with `count` training images numbers them.

        Earlier versions left out what could not be read while it was made resident.
        """
        train = self.train
        if not isinstance(train, ResidentSplit) or len(train) - len(train.unreadable) != count or not train.unreadable:
            return self
        val, test = (part.renumbered() if isinstance(part, ResidentSplit) else part for part in (self.val, self.test))
        return dataclasses.replace(self, train=train.renumbered(), val=val, test=test)

    def take_problems(self) -> list[str]:
        """Return what could not be read since the last call."""
        return [problem for split in self.parts.values() for problem in split.take_problems()]

    def close(self) -> None:
        """End worker processes, if there are any."""
        for split in self.parts.values():
            split.close()


def free_memory(device: torch.device) -> int:
    """Return the bytes that are free on `device`, or for what shares the machine's memory, in that."""
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # by torch, for the next tensor
        return int(torch.cuda.mem_get_info(device)[0]) + kept
    return int(psutil.virtual_memory().available)


def hold(
    found: Found,
    request: DataConfig,
    device: torch.device,
    progress: Progress,
    cancelled: Callable[[], bool],
    *,
    seed: int = 0,
) -> ImageData:
    """Return the data set `found`, resident on `device` or streamed as `request.loader` says.

    `seed` draws the val images that `request` asks for. Raises `BadInput` when nothing can be read, it cannot be held,
    or nothing is left to evaluate on, `Cancelled`.
    """
    found = found.divided(request, seed)
    parts = found.parts
    count = sum(len(source.labels) for source in parts.values())
    size = count * int(np.prod(found.shape)) * (4 if found.is_float else 1)
    free = min(free_memory(device), free_memory(torch.device("cpu")))  # images come through the machine's memory
    fits = size <= min(free * _FREE_SHARE, _MOST_RESIDENT)
    streams = request.loader == "stream" or (request.loader == "auto" and not fits)
    if not streams and size > free:
        raise BadInput(
            f"data.loader (--loader): {found.name} needs {_bytes(size)} to be resident, and only {_bytes(free)} is "
            "free; use stream or auto"
        )
    how = ""
    if streams and request.decoded_cache == "auto":
        found, how = decoded_once(found)
        parts = found.parts
    # What draws is read anew for training alone: evaluations see the same draw.
    again = {part for part, source in parts.items() if streams or (source.draws and part == "train")}
    resident = {part: source for part, source in parts.items() if part not in again}
    loaded = _load_parts(found, resident, progress, cancelled)
    mean, std = _moments(found, loaded.get("train"), progress, cancelled)
    splits: dict[Part, Split] = {
        part: StreamedSplit(source, Transform(mean=mean, std=std), device, request.workers if streams else 0)
        if part in again
        else _resident(source, loaded[part], mean, std, device)
        for part, source in parts.items()
    }
    loader = "; ".join(filter(None, (streamed_by(request.workers, size), how))) if streams else resident_in(size, free)
    if again and not streams:
        loader = f"read again every epoch, {_bytes(size)}"
    problems = [*found.problems, *(text for part, read in loaded.items() for text in _texts(parts[part], read))]
    return image_data(found, splits, mean, std, loader, problems)


def resident_in(size: int, free: int) -> str:
    """Return how `size` bytes are held on a device that had `free` bytes, for people."""
    return f"resident, {_bytes(size)} of {_bytes(free)} free"


def streamed_by(workers: int, size: int) -> str:
    """Return how `size` bytes are streamed, for people."""
    return f"streamed by {workers} worker{'s' if workers > 1 else ''}, {_bytes(size)}"


def _load_parts(
    found: Found, parts: Mapping[Part, Source], progress: Progress, cancelled: Callable[[], bool]
) -> dict[Part, Loaded]:
    """Return all images of `parts`. Raises `BadInput` where none of one can be read."""
    total = sum(len(source.labels) for source in parts.values())
    done = 0
    loaded = {}
    for part, source in parts.items():
        tell = partial(_report, progress, f"Reading {found.name}", done, total)
        indices = range(len(source.labels))
        loaded[part] = load_all(source, indices, found.shape, found.is_float, tell, cancelled)
        done += len(indices)
        _require_some(source, loaded[part], part, found)
    return loaded


def _resident(
    source: Source, loaded: Loaded, mean: tuple[float, ...], std: tuple[float, ...], device: torch.device
) -> ResidentSplit:
    images, unreadable = loaded
    count = len(source.labels)
    # A source has files for all of its images, or for none.
    files = [source.file(index) for index in range(count)] if count and source.file(0) else []
    labels = torch.from_numpy(source.labels).to(device)
    held = torch.from_numpy(images).to(device)
    return ResidentSplit(held, labels, mean, std, files=files, unreadable=unreadable)


def _texts(source: Source, loaded: Loaded) -> list[str]:
    return [f"{source.describe(index)}: {why}" for index, why in sorted(loaded[1].items())]


def _require_some(source: Source, loaded: Loaded, part: Part, found: Found) -> None:
    if len(loaded[1]) == len(loaded[0]):
        what = "training" if part == "train" else part
        why = ([*found.problems, *_texts(source, loaded)] or ["there are none"])[-1]
        raise BadInput(f"none of the {what} images in {found.location} can be read ({why}); check its files")


def _report(progress: Progress, name: str, before: int, total: int, done: int) -> None:
    progress(name, before + done, total)


def _moments(
    found: Found, loaded: Loaded | None, progress: Progress, cancelled: Callable[[], bool]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and deviation of a sample, spread evenly over the training images, `loaded` or not: the same numbers.

    Of a large set: to decode all of a million photographs takes an hour.
    """
    count = len(found.train.labels)
    indices = np.unique(np.linspace(0, count - 1, min(SAMPLE, count)).astype(int)).tolist()
    if loaded is None:
        # What cannot be read is told when a batch meets it.
        tell = partial(_report, progress, f"Sampling {found.name}", 0, len(indices))
        loaded = load_all(found.train, indices, found.shape, found.is_float, tell, cancelled)
        _require_some(found.train, loaded, "train", found)
        sample = loaded[0][[place for place, index in enumerate(indices) if index not in loaded[1]]]
    else:
        sample = loaded[0][[index for index in indices if index not in loaded[1]]]
    if found.is_float:
        return (0.0,) * found.shape[0], (1.0,) * found.shape[0]
    return mean_and_std(sample, found.location)


def image_data(
    found: Found,
    splits: Mapping[Part, Split],
    mean: tuple[float, ...],
    std: tuple[float, ...],
    loader: str,
    problems: Sequence[str] = (),
) -> ImageData:
    """Return the data set `found`, of which `splits` are the parts and `problems` what was skipped ("PATH: why")."""
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
        train=splits["train"],
        val=splits.get("val"),
        test=splits.get("test"),
        mean=mean,
        std=std,
        channels=channels,
        height=height,
        width=width,
        location=found.location,
        notices=notices,
        loader=loader,
        problems=tuple(problems),
        sampled=0 if found.is_float else min(SAMPLE, len(splits["train"])),
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
) -> Loaded:
    """Return the images `indices`, uint8 or float32 `[N, C, H, W]`, and by index what is wrong with those that are not
    readable, which are black.

    `tell(done)` counts images. Raises `Cancelled`.
    """
    images = np.zeros((len(indices), *shape), dtype=np.float32 if is_float else np.uint8)
    problems: dict[int, str] = {}

    def load(place: int) -> None:
        try:
            images[place] = source.load(indices[place])
        except Unreadable as problem:
            problems[indices[place]] = str(problem)

    for_each(load, len(indices), tell=tell, cancelled=cancelled, threads=source.threads)
    return images, problems


def _bytes(count: float) -> str:
    for unit in ("B", "KB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
