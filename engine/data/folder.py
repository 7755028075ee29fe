"""Image folders: `train/CLASS/*` with `test/CLASS/*` (or `val`), or `CLASS/*` divided by seed."""

import os
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from finetui.engine.data.choose_decoding import choose_decoding, decoding_notices
from finetui.engine.data.download import Progress
from finetui.engine.data.image_data import Found
from finetui.engine.data.image_files import Header, decode, read_header
from finetui.engine.data.known import (
    ImageKeys,
    Known,
    describe_files,
    is_of,
    key_of,
    keys_array,
    parts_of,
    stable,
)
from finetui.engine.data.parallel import THREADS, for_each
from finetui.engine.data.split import Unreadable
from finetui.engine.errors import BadInput, Cancelled, reason_of
from finetui.engine.protocol.config import DataConfig
from finetui.engine.protocol.description import DataDescription, SplitRule
from finetui.engine.protocol.values import Decoding
from finetui.engine.text import clean

_TRAIN = ("train", "training")
_TEST = ("test", "testing", "val", "valid", "validation")
_IGNORED = {"__macosx", "thumbs.db", "desktop.ini"}
_TEST_SHARE = 0.2


@dataclass(frozen=True)
class Item:
    """An image file of the class `label`."""

    path: str
    label: str


class FolderSource:
    """Image files as a `Source`."""

    threads = THREADS
    draws = False

    def __init__(self, root: Path, paths: Sequence[str], labels: npt.NDArray[np.int64], decoding: Decoding) -> None:
        self._root = str(root)
        self._paths = tuple(paths)
        self.shape = decoding.shape
        self.labels = labels
        self._decoding = decoding

    def load(self, index: int, _seed: int | None = None) -> npt.NDArray[np.uint8]:
        """Decode the file."""
        return decode(self._paths[index], self._decoding)

    def describe(self, index: int) -> str:
        """Return the path inside the folder."""
        return _shown(self._paths[index], self._root)

    def file(self, index: int) -> str:
        """Return the path."""
        return str(Path(self._paths[index]).absolute())


def _shown(path: str, root: str) -> str:
    return clean(os.path.relpath(path, root), 300)


def find(
    root: Path,
    request: DataConfig,
    *,
    decoding: Decoding,
    seed: int,
    known: Known | None,
    progress: Progress,
    cancelled: Callable[[], bool],
) -> Found:
    """Return the images in the folder `root`, their headers read and what is no image left out.

    They are decoded as `decoding`; see `choose_decoding`. Where it is the data of a run that saw `known`, the classes
    are that run's, and images are in the parts that it had them in. Raises `BadInput` when it holds no images in class
    folders, `Cancelled`.
    """
    name = clean(root.resolve().name)
    progress(f"Looking through {name}", 0, 0)
    walk = _Walk(root, request.follow_links, cancelled)
    parts = _parts(root, walk)
    train, test = [*walk.items(parts), []][:2]
    headers = _headers([*train, *test], walk, progress, cancelled)
    train = [item for item in train if item.path in headers]
    test = [item for item in test if item.path in headers]
    keys = _keys(root, parts, (train, test), headers)
    if known is not None and not is_of(known, request, keys_array(list(keys.values()))):
        known = None
    classes, train, test, problems = _classes(root, train, test, walk, known)
    unused = 0
    split: SplitRule = "given" if test else "drawn"
    if not test:
        before = len(train)
        train, test = _divided_again(train, keys, known) or divide(train, seed)
        unused = before - len(train) - len(test)
    if not test:
        raise BadInput(f"{root} has one image of each class, and none is left to test on; add more")
    decoding = choose_decoding(decoding, headers, [item.path for item in train], progress, cancelled)
    numbers = {label: number for number, label in enumerate(classes)}
    found: ImageKeys = {
        "train": keys_array([keys[item.path] for item in train]),
        "test": keys_array([keys[item.path] for item in test]),
    }

    def source(items: list[Item]) -> FolderSource:
        labels = np.array([numbers[item.label] for item in items], dtype=np.int64)
        return FolderSource(root, [item.path for item in items], labels, decoding)

    return Found(
        name=name,
        requested=request.name,
        classes=tuple(clean(label, 100) for label in classes),
        train=source(train),
        test=source(test),
        shape=decoding.shape,
        location=clean(str(root)),
        notices=tuple(decoding_notices(headers.values(), decoding)),
        problems=tuple(problems),
        description=DataDescription(
            request=request,
            kind="folder",
            classes=tuple(stable(label) for label in classes),
            parts={part: describe_files(images) for part, images in found.items()},
            split=split,
            seed=seed,
            decoding=decoding,
        ),
        keys=found,
        unused=unused,
    )


