"""Test images that are training images as well: what a network has learned by heart counts for nothing."""

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

from finetui.engine.data.split import Split, Unreadable
from finetui.engine.errors import BadInput

_MOST_DECODED = 200_000  # images that have to be decoded, one by one, to be compared
_Tell = Callable[[int, int], None]


def find_duplicates(
    train: Split,
    test: Split,
    *,
    progress: _Tell = lambda _done, _total: None,
    stopped: Callable[[], bool] = lambda: False,
) -> list[tuple[int, int]]:
    """Return pairs (test index, training index) of images that are the same; of several the first training image.

    Streamed image files are compared byte by byte, all others pixel by pixel. What cannot be read is the same as
    nothing. Stops short once `stopped` answers True. Raises `BadInput` when too many images would have to be decoded.
    """
    in_files = bool(len(train) and len(test) and train.file(0) and test.file(0)) and not train.in_memory
    if in_files:
        ours, theirs = _same_size(train, test)
    else:
        ours, theirs = list(range(len(train))), list(range(len(test)))
        if not train.in_memory and len(ours) + len(theirs) > _MOST_DECODED:
            raise BadInput(
                f"to find duplicates, {len(ours) + len(theirs):,} images would have to be decoded; "
                "this works only for image files, or for data held in memory (--loader resident)"
            )
    digest = _file_digest if in_files else _pixel_digest
    total = len(ours) + len(theirs)
    known: dict[bytes, int] = {}
    for done, index in enumerate(_until(stopped, ours)):
        progress(done, total)
        key = digest(train, index)
        if key is not None:
            known.setdefault(key, index)
    pairs = []
    for done, index in enumerate(_until(stopped, theirs)):
        progress(len(ours) + done, total)
        key = digest(test, index)
        if key in known:
            pairs.append((index, known[key]))
    progress(total, total)
    return pairs


def _until(stopped: Callable[[], bool], indices: list[int]) -> Iterable[int]:
    for place, index in enumerate(indices):
        if place % 256 == 0 and stopped():
            return
        yield index


def _same_size(train: Split, test: Split) -> tuple[list[int], list[int]]:
    """Return the indices of the files whose size both sets have: no others can be the same."""
    sizes = []
    for split in (train, test):
        by_size = defaultdict(list)
        for index in range(len(split)):
            try:
                by_size[os.stat(split.file(index)).st_size].append(index)  # noqa: PTH116 - for a million files
            except OSError:
                continue
        sizes.append(by_size)
    both = sizes[0].keys() & sizes[1].keys()
    ours, theirs = (sorted(index for size in both for index in by_size[size]) for by_size in sizes)
    return ours, theirs


def _file_digest(split: Split, index: int) -> bytes | None:
    try:
        return hashlib.blake2b(Path(split.file(index)).read_bytes(), digest_size=16).digest()
    except OSError:
        return None


def _pixel_digest(split: Split, index: int) -> bytes | None:
    try:
        return hashlib.blake2b(split.item(index).numpy().tobytes(), digest_size=16).digest()
    except Unreadable:
        return None
