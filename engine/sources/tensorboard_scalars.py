"""The scalars of many records of an event file at once.

The records of one writer have few layouts: those of a tag and a length of step differ in the time, the step and the
number alone. A layout is learned from the first record that has it, by what `parse` makes of that record with another
time, step and number; then all that have its length are compared with it together, and their sums checked by the bytes
that differ. What has no such layout is left to `parse`.
"""

import struct
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from finetui.engine.sources.crc32c import Sums, added_by, crc32c, masked
from finetui.engine.sources.rows import Floats, Ints, sorted_order
from finetui.engine.sources.tensorboard_event import Malformed, Record, Scalar, parse
from finetui.engine.sources.tensorboard_frames import Places, uint32_at

_SHORTEST, _LONGEST = 24, 512  # bytes of a payload that is looked at
_MOST_STEP = 9  # bytes of a step that is no negative number
_FEW = 8  # records of a length, which are not worth it
_MOST_LAYOUTS = 4096
_MOST_FAILURES = 64  # of one length and step; then none is learned any more
_OTHER, _DAMAGED = -1, -2  # instead of a tag
_PROBES = ((1.25e9, 1, 1.5), (3.5e8, 5, -0.375))  # time, last byte of the step, number
_Bytes = npt.NDArray[np.uint8]
_Hashes = npt.NDArray[np.uint64]


class Scalars(NamedTuple):
    """`n` records with one number each: `values[i]` of the tag `tags[tag[i]]`, at `step[i]` and `time[i]`."""

    tags: list[str]
    tag: Ints
    step: Ints
    time: Floats
    values: Floats

    def part(self, which: slice | Ints) -> "Scalars":
        """Return some of them."""
        return Scalars(self.tags, self.tag[which], self.step[which], self.time[which], self.values[which])

    def names(self) -> list[str]:
        """Return the tags that there are among them."""
        return [self.tags[tag] for tag in np.flatnonzero(np.bincount(self.tag, minlength=0)).tolist()]

    def one_by_one(self) -> list[Record]:
        """Return a record for each."""
        columns = (self.time.tolist(), self.step.tolist(), self.tag.tolist(), self.values.tolist())
        return [
            Record(time, step, [Scalar(self.tags[tag], value)], {}, False, [])
            for time, step, tag, value in zip(*columns, strict=True)
        ]


class _Layout(NamedTuple):
    """The layouts of one length and size of step whose number, in `format`, is at `at`."""

    at: int
    format: str


class _Known:
    """The layouts of payloads of `length` bytes, with a step of `size` bytes (0: it is not told) and their `place`."""

    def __init__(self, length: int, size: int, place: _Layout) -> None:
        self.place = place
        width = np.dtype(place.format).itemsize
        start = 10 + size if size else 9
        self.differs = [*range(1, 9), *range(10, 10 + size), *range(place.at, place.at + width)]
        self._same: list[tuple[int, str]] = []  # what is the same in all of a layout: places and sizes
        for first, last in ((start, place.at), (place.at + width, length)):
            if last - first >= 8:
                self._same += [(at, "<u8") for at in range(first, last - 7, 8)] + [(last - 8, "<u8")]
            else:
                self._same += [(at, "<u1") for at in range(first, last)]
        self._length = length
        self._hashes: _Hashes = np.empty(0, np.uint64)
        self._words: npt.NDArray[np.uint64] = np.empty((0, len(self._same)), np.uint64)
        self._tags: Ints = np.empty(0, np.int64)
        self._sums: Sums = np.empty(0, np.uint32)  # with zeros in all that differs

    def _columns(self, payloads: _Bytes) -> list[npt.NDArray[np.uint64]]:
        return [column(payloads, at, kind).astype(np.uint64) for at, kind in self._same]

    def _hashed(self, columns: list[npt.NDArray[np.uint64]]) -> _Hashes:
        found = np.zeros(len(columns[0]), np.uint64)
        for words in columns:
            found = (found ^ words) * np.uint64(0x9E3779B97F4A7C15)
            found ^= found >> np.uint64(29)
        return found

    def add(self, payload: bytes, tag: int) -> bool:
        """Learn the layout of `payload`, which is of `tag`; whether it is not one that looks like a known one."""
        columns = self._columns(np.frombuffer(payload, np.uint8)[None])
        hashed = self._hashed(columns)[0]
        at = int(np.searchsorted(self._hashes, hashed))
        if at < len(self._hashes) and self._hashes[at] == hashed:
            return False
        blank = bytearray(payload)
        for place in self.differs:
            blank[place] = 0
        self._hashes = np.insert(self._hashes, at, hashed)
        self._words = np.insert(self._words, at, [words[0] for words in columns], axis=0)
        self._tags = np.insert(self._tags, at, tag)
        self._sums = np.insert(self._sums, at, np.uint32(crc32c(bytes(blank))))
        return True

    def find(self, payloads: _Bytes) -> tuple[Ints, Sums]:
        """Return the tag of each of `payloads` (`_OTHER` where it has no known layout), and the sum of its layout."""
        if not len(self._hashes):
            return np.full(len(payloads), _OTHER), np.zeros(len(payloads), np.uint32)
        columns = self._columns(payloads)
        if len(self._hashes) == 1:
            which = np.zeros(len(payloads), np.int64)
        else:
            which = np.minimum(np.searchsorted(self._hashes, self._hashed(columns)), len(self._hashes) - 1)
        right = np.ones(len(payloads), bool)
        for number, words in enumerate(columns):
            right &= words == self._words[which, number]
        return np.where(right, self._tags[which], _OTHER), self._sums[which]