def _keys(
    root: Path, parts: list[Path], items: Sequence[list[Item]], headers: dict[str, Header]
) -> dict[str, tuple[int, int]]:
    """Return what each image is known by, by its path."""
    return {
        item.path: key_of(item.path, str(root), str(part), headers[item.path].size)
        for part, members in zip(parts, items, strict=False)
        for item in members
    }


def _divided_again(
    items: list[Item], keys: dict[str, tuple[int, int]], known: Known | None
) -> tuple[list[Item], list[Item]] | None:
    """Return `items` as the run that saw `known` had divided them, without those it has not seen; None: not known."""
    if known is None or known.description.split != "drawn" or not known.images:
        return None
    places = parts_of(known, keys_array([keys[item.path] for item in items]))
    return [items[place] for place in places["train"]], [items[place] for place in places["test"]]


def _classes(
    root: Path, train: list[Item], test: list[Item], walk: "_Walk", known: Known | None
) -> tuple[list[str], list[Item], list[Item], list[str]]:
    """Return the classes, the training and test images of these, and all problems. Raises `BadInput`."""
    problems = walk.problems
    classes = sorted({item.label for item in train})
    problems += [f"{clean(label)}: a class without images" for label in sorted(walk.classes - set(classes))]
    if len(classes) < 2:
        raise BadInput(
            f"{root} has images of {len(classes)} classes, and two are needed; lay it out as "
            f"train/CLASS/image.png and test/CLASS/image.png, or as CLASS/image.png{_first_of(problems)}"
        )
    kept = known.description.classes if known is not None else ()
    if kept and {stable(label) for label in classes} != set(kept):
        # A number stands for the same class as when the run began: a class may be empty, or new and without a number.
        there = {stable(label): label for label in classes}
        classes = [there.get(label, label) for label in kept]
        problems += [
            f"{_shown(item.path, str(root))}: not a class of the run" for item in train if item.label not in classes
        ]
        train = [item for item in train if item.label in classes]
    taken = set(classes)
    problems += [f"{_shown(item.path, str(root))}: not a class to train on" for item in test if item.label not in taken]
    return classes, train, [item for item in test if item.label in taken], problems


def _first_of(problems: list[str]) -> str:
    return f" ({len(problems):,} files or classes were skipped; the first: {problems[0]})" if problems else ""


def _parts(root: Path, walk: "_Walk") -> list[Path]:
    """Return the folders with the training and the test classes; without the second, the first is to be divided."""
    try:
        children = {entry.name.lower(): Path(entry.path) for entry in os.scandir(root) if entry.is_dir()}
    except OSError as error:
        raise BadInput(f"the image folder {root} cannot be read: {reason_of(error)}") from error
    train = next((children[name] for name in _TRAIN if name in children), None)
    # `train` without folders in it is a class: of vehicles, say.
    if train is None or not any(entry.is_dir() for entry in walk.entries(str(train))):
        return [root]
    test = next((children[name] for name in _TEST if name in children), None)
    found = [train] if test is None else [train, test]
    for part in found:
        if part.is_symlink() and walk.target(str(part)) is None:
            raise BadInput(f"the image folder {root} cannot be used: {walk.problems[-1]}")
    return found


