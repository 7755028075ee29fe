"""IDX files, the format of MNIST, plain or gzipped: read with every number in their headers checked.

The format: http://yann.lecun.com/exdb/mnist/ (two zero bytes, the type 0x08 for unsigned bytes, the number of
dimensions, the size of each as a big-endian 32-bit integer, then the data).
"""

import gzip
import math
import stat
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from finetui.engine.errors import BadInput, reason_of
from finetui.engine.runs.data_places import (
    PARTS as PARTS,
    file_names as file_names,
    locate as locate,
    shown,
    unreadable,
)

Bytes = npt.NDArray[np.uint8]

IMAGES, LABELS = 0x0803, 0x0801
_GZIP = b"\x1f\x8b"
_MOST_BYTES = 2**30  # larger sets are not for holding in memory
_MOST_SIDE = 4096  # pixels
_MOST_INFLATION = 1032  # deflate cannot make more bytes than this out of one
_AGAIN = "delete it or fetch it again"


def read_pair(folder: Path, part: str, num_classes: int) -> tuple[Bytes, Bytes]:
    """Return the images `[N, H, W]` and labels `[N]`, uint8, of `part` in `folder`.

    Raises `BadInput` that names the file when one is missing, unreadable or wrong, or when the two do not agree.
    """
    paths = []
    for name in file_names(part):
        path = locate(folder, name)
        if path is None:
            raise BadInput(f"{shown(folder)} has no {name} or {name}.gz; put it there, or name another --data-dir")
        paths.append(path)
    images, labels = read_images(paths[0]), read_labels(paths[1], num_classes)
    if len(images) != len(labels):
        raise BadInput(
            f"{shown(paths[0])} has {_number(len(images))} images, but {paths[1].name} beside it has "
            f"{_number(len(labels))} labels; delete both or fetch them again"
        )
    return images, labels


def read_images(path: Path) -> Bytes:
    """Return the images in the IDX file `path`, uint8 `[N, H, W]`. Raises `BadInput` as `read_pair` does."""
    return _read(path, IMAGES)


def read_labels(path: Path, num_classes: int) -> Bytes:
    """Return the labels in the IDX file `path`, uint8 `[N]`, each below `num_classes`. Raises `BadInput`."""
    labels = _read(path, LABELS)
    if int(labels.max()) >= num_classes:
        raise BadInput(
            f"{shown(path)} has the label {labels.max()}, but there are only {num_classes} classes (0 to "
            f"{num_classes - 1}); {_AGAIN}"
        )
    return labels


def _number(value: int) -> str:
    return f"{value:,}".replace(",", " ")


def _read(path: Path, magic: int) -> Bytes:
    try:
        about = path.stat()
        # Asked before it is opened: opening a named pipe waits for a writer for ever.
        if not stat.S_ISREG(about.st_mode):
            raise BadInput(f"{shown(path)} cannot be read: it is not a file; put the IDX file in its place")
        with path.open("rb") as raw:
            zipped = raw.read(2) == _GZIP
            raw.seek(0)
            if not zipped:
                return _parse(raw, path, magic, about.st_size, about.st_size)
            with gzip.GzipFile(fileobj=raw) as file:
                return _parse(file, path, magic, None, about.st_size * _MOST_INFLATION)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BadInput(f"{shown(path)} is damaged ({reason_of(error)}); {_AGAIN}") from error
    except OSError as error:
        raise unreadable(path, error) from error


def _parse(file: BinaryIO | gzip.GzipFile, path: Path, magic: int, size: int | None, most: int) -> Bytes:
    """Return the content of `file`, which has `size` bytes (None: unknown) and cannot have more than `most`."""
    shape = _parse_header(file, path, magic)
    length, count = 4 + 4 * len(shape), math.prod(shape)
    if size is not None and size != length + count:
        raise _wrong_size(path, length + count, size)
    if length + count > most:
        raise BadInput(f"{shown(path)} is too short for the {_number(count)} values that its header says; {_AGAIN}")
    # Read at most what the header promises, and one byte more: a compressed file may inflate to anything.
    data = bytearray()
    while len(data) <= count and (piece := file.read(min(count + 1 - len(data), 2**24))):
        data += piece
    if len(data) != count:
        raise _wrong_size(path, length + count, length + len(data))
    return np.frombuffer(data, dtype=np.uint8).reshape(shape)


def _parse_header(file: BinaryIO | gzip.GzipFile, path: Path, magic: int) -> tuple[int, ...]:
    """Return the dimensions that the header says, after the checks that need nothing but the header."""
    dimensions = magic & 0xFF
    kind = "images" if magic == IMAGES else "labels"
    header = file.read(4 + 4 * dimensions)
    found = int.from_bytes(header[:4], "big") if len(header) >= 4 else None
    if found != magic:
        problem = "it is too short" if found is None else f"it begins with {found:#010x} instead of {magic:#010x}"
        raise BadInput(f"{shown(path)} is not an IDX file of {kind}: {problem}; {_AGAIN}")
    if len(header) < 4 + 4 * dimensions:
        raise BadInput(f"{shown(path)} is truncated inside its header; {_AGAIN}")
    shape: tuple[int, ...] = struct.unpack(f">{dimensions}I", header[4:])
    sizes = "x".join(map(str, shape))
    if shape[0] == 0:
        raise BadInput(f"{shown(path)} is empty: its header says 0 {kind}; {_AGAIN}")
    if not all(0 < side <= _MOST_SIDE for side in shape[1:]) or math.prod(shape) > _MOST_BYTES:
        raise BadInput(
            f"{shown(path)} says that it holds {sizes} values; at most {_MOST_SIDE} pixels a side and "
            f"{_number(_MOST_BYTES)} values in all can be used; {_AGAIN}"
        )
    return shape


def _wrong_size(path: Path, expected: int, found: int) -> BadInput:
    if found < expected:
        what = f"is truncated: {_number(expected)} bytes expected, {_number(found)} found"
    else:
        what = f"has more bytes than the {_number(expected)} that its header says"
    return BadInput(f"{shown(path)} {what}; {_AGAIN}")