class _Group:
    """All layouts of one length and size of step."""

    def __init__(self, length: int, size: int) -> None:
        self.length, self.size = length, size
        self.known = [_Known(length, size, _Layout(length - 4, "<f4"))]
        self.failures = 0

    def learn(self, payload: bytes, tags: dict[str, int]) -> bool:
        """Learn the layout of `payload`; whether it has one."""
        found = _layout(payload, self.size)
        if found is not None:
            place, tag = found
            known = next((one for one in self.known if one.place == place), None)
            if known is None:
                known = _Known(self.length, self.size, place)
                self.known.append(known)
            if known.add(payload, tags.setdefault(tag, len(tags))):
                return True
        self.failures += 1
        return False


class ScalarDecoder:
    """Decodes the records of one file."""

    def __init__(self) -> None:
        self._groups: dict[tuple[int, int], _Group] = {}
        self._numbers: dict[str, int] = {}
        self._tags: list[str] = []
        self._layouts = 0

    def decode(self, held: bytes, places: Places, lengths: Places) -> tuple[Scalars, Ints, int]:
        """Return the scalars among the payloads at `places` of `held`, which of all they are, and how many are damaged.

        Those that are neither are for `parse`.
        """
        told = Scalars(
            self._tags, np.full(len(places), _OTHER), np.zeros(len(places), np.int64), np.zeros(len(places)),
            np.zeros(len(places)),
        )  # fmt: skip
        kinds = np.minimum(lengths, _LONGEST + 1)
        order = sorted_order(kinds, _LONGEST + 1)
        cuts = np.flatnonzero(np.diff(kinds[order])) + 1
        for which in np.split(order, cuts):
            length = int(kinds[which[0]]) if len(which) else 0
            if len(which) >= _FEW and _SHORTEST <= length <= _LONGEST:
                self._of_length(held, places, which, length, told)
        return told, np.flatnonzero(told.tag == _OTHER), int(np.count_nonzero(told.tag == _DAMAGED))

    def _of_length(self, held: bytes, places: Places, which: Ints, length: int, told: Scalars) -> None:
        pieces = np.ndarray((len(held) - length + 1,), f"V{length}", held, strides=(1,))
        payloads = pieces[places[which]].view(np.uint8).reshape(len(which), length)
        sizes = _step_sizes(payloads)
        for size in np.flatnonzero(np.bincount(sizes)).tolist():
            if size <= _MOST_STEP:
                alike = np.flatnonzero(sizes == size)
                part = payloads if len(alike) == len(which) else payloads[alike]
                self._of_layouts(held, places, which[alike], part, size, told)

    def _of_layouts(self, held: bytes, places: Places, which: Ints, payloads: _Bytes, size: int, told: Scalars) -> None:
        """Fill in what `payloads`, of one length and size of step, say, for the records `which`."""
        length = payloads.shape[1]
        group = self._groups.setdefault((length, size), _Group(length, size))
        left = np.arange(len(which))
        while len(left):
            for known in group.known:
                some = payloads if len(left) == len(payloads) else payloads[left]
                tag, base = known.find(some)
                is_it = np.flatnonzero(tag != _OTHER)
                if len(is_it):
                    part = some if len(is_it) == len(some) else some[is_it]
                    sums = masked(_summed(base[is_it], part, known.differs))
                    mine = which[left[is_it]]
                    right = sums == uint32_at(held, places[mine] + length)
                    told.tag[mine] = np.where(right, tag[is_it], _DAMAGED)
                    told.time[mine] = column(part, 1, "<f8")
                    told.step[mine] = _steps(part, size)
                    told.values[mine] = column(part, known.place.at, known.place.format)
                left = left[tag == _OTHER]
                if not len(left):
                    return
            if group.failures >= _MOST_FAILURES or self._layouts >= _MOST_LAYOUTS:
                return
            if group.learn(payloads[left[0]].tobytes(), self._numbers):
                self._layouts += 1
                self._tags[:] = list(self._numbers)
            else:
                left = left[1:]


