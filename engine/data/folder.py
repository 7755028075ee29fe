"""Image folders: `train/CLASS/*` with `test/CLASS/*` (or `val`), or `CLASS/*` divided by seed."""

import os
import statistics
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from engine.data.download import Progress
from engine.data.image_data import Found
from engine.data.pictures import Header, decode, read_header
from engine.data.split import Unreadable
from engine.errors import BadInput, Cancelled
from engine.text import clean

_TRAIN = ("train", "training")
_TEST = ("test", "testing", "val", "valid", "validation")
_IGNORED = {"__macosx", "thumbs.db", "desktop.ini"}
_TEST_SHARE = 0.2
_LARGEST_SIDE = 224  # what images of different sizes are brought to at most, the usual size for pretrained networks
_SMALLEST_SIDE = 8
_THREADS = 4


@dataclass(frozen=True)
class Item:
    """An image file of the class `label`."""

    path: str
    label: str


class FolderSource:
    """Image files as a `Source`."""

    def __init__(
        self, root: Path, paths: Sequence[str], labels: npt.NDArray[np.int64], shape: tuple[int, int, int]
    ) -> None:
        self._root = str(root)
        self._paths = tuple(paths)
        self._shape = shape
        self.labels = labels

    def load(self, index: int) -> npt.NDArray[np.uint8]:
        """Decode the file."""
        channels, height, width = self._shape
        return decode(Path(self._paths[index]), height, width, channels)

    def describe(self, index: int) -> str:
        """Return the path inside the folder."""
        return _shown(self._paths[index], self._root)


def _shown(path: str, root: str) -> str:
    return clean(os.path.relpath(path, root), 300)


def find(
    root: Path,
    requested: str,
    *,
    image_size: int | None,
    seed: int,
    follow_links: bool,
    progress: Progress,
    cancelled: Callable[[], bool],
) -> Found:
    """Return the images in the folder `root`, their headers read and what is no image left out.

    Raises `BadInput` when it holds no images in class folders, `Cancelled`.
    """
    name = clean(root.resolve().name)
    progress(f"Looking through {name}", 0, 0)
    walk = _Walk(root, follow_links, cancelled)
    parts = _parts(root)
    train = walk.items(parts[0])
    test = walk.items(parts[1]) if parts[1] is not None else []
    headers = _headers([*train, *test], walk, progress, cancelled)
    train = [item for item in train if item.path in headers]
    test = [item for item in test if item.path in headers]
    problems = walk.problems
    classes = sorted({item.label for item in train})
    problems += [f"{clean(label)}: a class without images" for label in sorted(walk.classes - set(classes))]
    if len(classes) < 2:
        raise BadInput(
            f"{clean(str(root))} has images of {len(classes)} classes, and two are needed; lay it out as "
            "train/CLASS/image.png and test/CLASS/image.png, or as CLASS/image.png"
        )
    known = set(classes)
    problems += [f"{_shown(item.path, str(root))}: not a class to train on" for item in test if item.label not in known]
    test = [item for item in test if item.label in known]
    if not test:
        train, test = divide(train, seed)
    shape = _shape(list(headers.values()), image_size)
    numbers = {label: number for number, label in enumerate(classes)}

    def source(items: list[Item]) -> FolderSource:
        labels = np.array([numbers[item.label] for item in items], dtype=np.int64)
        return FolderSource(root, [item.path for item in items], labels, shape)

    return Found(
        name=name,
        requested=requested,
        classes=tuple(clean(label, 100) for label in classes),
        train=source(train),
        test=source(test),
        shape=shape,
        location=clean(str(root)),
        problems=tuple(problems),
    )


def _parts(root: Path) -> tuple[Path, Path | None]:
    """Return the folders with the training and the test classes; None: they are to be divided."""
    try:
        children = {entry.name.lower(): Path(entry.path) for entry in os.scandir(root) if entry.is_dir()}
    except OSError as error:
        raise BadInput(f"the image folder {clean(str(root))} cannot be read: {error.strerror or error}") from error
    train = next((children[name] for name in _TRAIN if name in children), None)
    if train is None:
        return root, None
    return train, next((children[name] for name in _TEST if name in children), None)


