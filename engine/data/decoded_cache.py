"""Images as they were decoded, kept on disk: a folder that is streamed is decoded once, and not in every epoch."""

import contextlib
import dataclasses
import fcntl
import hashlib
import os
import shutil
import time
import weakref
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import PIL
import platformdirs
from PIL import features

from finetui.engine.data.found import Found
from finetui.engine.data.split import Source
from finetui.engine.errors import reason_of

MOST_BYTES = 50 * 2**30  # of all caches together
_FREE_SHARE = 0.25  # of the disk's free space, for a set's cache
_LEFT_FREE = 2**30  # bytes: a run has checkpoints to write as well
_UNUSED_SECONDS = 30 * 24 * 3600
_SUFFIX = ".pixels"
_LAYOUT = 1  # of the file; part of its name
_SUM_BYTES = 8  # in front of each image: its CRC-32 with a bit set, so that it is never 0; 0: nothing there yet
_THERE = 1 << 32

Stamp = tuple[int, int]  # a file's size in bytes, and when it was changed, in ns


def cache_folder() -> Path:
    """Return the folder that holds the caches of all data sets."""
    return platformdirs.user_cache_path("finetui") / "decoded"


def stamp(path: str) -> Stamp | None:
    """Return what tells whether the file `path` was changed; None where it cannot be looked at."""
    try:
        found = os.stat(path)  # noqa: PTH116  # a path of a million, once an image
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


