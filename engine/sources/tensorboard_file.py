"""One event file of TensorBoard's, read as it grows: frames of TFRecord with checked sums, and what is in them.

Why not the package `tensorboard`, which has a loader: see `finetui.engine.sources.tensorboard`.

A frame is its length (8 bytes, little endian), the masked CRC-32C of these, the payload, and its masked CRC-32C.
"""

import struct
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from finetui.engine.sources.crc32c import masked_crc32c, masked_crc32c_of_all
from finetui.engine.sources.tail import BLOCK, Tail
from finetui.engine.sources.tensorboard_event import FastParser, Malformed, Record

Places = npt.NDArray[np.int64]

_HEADER = struct.Struct("<QI")
_FRAME = _HEADER.size + 4  # bytes beside the payload
_LONG = 4096  # bytes: payloads above are not of one scalar, and are summed only where there are scalars in them
_LONGEST = 16 << 20  # bytes: a graph, a film; it is not read at all


class EventFile:
    """Reads the file at `path`. `damaged` counts frames with wrong sums, `skipped` what is not read, by its kind."""

    def __init__(self, path: Path) -> None:
        self.tail = Tail(path)
        self.damaged = 0
        self.skipped: Counter[str] = Counter()
        self._parse = FastParser()

    def read(self) -> Iterator[Record | str]:
        """Yield the records since the last look, whole ones with right sums; a text says why all is told anew.

        Raises OSError.
        """
        with self.tail.opened() as (file, why):
            if why:
                self.damaged = 0
                self.skipped.clear()
                yield why
            held = b""
            while True:
                more = file.read(BLOCK)
                held += more
                used, records = self._frames(held)
                self.tail.advance(memoryview(held)[:used])
                yield from records
                held = self._past_obstacle(file, held[used:], is_all=len(more) < BLOCK)
                if not more and not used:
                    return

    def _frames(self, held: bytes) -> tuple[int, list[Record]]:
        """Return what the whole frames at the beginning of `held` say, and how many bytes they take."""
        starts: list[int] = []
        lengths: list[int] = []
        sums: list[int] = []
        at, end = 0, len(held) - _FRAME
        while at <= end:
            length, told = _HEADER.unpack_from(held, at)
            if length > end - at:
                break
            starts.append(at)
            lengths.append(length)
            sums.append(told)
            at += length + _FRAME
        if not starts:
            return 0, []
        right = masked_crc32c_of_all(held, starts, np.full(len(starts), 8)) == np.array(sums, np.uint32)
        count = len(starts) if right.all() else int(right.argmin())
        places = np.array(starts[:count], np.int64) + _HEADER.size
        records = self._records(held, places, np.array(lengths[:count], np.int64))
        return (starts[count] if count < len(starts) else at), records

    def _records(self, held: bytes, places: Places, lengths: Places) -> list[Record]:
        """Return what the payloads at `places` of `held` say."""
        told = _uint32_at(held, places + lengths)
        short = lengths <= _LONG
        right = np.ones(len(places), bool)
        right[short] = masked_crc32c_of_all(held, places[short], lengths[short]) == told[short]
        found = []
        for at, length, is_right, told_sum in zip(
            places.tolist(), lengths.tolist(), right.tolist(), told.tolist(), strict=True
        ):
            payload = held[at : at + length]
            try:
                record = self._parse(payload) if is_right else None
            except Malformed:
                record = None
            if record is not None and length > _LONG and (record.scalars or record.hparams):
                record = record if masked_crc32c(payload) == told_sum else None
            if record is None:
                self.damaged += 1
                continue
            self.skipped.update(record.skipped)
            if record.scalars or record.hparams or record.restarts:
                found.append(record)
        return found

    def _past_obstacle(self, file: BinaryIO, held: bytes, *, is_all: bool) -> bytes:
        """Return `held`, at whose beginning no whole frame is, from the next one on.

        What is torn at the end of the file is left for the next look, where `is_all` there is.
        """
        if len(held) < _HEADER.size:
            return held
        length, told = _HEADER.unpack_from(held)
        if masked_crc32c(held[:8]) == told:
            missing = length + _FRAME - len(held)
            if length > _LONGEST and missing <= self.tail.unread() - len(held):
                self.skipped["large records"] += 1
                self.tail.jump(file, length + _FRAME)
                file.seek(self.tail.offset)
                return b""
            if missing > 0:
                return held
        found = _next_frame(held, 1)
        if found is None and is_all:
            return held
        passed = max(len(held) - _HEADER.size + 1, 1) if found is None else found
        self.damaged += found is not None
        self.tail.advance(memoryview(held)[:passed])
        return held[passed:]


def _uint32_at(data: bytes, places: Places) -> npt.NDArray[np.uint32]:
    """Return the numbers, little endian, at `places` of `data`."""
    content = np.frombuffer(data, np.uint8)
    return sum(content[places + byte].astype(np.uint32) << np.uint32(8 * byte) for byte in range(4))  # type: ignore[return-value]


def _next_frame(held: bytes, start: int) -> int | None:
    """Return where from `start` on a frame begins, by the sum of its length; None where none does."""
    places = np.arange(start, len(held) - _HEADER.size + 1)
    sums = masked_crc32c_of_all(held, places, np.full(len(places), 8))
    found = np.flatnonzero(sums == _uint32_at(held, places + 8)) if len(places) else places
    return int(places[found[0]]) if len(found) else None