class _Walk:
    """Finds the files of each class; remembers what was left out, and why."""

    def __init__(self, root: Path, follow_links: bool, cancelled: Callable[[], bool]) -> None:
        self.problems: list[str] = []
        self.classes: set[str] = set()
        self._root = str(root)
        self._real_root = os.path.realpath(root)
        self._follow_links = follow_links
        self._cancelled = cancelled

    def items(self, part: Path) -> list[Item]:
        """Return the files of every class folder in `part`, in a fixed order."""
        seen: set[str] = set()
        links: list[Item] = []
        items: list[Item] = []
        for entry in self._entries(str(part)):
            if not entry.is_dir():
                self._skip(entry.path, "not in a class folder")
                continue
            if entry.is_symlink() and not self._may_follow(entry.path):
                continue
            self.classes.add(entry.name)
            for path, linked in self._files(entry.path, set()):
                (links if linked else items).append(Item(path, entry.name))
        seen.update(os.path.realpath(item.path) for item in items)
        for item in links:
            real = os.path.realpath(item.path)
            if real in seen:
                self._skip(item.path, "a link to an image that is there already")
            else:
                seen.add(real)
                items.append(item)
        return sorted(items, key=lambda item: (item.label, item.path))

    def _files(self, folder: str, above: set[str], linked: bool = False) -> Iterator[tuple[str, bool]]:
        """Yield the files below `folder`, and whether each was reached through a link; `above`: the folders around."""
        if self._cancelled():
            raise Cancelled("reading the data was cancelled")
        real = os.path.realpath(folder)
        if real in above:
            self._skip(folder, "a link that leads back to where it is")
            return
        for entry in self._entries(folder):
            is_link = entry.is_symlink()
            if is_link and not self._may_follow(entry.path):
                continue
            if entry.is_dir():
                yield from self._files(entry.path, above | {real}, linked or is_link)
            elif entry.is_file():
                yield entry.path, linked or is_link
            else:
                self._skip(entry.path, "not a file")

    def _entries(self, folder: str) -> list[os.DirEntry[str]]:
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            self._skip(folder, error.strerror or str(error))
            return []
        return [entry for entry in entries if not entry.name.startswith(".") and entry.name.lower() not in _IGNORED]

    def _may_follow(self, path: str) -> bool:
        try:
            real = os.path.realpath(path, strict=True)
        except OSError as error:
            self._skip(path, f"a link that leads nowhere ({error.strerror})")
            return False
        inside = real == self._real_root or real.startswith(self._real_root + os.sep)
        if not inside and not self._follow_links:
            self._skip(path, "a link that leads out of the folder; --follow-links would follow it")
            return False
        return True

    def _skip(self, path: str, why: str) -> None:
        self.problems.append(f"{_shown(path, self._root)}: {why}")

    def unreadable(self, path: str, problem: Unreadable) -> None:
        """Note that a file is no image."""
        self._skip(path, str(problem))


def _headers(items: list[Item], walk: _Walk, progress: Progress, cancelled: Callable[[], bool]) -> dict[str, Header]:
    """Return the header of every file that is an image."""
    found: dict[str, Header] = {}

    def read(item: Item) -> Header | Unreadable:
        try:
            return read_header(Path(item.path))
        except Unreadable as problem:
            return problem

    with ThreadPoolExecutor(_THREADS, thread_name_prefix="finetui-headers") as pool:
        for start in range(0, len(items), 512):
            if cancelled():
                raise Cancelled("reading the data was cancelled")
            chunk = items[start : start + 512]
            for item, header in zip(chunk, pool.map(read, chunk), strict=True):
                if isinstance(header, Unreadable):
                    walk.unreadable(item.path, header)
                else:
                    found[item.path] = header
            progress("Looking at the images", start + len(chunk), len(items))
    return found


def _shape(headers: list[Header], image_size: int | None) -> tuple[int, int, int]:
    """Return channels, height and width that all images are brought to."""
    channels = 1 if all(header.grey for header in headers) else 3
    if image_size:
        return channels, image_size, image_size
    sizes = {(header.height, header.width) for header in headers}
    if len(sizes) == 1 and max(height_width := next(iter(sizes))) <= _LARGEST_SIDE:
        return channels, *height_width
    side = int(statistics.median(min(header.height, header.width) for header in headers))
    side = max(_SMALLEST_SIDE, min(side, _LARGEST_SIDE))
    return channels, side, side


def divide(items: list[Item], seed: int) -> tuple[list[Item], list[Item]]:
    """Return `items` divided into training and test images, 80 to 20 of each class, drawn by `seed`."""
    train: list[Item] = []
    test: list[Item] = []
    by_label: dict[str, list[Item]] = {}
    for item in items:
        by_label.setdefault(item.label, []).append(item)
    for number, label in enumerate(sorted(by_label)):
        members = by_label[label]
        generator = torch.Generator().manual_seed((seed + 7919 * number) % 2**63)
        order = torch.randperm(len(members), generator=generator).tolist()
        count = max(1, round(_TEST_SHARE * len(members))) if len(members) > 1 else 0
        chosen = set(order[:count])
        train += [item for index, item in enumerate(members) if index not in chosen]
        test += [members[index] for index in sorted(chosen)]
    return train, test
