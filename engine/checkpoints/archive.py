"""A look at a file of torch's before anything in it is loaded, so that none can take more memory than it is long.

torch's own reader takes the number of a storage's elements from the pickle, inflates what is compressed, and makes
whatever objects it is told to. Here a file is refused unless each of its parts is stored as it is, within the file,
where no other is, as long as the pickle says; and tensors stay within their storages. Needs no torch.
"""

import io
import os
import struct
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from finetui.engine.checkpoints.pickle_audit import (
    ArchiveError,
    Dtype,
    Globals,
    Machine,
    MoreThanTensors,
    Storage,
    most_bytes,
)

__all__ = [
    "ArchiveError",
    "MoreThanTensors",
    "OldFormat",
    "audit",
    "find_damage",
    "is_archive",
    "is_big_endian",
    "read_storages",
]

_LOCAL, _CENTRAL, _END, _END_64, _LOCATOR_64 = b"PK\3\4", b"PK\1\2", b"PK\5\6", b"PK\6\6", b"PK\6\7"
_LOCAL_LENGTH, _CENTRAL_LENGTH, _END_LENGTH, _END_64_LENGTH, _LOCATOR_64_LENGTH = 30, 46, 22, 56, 20
_LONGEST_COMMENT = 0xFFFF
_IN_ZIP64 = 0xFFFFFFFF
_ZIP64_EXTRA = 1
_ODD_FLAGS = 0b0010_0000_0110_0001  # encrypted, or patched, in one of the three ways that there are
_MOST_ENTRIES = 50_000
_MOST_DIRECTORY = 8 << 20  # bytes
_CHUNK = 1 << 20

_BEFORE_1_6 = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # the first bytes of a file of torch's before it wrote zip