def column(payloads: _Bytes, at: int, format_: str) -> npt.NDArray[np.generic]:
    """Return the number in `format_` at `at` of each of `payloads`, uint8 `[n, length]`."""
    return np.ndarray((len(payloads),), format_, payloads, at, (payloads.shape[1],))


def _step_sizes(payloads: _Bytes) -> Ints:
    """Return of how many bytes each step is; 0: it is not told, above `_MOST_STEP`: no such record."""
    sizes = np.ones(len(payloads), np.int64)
    goes_on = np.ones(len(payloads), bool)
    for at in range(10, 10 + _MOST_STEP):
        goes_on &= payloads[:, at] >= 0x80
        if not goes_on.any():
            break
        sizes += goes_on
    sizes[payloads[:, 9] == 0x2A] = 0
    sizes[(payloads[:, 0] != 0x09) | (payloads[:, 9] != 0x10) & (payloads[:, 9] != 0x2A)] = _MOST_STEP + 1
    return sizes


def _steps(payloads: _Bytes, size: int) -> Ints:
    found = np.zeros(len(payloads), np.int64)
    for number in range(size):
        found |= (payloads[:, 10 + number].astype(np.int64) & 0x7F) << (7 * number)
    return found


def _summed(base: Sums, payloads: _Bytes, differs: list[int]) -> Sums:
    """Return the CRC of each of `payloads`, of which `base` is that with zeros in all places that differ."""
    length, sums = payloads.shape[1], base.copy()
    for at in differs:
        sums ^= added_by(length - 1 - at)[payloads[:, at]]
    return sums


def _layout(payload: bytes, size: int) -> tuple[_Layout, str] | None:
    """Return where the number of `payload` is, whose step has `size` bytes, and its tag; None: it is no plain scalar.

    The number is where others, written there, are what `parse` then says; time and step likewise.
    """
    try:
        told = parse(payload)
    except Malformed:
        return None
    if len(told.scalars) != 1 or told.hparams or told.skipped or told.restarts:
        return None
    tag, start = told.scalars[0].tag, 10 + size if size else 9
    for format_ in ("<f4", "<f8", "<f2"):
        width = np.dtype(format_).itemsize
        for at in range(len(payload) - width, start - 1, -1):
            if all(_is_at(payload, size, at, format_, tag, *probe) for probe in _PROBES):
                return _Layout(at, format_), tag
    return None


def _is_at(payload: bytes, size: int, at: int, format_: str, tag: str, time: float, last: int, value: float) -> bool:
    """Whether `payload` says what is written into it: `time`, a step that ends in `last`, and `value` at `at`."""
    probe, number = bytearray(payload), np.array(value, format_).tobytes()
    probe[1:9] = struct.pack("<d", time)
    probe[10 : 10 + size] = bytes([0x81] * (size - 1) + [last] * bool(size))
    probe[at : at + len(number)] = number
    step = sum((byte & 0x7F) << (7 * place) for place, byte in enumerate(probe[10 : 10 + size]))
    try:
        return parse(bytes(probe)) == Record(time, step, [Scalar(tag, value)], {}, False, [])
    except Malformed:
        return False