class _Walk:
    """Finds the files of each class; remembers what was left out, and why."""

    def __init__(self, root: Path, follow_links: bool, cancelled: Callable[[], bool]) -> None:
        self.problems: list[str] = []
        self.classes: set[str] = set()
        self._root = str(root)
        self._real_root = os.path.realpath(root)
        self._follow_links = follow_links
        self._cancelled = cancelled
        # What was taken, by its path without links: nothing is taken twice, whatever links lead there.
        self._images: set[str] = set()
        self._folders: set[str] = set()

    def items(self, parts: list[Path]) -> list[list[Item]]:
        """Return the files of every class folder in each of `parts`, in a fixed order."""
        found: list[list[Item]] = [[] for _ in parts]
        links: deque[tuple[int, str, str]] = deque()  # part, class, path
        for number, part in enumerate(parts):
            for entry in self.entries(str(part)):
                if not entry.is_dir():
                    self._skip_stray(entry)
                    continue
                if number == 0:
                    self.classes.add(entry.name)
                if entry.is_symlink():
                    links.append((number, entry.name, entry.path))
                else:
                    real = os.path.join(os.path.realpath(part), entry.name)  # noqa: PTH118  # a path of a million
                    inside = self._files(entry.path, real, found[number], entry.name)
                    links.extend((number, entry.name, path) for path in inside)
        # Links last, so that an image goes by its own name, and by its own part, where it has one.
        while links:
            number, label, path = links.popleft()
            inside = self._follow(path, found[number], label)
            links.extend((number, label, further) for further in inside)
        return [sorted(items, key=lambda item: (item.label, item.path)) for items in found]

    def _files(self, folder: str, real: str, found: list[Item], label: str) -> list[str]:
        """Add the files below `folder` to `found` and return the links there; `real` is its path without links."""
        links: list[str] = []
        waiting = [(folder, real)]
        while waiting:
            if self._cancelled():
                raise Cancelled("reading the data was cancelled")
            folder, real = waiting.pop()
            if real in self._folders:
                self._skip(folder, "a folder that is there already")
                continue
            self._folders.add(real)
            for entry in self.entries(folder):
                if entry.is_symlink():
                    links.append(entry.path)
                elif entry.is_dir(follow_symlinks=False):
                    waiting.append((entry.path, f"{real}{os.sep}{entry.name}"))
                elif entry.is_file(follow_symlinks=False):
                    self._images.add(f"{real}{os.sep}{entry.name}")
                    found.append(Item(entry.path, label))
                else:
                    self._skip(entry.path, "not a file")
        return links

    def _follow(self, path: str, found: list[Item], label: str) -> list[str]:
        """Take what the link `path` leads to, and return the links there."""
        real = self.target(path)
        if real is None:
            return []
        here = os.path.realpath(os.path.dirname(path))  # noqa: PTH120
        if os.path.isdir(real):  # noqa: PTH112
            if f"{here}{os.sep}".startswith(f"{real.rstrip(os.sep)}{os.sep}"):
                self._skip(path, "a link that leads back to where it is")
            elif real in self._folders:
                self._skip(path, "a link to a folder that is there already")
            else:
                return self._files(path, real, found, label)
        elif not os.path.isfile(real):  # noqa: PTH113
            self._skip(path, "not a file")
        elif real in self._images:
            self._skip(path, "a link to an image that is there already")
        else:
            self._images.add(real)
            found.append(Item(path, label))
        return []

    def entries(self, folder: str) -> list[os.DirEntry[str]]:
        """Return what is in `folder` by name, without hidden files and the like."""
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            self._skip(folder, error.strerror or str(error))
            return []
        return [entry for entry in entries if not entry.name.startswith(".") and entry.name.lower() not in _IGNORED]

    def target(self, path: str) -> str | None:
        """Return where the link `path` leads; None, and a problem, where it must not be followed."""
        try:
            real = os.path.realpath(path, strict=True)
        except OSError as error:
            self._skip(path, f"a link that leads nowhere ({error.strerror})")
            return None
        inside = real == self._real_root or real.startswith(self._real_root.rstrip(os.sep) + os.sep)
        if not inside and not self._follow_links:
            self._skip(path, "a link that leads out of the folder; --follow-links would follow it")
            return None
        return real

    def _skip_stray(self, entry: os.DirEntry[str]) -> None:
        if not entry.is_symlink() or self.target(entry.path) is not None:
            self._skip(entry.path, "not in a class folder")

    def _skip(self, path: str, why: str) -> None:
        self.problems.append(f"{_shown(path, self._root)}: {why}")

    def unreadable(self, path: str, problem: Unreadable) -> None:
        """Note that a file is no image."""
        self._skip(path, str(problem))


def _headers(items: list[Item], walk: _Walk, progress: Progress, cancelled: Callable[[], bool]) -> dict[str, Header]:
    """Return the header of every file that is an image."""
    found: list[Header | Unreadable | None] = [None] * len(items)

    def read(index: int) -> None:
        try:
            found[index] = read_header(items[index].path)
        except Unreadable as problem:
            found[index] = problem

    for_each(
        read, len(items), tell=lambda done: progress("Looking at the images", done, len(items)), cancelled=cancelled
    )
    headers: dict[str, Header] = {}
    for item, header in zip(items, found, strict=True):
        if isinstance(header, Unreadable):
            walk.unreadable(item.path, header)
        elif header is not None:
            headers[item.path] = header
    return headers


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