class OldFormat(ArchiveError):
    """The file is not a zip archive, as torch wrote them before 1.6."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """A part of a zip archive: where its bytes are in the file, and their CRC-32."""

    name: str
    start: int
    size: int
    crc: int


def is_archive(file: BinaryIO) -> bool:
    """Tell whether torch reads `file` as a zip archive: by its first bytes, whatever its end says."""
    file.seek(0)
    return file.read(len(_LOCAL)) == _LOCAL


def audit(file: BinaryIO, allowed: Globals) -> Any:
    """Return what the torch file `file` describes, tensors as `SymbolicTensor`; their data is not read.

    It may name the classes and functions in `allowed` only. Raises `ArchiveError` when torch must not load it:
    `MoreThanTensors` when that is for what it names, `OldFormat` when it is no zip archive.
    """
    size = file.seek(0, os.SEEK_END)
    if is_archive(file):
        return _audit_archive(file, size, allowed)
    file.seek(0)
    if file.read(len(_BEFORE_1_6)) == _BEFORE_1_6:
        raise OldFormat("it is in the format of torch before 1.6; load it with torch and save it again")
    raise ArchiveError("it is not a torch file")


def read_storages(file: BinaryIO, keys: Collection[str]) -> dict[str, bytearray]:
    """Return the bytes of the storages `keys` of a torch file that was audited. Raises `ArchiveError`."""
    entries = _entries(file, file.seek(0, os.SEEK_END))
    found = {}
    for key in keys:
        entry = entries[f"data/{key}"]
        data = found[key] = bytearray(entry.size)
        file.seek(entry.start)
        if file.readinto(data) != entry.size:  # type: ignore[attr-defined]
            raise ArchiveError("it is truncated")
    return found


def is_big_endian(file: BinaryIO) -> bool:
    """Tell whether the numbers in a torch file that was audited are of a machine with the other byte order."""
    entry = _entries(file, file.seek(0, os.SEEK_END)).get("byteorder")
    return entry is not None and entry.size == 3 and _read(file, entry.start, entry.size) == b"big"


def find_damage(file: BinaryIO) -> str | None:
    """Return the name of a part of the zip archive `file` whose checksum is wrong, or None.

    torch does not look at them. Raises `ArchiveError`.
    """
    buffer = memoryview(bytearray(_CHUNK))
    for entry in _entries(file, file.seek(0, os.SEEK_END)).values():
        file.seek(entry.start)
        left, crc = entry.size, 0
        while left > 0:
            count = file.readinto(buffer[: min(left, _CHUNK)])  # type: ignore[attr-defined]
            if not count:
                raise ArchiveError("it is truncated")
            crc = zlib.crc32(buffer[:count], crc)
            left -= count
        if crc != entry.crc:
            return entry.name
    return None


def _audit_archive(file: BinaryIO, size: int, allowed: Globals) -> Any:
    entries = _entries(file, size)
    if "constants.pkl" in entries:
        raise MoreThanTensors("a TorchScript program")
    pickle = entries.get("data.pkl")
    if pickle is None:
        raise ArchiveError("it has no data.pkl")
    if pickle.size > most_bytes(size):
        raise ArchiveError("its data.pkl is far too large for a network")
    storages: dict[str, Storage] = {}

    def storage(dtype: Any, key: Any, location: Any, numel: Any) -> Storage:
        if type(dtype) is not Dtype or (type(key), type(location), type(numel)) != (str, str, int):
            raise TypeError
        entry = entries.get(f"data/{key}")
        if entry is None or entry.size != numel * dtype.itemsize:
            raise ArchiveError("one of its storages is not as long as stated")
        # torch reads each once, as what it is called first, and would enlarge it for what is called so later.
        if storages.setdefault(key, Storage(dtype, numel)).dtype != dtype:
            raise ArchiveError("one of its storages has two dtypes")
        return Storage(dtype, numel, key)

    return Machine(allowed, storage, size).run(io.BytesIO(_read(file, pickle.start, pickle.size)))


# -- the zip archive ------------------------------------------------------------------------------------------


def _entries(file: BinaryIO, size: int) -> dict[str, _Entry]:
    """Return the parts of the archive by their names within it.

    Whatever two readers of zip files could understand differently is refused: torch's is another one.
    """
    start, length, count = _directory(file, size)
    if count > _MOST_ENTRIES or length > _MOST_DIRECTORY:
        raise ArchiveError("it has far too many entries for a network")
    entries: dict[str, _Entry] = {}
    root = None
    end = 0  # of what is taken by other parts
    seen = set()
    for name, header, content, crc in sorted(_listed(_read(file, start, length), count), key=lambda listed: listed[1]):
        first, _, rest = name.partition("/")
        root = first if root is None else root
        if not rest or first != root or name.lower() in seen:  # torch's reader takes upper and lower case for the same
            raise ArchiveError("its entries are not named as torch names them")
        seen.add(name.lower())
        if header < end:
            raise ArchiveError("its entries overlap")
        entry = _Entry(rest, _content_start(file, header, name), content, crc)
        end = entry.start + content
        if end > start:
            raise ArchiveError("one of its entries is longer than the file")
        entries[rest] = entry
    return entries


def _directory(file: BinaryIO, size: int) -> tuple[int, int, int]:
    """Return where the list of all parts starts, its length in bytes, and the number of parts."""
    tail_start = max(0, size - _END_LENGTH - _LONGEST_COMMENT)
    tail = _read(file, tail_start, size - tail_start)
    at = tail.rfind(_END)
    if at < 0 or len(tail) - at < _END_LENGTH:
        raise ArchiveError("it is truncated")
    disk, first_disk, here, count, length, start, comment = struct.unpack_from("<4H2IH", tail, at + 4)
    if (disk, first_disk) != (0, 0) or here != count or at + _END_LENGTH + comment != len(tail):
        raise ArchiveError("its end is damaged")
    end = tail_start + at
    locator_at = end - _LOCATOR_64_LENGTH
    locator = _read(file, locator_at, _LOCATOR_64_LENGTH) if locator_at >= 0 else b""
    if locator.startswith(_LOCATOR_64):
        end = locator_at - _END_64_LENGTH
        record = _read(file, end, _END_64_LENGTH) if end >= 0 else b""
        if not record.startswith(_END_64) or struct.unpack_from("<IQI", locator, 4) != (0, end, 1):
            raise ArchiveError("its end is damaged")
        wide = struct.unpack_from("<Q2H2I4Q", record, 4)
        if wide[0] != _END_64_LENGTH - 12 or wide[3:5] != (0, 0) or wide[5] != wide[6]:
            raise ArchiveError("its end is damaged")
        narrow = ((count, 0xFFFF), (length, _IN_ZIP64), (start, _IN_ZIP64))
        if any(few not in (many, mark) for (few, mark), many in zip(narrow, wide[6:], strict=True)):
            raise ArchiveError("its end is damaged")
        count, length, start = wide[6:]
    if start + length != end:
        raise ArchiveError("its end is damaged")
    return start, length, count


def _listed(directory: bytes, count: int) -> Iterator[tuple[str, int, int, int]]:
    """Yield each part in the list of parts: its name, where its header is, its size in bytes and its CRC-32."""
    at = 0
    for _ in range(count):
        if directory[at : at + 4] != _CENTRAL or at + _CENTRAL_LENGTH > len(directory):
            raise ArchiveError("its list of entries is damaged")
        flags, method, _, crc, packed, size, name_length, extra_length, comment_length, disk = struct.unpack_from(
            "<HH4s3I4H", directory, at + 8
        )
        (header,) = struct.unpack_from("<I", directory, at + 42)
        name_at = at + _CENTRAL_LENGTH
        extra_at = name_at + name_length
        at = extra_at + extra_length + comment_length
        extra = directory[extra_at : extra_at + extra_length]
        size, packed, header = _widened((size, packed, header), extra)
        if method != 0 or flags & _ODD_FLAGS or packed != size or disk != 0:
            if b"/code/__torch__" in directory:
                raise MoreThanTensors("a TorchScript program")
            raise ArchiveError("it is compressed or encrypted, which torch.save never does")
        name = directory[name_at:extra_at]
        if not name.isascii() or not name.decode("ascii").isprintable():
            raise ArchiveError("its entries are not named as torch names them")
        yield name.decode("ascii"), header, size, crc
    if at != len(directory):
        raise ArchiveError("its list of entries is damaged")


def _widened(numbers: tuple[int, int, int], extra: bytes) -> Iterator[int]:
    """Yield `numbers`, those that need more than 32 bits from the part's `extra` field."""
    wide = b""
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<HH", extra)
        if kind == _ZIP64_EXTRA and not wide:
            wide = extra[4 : 4 + length]
        extra = extra[4 + length :]
    for number in numbers:
        if number != _IN_ZIP64:
            yield number
        elif len(wide) >= 8:
            yield struct.unpack_from("<Q", wide)[0]
            wide = wide[8:]
        else:
            raise ArchiveError("its list of entries is damaged")


def _content_start(file: BinaryIO, header: int, name: str) -> int:
    """Return where the content of the part `name` starts, whose own header is at `header`."""
    local = _read(file, header, _LOCAL_LENGTH + len(name))
    name_length: int
    extra_length: int
    name_length, extra_length = struct.unpack_from("<2H", local, 26)
    if local[:4] != _LOCAL or name_length != len(name) or local[_LOCAL_LENGTH:] != name.encode("ascii"):
        raise ArchiveError("one of its entries is not where it should be")
    return header + _LOCAL_LENGTH + name_length + extra_length


def _read(file: BinaryIO, start: int, length: int) -> bytes:
    file.seek(start)
    data = file.read(length)
    if len(data) != length:
        raise ArchiveError("it is truncated")
    return data
