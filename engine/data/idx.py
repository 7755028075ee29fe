"""IDX files, the format of MNIST, plain or gzipped: read with every number in their headers checked.

The format: http://yann.lecun.com/exdb/mnist/ (two zero bytes, the type 0x08 for unsigned bytes, the number of
dimensions, the size of each as a big-endian 32-bit integer, then the data).
"""

import gzip
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from engine.errors import BadInput
from engine.text import clean

Bytes = npt.NDArray[np.uint8]

IMAGES, LABELS = 0x0803, 0x0801
PARTS = ("train", "t10k")
_GZIP = b"\x1f\x8b"
_MOST_BYTES = 4 * 2**30  # larger sets are not for holding in memory


def file_names(part: str) -> tuple[str, str]:
    """Return the names of the image and the label file of `part` (`train` or `t10k`), without `.gz`."""
    return f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte"


def locate(folder: Path, name: str) -> Path | None:
    """Return the file `name` or `name.gz` in `folder`, the plain one first; None if there is neither."""
    for path in (folder / name, folder / f"{name}.gz"):
        if path.exists():
            return path
    return None


def read_pair(folder: Path, part: str, num_classes: int) -> tuple[Bytes, Bytes]:
    """Return the images `[N, H, W]` and labels `[N]`, uint8, of `part` in `folder`.

    Raises `BadInput` that names the file when one is missing, unreadable or wrong, or when the two do not agree.
    """
    paths = []
    for name in file_names(part):
        path = locate(folder, name)
        if path is None:
            raise BadInput(f"{clean(str(folder))} has no {name} or {name}.gz; put it there, or name another --data-dir")
        paths.append(path)
    images, labels = read_images(paths[0]), read_labels(paths[1], num_classes)
    if len(images) != len(labels):
        raise BadInput(f"{_name(paths[0])} has {len(images)} images, and {_name(paths[1])} has {len(labels)} labels")
    return images, labels


def read_images(path: Path) -> Bytes:
    """Return the images in the IDX file `path`, uint8 `[N, H, W]`. Raises `BadInput` as `read_pair` does."""
    return _read(path, IMAGES)


def read_labels(path: Path, num_classes: int) -> Bytes:
    """Return the labels in the IDX file `path`, uint8 `[N]`, each below `num_classes`. Raises `BadInput`."""
    labels = _read(path, LABELS)
    if int(labels.max()) >= num_classes:
        raise BadInput(f"{_name(path)} has the label {labels.max()}, and there are only {num_classes} classes")
    return labels


def _name(path: Path) -> str:
    return clean(str(path), 1000)


def _read(path: Path, magic: int) -> Bytes:
    try:
        with path.open("rb") as raw:
            zipped = raw.read(2) == _GZIP
        with gzip.open(path, "rb") if zipped else path.open("rb") as file:
            return _parse(file, path, magic, None if zipped else path.stat().st_size)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BadInput(f"{_name(path)} is damaged ({clean(str(error))}); delete it or fetch it again") from error
    except OSError as error:
        raise BadInput(f"{_name(path)} cannot be read: {error.strerror or error}") from error


def _parse(file: BinaryIO | gzip.GzipFile, path: Path, magic: int, size: int | None) -> Bytes:
    dimensions = magic & 0xFF
    header = file.read(4 + 4 * dimensions)
    found = int.from_bytes(header[:4], "big") if len(header) >= 4 else None
    if found != magic:
        shown = "it is too short" if found is None else f"it begins with {found:#010x} instead of {magic:#010x}"
        raise BadInput(f"{_name(path)} is not an IDX file of {'images' if magic == IMAGES else 'labels'}: {shown}")
    if len(header) < 4 + 4 * dimensions:
        raise BadInput(f"{_name(path)} is truncated inside its header; delete it or fetch it again")
    shape = struct.unpack(f">{dimensions}I", header[4:])
    count = int(np.prod(shape, dtype=object))
    if not 0 < count <= _MOST_BYTES:
        raise BadInput(f"{_name(path)} says that it holds {'x'.join(map(str, shape))} values; that cannot be right")
    if size is not None and size != len(header) + count:
        raise _wrong_size(path, len(header) + count, size)
    # Read at most what the header promises, and one byte more: a compressed file may inflate to anything.
    data = bytearray()
    while len(data) <= count and (piece := file.read(min(count + 1 - len(data), 2**24))):
        data += piece
    if len(data) != count:
        raise _wrong_size(path, len(header) + count, len(header) + len(data))
    return np.frombuffer(data, dtype=np.uint8).reshape(shape)


def _wrong_size(path: Path, expected: int, found: int) -> BadInput:
    if found < expected:
        what = f"is truncated: {expected:,} bytes expected, {found:,} found"
    else:
        what = f"has more bytes than the {expected:,} that its header says"
    return BadInput(f"{_name(path)} {what}; delete it or fetch it again")
