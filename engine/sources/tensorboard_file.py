"""One event file of TensorBoard's, read as it grows: frames of TFRecord with checked sums, and what is in them.

Why not the package `tensorboard`, which has a loader: see `finetui.engine.sources.tensorboard`.

The sum of each length is checked, and that of each payload with a scalar or hyperparameters, as the loader of the
package `tensorboard` does: a flipped bit makes no point.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from finetui.engine.sources.crc32c import masked_crc32c, masked_crc32c_of_all
from finetui.engine.sources.tail import Tail
from finetui.engine.sources.tensorboard_event import FastParser, Malformed, Record
from finetui.engine.sources.tensorboard_frames import FRAME, HEADER, Places, next_frame, uint32_at, whole_frames
from finetui.engine.sources.tensorboard_scalars import ScalarDecoder, Scalars

_BLOCK = 2 << 20  # bytes
_LONG = 4096  # bytes: payloads above are not of one scalar, and are summed only where there are scalars in them
_LONGEST = 16 << 20  # bytes: a graph, a film; it is not read at all
_MANY = 1024  # records, of which the scalars are decoded together
_PIECES = 16  # that these may be cut into by records of another kind


class EventFile:
    """Reads the file at `path`. `damaged` counts frames with wrong sums, `skipped` what is not read, by its kind."""

    def __init__(self, path: Path) -> None:
        self.tail = Tail(path)
        self.damaged = 0
        self.skipped: Counter[str] = Counter()
        self._parse = FastParser()
        self._decoder = ScalarDecoder()

    def read(self) -> Iterator[Record | Scalars | str]:
        """Yield the records since the last look, whole ones with right sums; a text says why all is told anew.

        Where there are many, those with a scalar come together.

        Raises OSError.
        """
        with self.tail.opened() as (file, why):
            if why:
                self.damaged = 0
                self.skipped.clear()
                yield why
            held = b""
            while True:
                more = file.read(_BLOCK)
                held += more
                used, records = self._frames(held)
                self.tail.advance(memoryview(held)[:used])
                yield from records
                held = self._past_obstacle(file, held[used:], is_all=len(more) < _BLOCK)
                if not more and not used:
                    return

    def _frames(self, held: bytes) -> tuple[int, list[Record | Scalars]]:
        """Return what the whole frames at the beginning of `held` say, and how many bytes they take."""
        starts, ends = whole_frames(held)
        if not len(starts):
            return 0, []
        places, lengths = starts + HEADER.size, ends - starts - FRAME
        records: list[Record | Scalars]
        if len(places) < _MANY:
            records = [record for _, record in self._records(held, places, lengths)]
        else:
            records = self._many(held, places, lengths)
        return int(ends[-1]), records

    def _many(self, held: bytes, places: Places, lengths: Places) -> list[Record | Scalars]:
        """Return what many payloads at `places` of `held` say: the scalars together, the others between them."""
        scalars, rest, damaged = self._decoder.decode(held, places, lengths)
        self.damaged += damaged
        others = [(int(rest[at]), record) for at, record in self._records(held, places[rest], lengths[rest])]
        kept = np.flatnonzero(scalars.tag >= 0)
        scalars = scalars.part(kept) if len(kept) < len(places) else scalars
        cuts = np.searchsorted(kept, [at for at, _ in others]).tolist()
        found: list[Record | Scalars] = []
        start = 0
        for cut, (_, record) in zip([*cuts, len(kept)], [*others, (0, None)], strict=True):
            if cut > start:
                part = scalars.part(slice(start, cut))
                found += [part] if len(others) < _PIECES else part.one_by_one()
            found += [record] if record is not None else []
            start = cut
        return found

    def _records(self, held: bytes, places: Places, lengths: Places) -> list[tuple[int, Record]]:
        """Return what the payloads at `places` of `held` say, each with its number; what says nothing is left out."""
        told = uint32_at(held, places + lengths)
        short = lengths <= _LONG
        right = np.ones(len(places), bool)
        right[short] = masked_crc32c_of_all(held, places[short], lengths[short]) == told[short]
        found = []
        for number, (at, length, is_right, told_sum) in enumerate(
            zip(places.tolist(), lengths.tolist(), right.tolist(), told.tolist(), strict=True)
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
                found.append((number, record))
        return found

    def _past_obstacle(self, file: BinaryIO, held: bytes, *, is_all: bool) -> bytes:
        """Return `held`, at whose beginning no whole frame is, from the next one on.

        What is torn at the end of the file is left for the next look, where `is_all` there is.
        """
        if len(held) < HEADER.size:
            return held
        length, told = HEADER.unpack_from(held)
        if masked_crc32c(held[:8]) == told:
            missing = length + FRAME - len(held)
            if length > _LONGEST and missing <= self.tail.unread() - len(held):
                self.skipped["large records"] += 1
                self.tail.jump(file, length + FRAME)
                file.seek(self.tail.offset)
                return b""
            if missing > 0:
                return held
        found = next_frame(held, 1)
        if found is None and is_all:
            return held
        passed = max(len(held) - HEADER.size + 1, 1) if found is None else found
        self.damaged += found is not None
        self.tail.advance(memoryview(held)[:passed])
        return held[passed:]
