"""The seal of a checkpoint: a SHA-256 of the zip archive that torch writes, kept as the archive's comment."""

import hashlib
import os
import struct
from typing import BinaryIO

_SEAL = b"finetui sha256 "
_SEAL_LENGTH = len(_SEAL) + 64
_END_LENGTH = 22  # bytes of a zip archive's last record; its last two count those of the comment that follows
_CHUNK = 1 << 20


class Sealer:
    """The file that torch writes to: passes everything on, and puts the checksum at the end.

    An error is kept until `finish`, and the rest is not written: torch would report it as a RuntimeError without errno.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self._end = b""
        self._failure: BaseException | None = None

    def write(self, data: bytes) -> int:
        """Write `data`, less the last bytes, which are held back."""
        if self._failure is None:
            try:
                if len(data) < _END_LENGTH:
                    data_and_end = self._end + bytes(data)
                    self._put(data_and_end[:-_END_LENGTH])
                    self._end = data_and_end[-_END_LENGTH:]
                else:
                    self._put(self._end)
                    self._put(memoryview(data)[:-_END_LENGTH])
                    self._end = bytes(data[-_END_LENGTH:])
            except BaseException as error:  # noqa: BLE001  # also an interrupt: it must not go through C++
                self._failure = error
        return len(data)

    def flush(self) -> None:
        """Do nothing: `finish` comes after it."""

    def finish(self) -> None:
        """Write the rest and the seal. Raises what went wrong before."""
        if self._failure is not None:
            raise self._failure
        self._put(self._end[:-2] + struct.pack("<H", _SEAL_LENGTH))
        self._file.write(_SEAL + self._hash.hexdigest().encode())

    def _put(self, data: bytes | memoryview) -> None:
        self._hash.update(data)
        self._file.write(data)


def find_seal(file: BinaryIO) -> bytes | None:
    """Return the seal at the end of `file`, or None."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _SEAL_LENGTH))
    seal = file.read(_SEAL_LENGTH)
    return seal if len(seal) == _SEAL_LENGTH and seal.startswith(_SEAL) else None


def seal_of(file: BinaryIO) -> bytes:
    """Return the seal that `file` should have: the checksum of all that comes before it."""
    left = file.seek(0, os.SEEK_END) - _SEAL_LENGTH
    file.seek(0)
    found = hashlib.sha256()
    buffer = memoryview(bytearray(_CHUNK))
    while left > 0:
        count = file.readinto(buffer[: min(left, _CHUNK)])  # type: ignore[attr-defined]
        if not count:
            break  # it has just become shorter
        found.update(buffer[:count])
        left -= count
    return _SEAL + found.hexdigest().encode()