class DecodedCache:
    """A file with a place for each image: a check sum, and pixels, uint8 `[C, H, W]`; made where it is not there.

    It is read and written at positions, by threads, processes and engines at the same time: where two write the same
    place, they write the same bytes. An image that is not whole, since its engine was killed or the power went, has
    another check sum, and counts as not there. Not mapped into memory: writing to a full disk, and reading from a
    broken one, would then be signals that end the process, and not errors. Raises OSError when it cannot be opened.
    """

    def __init__(self, path: Path, shape: tuple[int, int, int]) -> None:
        self.path = path
        self._shape = shape
        self._size = int(np.prod(shape))
        self._trouble: list[str] = []
        self._grows = True
        self._open()

    def _open(self) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._file = os.open(self.path, flags, 0o600)
        weakref.finalize(self, os.close, self._file)
        with contextlib.suppress(OSError):  # a file system without locks: it may be removed sooner, and nothing else
            fcntl.flock(self._file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        os.utime(self._file)

    def __getstate__(self) -> tuple[Path, tuple[int, int, int]]:
        return self.path, self._shape

    def __setstate__(self, state: tuple[Path, tuple[int, int, int]]) -> None:
        DecodedCache.__init__(self, *state)

    def get(self, place: int) -> npt.NDArray[np.uint8] | None:
        """Return the image at `place`; None where it is not there yet, or cannot be read."""
        buffer = bytearray(_SUM_BYTES + self._size)
        try:
            count = os.preadv(self._file, [buffer], place * len(buffer))
        except OSError:  # a bad block: the image's own file is read instead
            return None
        pixels = memoryview(buffer)[_SUM_BYTES:]
        if count < len(buffer) or int.from_bytes(buffer[:_SUM_BYTES], "little") != zlib.crc32(pixels) | _THERE:
            return None
        return np.frombuffer(pixels, np.uint8).reshape(self._shape)

    def put(self, place: int, image: npt.NDArray[np.uint8]) -> None:
        """Keep `image` at `place`, unless the disk is full; see `take_trouble`."""
        if not self._grows:
            return
        pixels = np.ascontiguousarray(image).data
        head = (zlib.crc32(pixels) | _THERE).to_bytes(_SUM_BYTES, "little")
        try:
            if not place % 64:
                self._require_space()
            os.pwritev(self._file, [head, pixels], place * (_SUM_BYTES + self._size))
        except OSError as error:
            self._grows = False
            self._trouble.append(f"{self.path}: no more decoded images are cached here ({reason_of(error)})")

    def _require_space(self) -> None:
        disk = os.fstatvfs(self._file)
        if disk.f_bavail * disk.f_frsize < _LEFT_FREE:
            raise OSError(f"less than {_LEFT_FREE // 2**30} GB of disk space is free")

    def take_trouble(self) -> list[str]:
        """Return why images are not kept any more, once."""
        found, self._trouble = self._trouble, []
        return found


class CachedSource:
    """Images of another source that have files and draw nothing, as a `Source` that decodes each file once.

    `places` are those of the images in the cache, `stamps` what their files were like when it was made: one that was
    changed since is read anew each time.
    """

    draws = False

    def __init__(self, whole: Source, cache: DecodedCache, places: npt.NDArray[np.int64], stamps: list[Stamp]) -> None:
        self._whole = whole
        self.cache = cache
        self._places = places
        self._stamps = stamps
        self.threads = whole.threads
        self.shape = whole.shape
        self.labels = whole.labels

    def load(self, index: int, seed: int | None = None) -> npt.NDArray[Any]:
        """Return an image from the cache, else from its file, and then keep it. Raises `Unreadable`."""
        place, path = int(self._places[index]), self._whole.file(index)
        known = self._stamps[place]
        if stamp(path) != known:
            return self._whole.load(index, seed)
        kept = self.cache.get(place)
        if kept is not None:
            return kept
        image = self._whole.load(index, seed)
        if stamp(path) == known:  # not changed while it was read
            self.cache.put(place, image)
        return image

    def describe(self, index: int) -> str:
        """Return what the source calls the image."""
        return self._whole.describe(index)

    def file(self, index: int) -> str:
        """Return the path of the image's file."""
        return self._whole.file(index)


def decoded_once(found: Found) -> tuple[Found, str]:
    """Return `found` with a cache for its images, where these are files of a folder and the disk has the space, and in
    words which of it; nothing where they are no files.
    """
    description = found.description
    if description is None or description.kind != "folder" or description.decoding is None:
        return found, ""
    files = sorted({source.file(index) for source in found.parts.values() for index in range(len(source.labels))})
    stamps = [stamp(file) or (0, 0) for file in files]
    size = len(files) * (_SUM_BYTES + int(np.prod(found.shape)))
    path = cache_folder() / f"{_key(files, stamps, description.decoding)}{_SUFFIX}"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _tidy(path, MOST_BYTES - size)
        room = min(_FREE_SHARE * (shutil.disk_usage(path.parent).free + _taken(path)), MOST_BYTES)
        if size > room:
            return found, f"decoded every epoch: {size / 1e9:.1f} GB is more than the cache may use"
        cache = DecodedCache(path, found.shape)
    except OSError as error:
        return found, f"decoded every epoch: there is no cache in {path.parent} ({reason_of(error)})"
    places = {file: place for place, file in enumerate(files)}

    def cached(source: Source | None) -> CachedSource | None:
        if source is None:
            return None
        own = [places[source.file(index)] for index in range(len(source.labels))]
        return CachedSource(source, cache, np.array(own, dtype=np.int64), stamps)

    train = cached(found.train)
    assert train is not None, "every data set has training images"
    found = dataclasses.replace(found, train=train, val=cached(found.val), test=cached(found.test))
    return found, f"decoded once into {path.parent}"


def _key(files: Sequence[str], stamps: Sequence[Stamp], decoding: msgspec.Struct) -> str:
    """Return a name for the pixels of these files: of what they are, how they are decoded, and by which libraries."""
    libraries = [PIL.__version__, features.version("libjpeg_turbo"), features.version("jpg"), features.version("zlib")]
    digest = hashlib.sha256(msgspec.json.encode([_LAYOUT, libraries, decoding]))
    for file, (size, changed) in zip(files, stamps, strict=True):
        digest.update(f"{file}\0{size}\0{changed}\0".encode(errors="surrogateescape"))
    return digest.hexdigest()[:32]


def _taken(path: Path) -> int:
    """Return the bytes that the file `path` takes on the disk."""
    try:
        return path.stat().st_blocks * 512
    except OSError:
        return 0


def _tidy(keep: Path, room: int) -> None:
    """Remove caches that nobody used for a month, and the longest unused ones until the rest takes no more than `room`.

    `keep` stays, and what an engine has open.
    """
    others = []
    for path in keep.parent.glob(f"*{_SUFFIX}"):
        with contextlib.suppress(FileNotFoundError):  # another engine has just removed it
            if path != keep:
                others.append((path.stat().st_mtime, _taken(path), path))
    total = sum(taken for _, taken, _ in others)
    for used, taken, path in sorted(others):
        if (time.time() - used > _UNUSED_SECONDS or total > room) and _removed(path):
            total -= taken


def _removed(path: Path) -> bool:
    with contextlib.suppress(OSError), path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
        return True
    return False
