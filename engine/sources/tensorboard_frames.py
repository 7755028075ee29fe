"""Where the frames of TFRecord are in a block of bytes: found all at once, by a pattern or by how a short length looks.

Who logs the same numbers at each step writes frames whose lengths come again and again in the same order.

A frame is its length (8 bytes, little endian), the masked CRC-32C of these, the payload, and its masked CRC-32C.
"""

import struct
from functools import cache

import numpy as np
import numpy.typing as npt

from finetui.engine.sources.crc32c import Sums, masked_crc32c, masked_crc32c_of_all

Places = npt.NDArray[np.int64]

HEADER = struct.Struct("<QI")
FRAME = HEADER.size + 4  # bytes beside the payload
_LONGEST_PATTERN = 64  # frames
_MOST_BETWEEN = 4  # times that no pattern is found
_WORTH_IT = 1 << 15  # bytes: of fewer the frames are found one by one as fast
_SHORT = 1 << 16  # bytes: the lengths of shorter payloads end in six zeros


@cache
def _sums_of_lengths() -> Sums:
    """Return the masked CRC of each length below `_SHORT`."""
    lengths = np.arange(_SHORT, dtype="<u8").tobytes()
    return masked_crc32c_of_all(lengths, np.arange(_SHORT) * 8, np.full(_SHORT, 8))


def uint32_at(data: bytes, places: Places) -> Sums:
    """Return the numbers, little endian, at `places` of `data`."""
    if not len(places):
        return np.empty(0, np.uint32)
    return np.ndarray((len(data) - 3,), "<u4", data, strides=(1,))[places]


def _short_frames(held: bytes) -> tuple[Places, Places]:
    """Return start and end of each whole frame with a short payload that there may be in `held`, by its header."""
    content = np.frombuffer(held, np.uint8)
    zeros = content == 0
    zeros = zeros[:-1] & zeros[1:]  # that two follow each other, then six
    zeros = zeros[:-4] & zeros[2:-2] & zeros[4:]
    starts = np.flatnonzero(zeros[2 : len(held) - FRAME + 3])
    lengths = content[starts] | content[starts + 1].astype(np.int64) << 8
    right = _sums_of_lengths()[lengths] == uint32_at(held, starts + 8)
    starts, ends = starts[right], (starts + lengths)[right] + FRAME
    whole = ends <= len(held)
    return starts[whole], ends[whole]


def _first_frames(held: bytes, at: int) -> list[int]:
    """Return the starts of the first frames with right headers from `at` on, and where the last of them ends."""
    starts = [at]
    while len(starts) <= 2 * _LONGEST_PATTERN and at + FRAME <= len(held):
        length, told = HEADER.unpack_from(held, at)
        if length >= _SHORT or _sums_of_lengths()[length] != told:
            break
        at += length + FRAME
        if at > len(held):
            break
        starts.append(at)
    return starts


def _repeated_frames(held: bytes, first: list[int]) -> tuple[Places, Places] | None:
    """Return start and end of the frames that begin as `first` do and have their headers over and over.

    None where they have no pattern, or not for long.
    """
    at, lengths = first[0], np.diff(first)
    alike = (n for n in range(1, len(lengths) // 2 + 1) if (lengths[n:] == lengths[:-n]).all())
    period = next(alike, None)
    if period is None:
        return None
    starts, stride = first[:period], first[period] - at
    count = (len(held) - at) // stride
    for start in starts:
        for place, kind in ((start, "<u8"), (start + 8, "<u4")):
            found = np.ndarray((count,), kind, held, place, (stride,))
            others = np.flatnonzero(found != found[0])
            count = int(others[0]) if len(others) else count
    if count * stride < _WORTH_IT:
        return None
    places = (np.array(starts) + stride * np.arange(count)[:, None]).ravel()
    return places, np.append(places[1:], at + count * stride)


def _by_patterns(held: bytes) -> list[tuple[Places, Places]]:
    """Return start and end of frames that `held` begins with, as far as patterns go on and few are between them."""
    found: list[tuple[Places, Places]] = []
    at = between = 0
    while between < _MOST_BETWEEN:
        first = _first_frames(held, at)
        if len(first) < 3:
            break
        repeated = _repeated_frames(held, first)
        if repeated is None:
            between += 1
            repeated = np.array(first[:-1]), np.array(first[1:])
        found.append(repeated)
        at = int(repeated[1][-1])
    return found


def whole_frames(held: bytes) -> tuple[Places, Places]:
    """Return start and end of the whole frames with right headers, one after the other, that `held` begins with."""
    found = _by_patterns(held)
    at = base = int(found[-1][1][-1]) if found else 0
    if len(held) - base < FRAME:
        starts = ends = np.empty(0, np.int64)
    else:
        starts, ends = (places + base for places in _short_frames(held[base:] if base else held))
    breaks = np.flatnonzero(ends[:-1] != starts[1:])
    while at + FRAME <= len(held):
        first = int(np.searchsorted(starts, at))
        if first < len(starts) and starts[first] == at:
            after = int(np.searchsorted(breaks, first))
            last = int(breaks[after]) if after < len(breaks) else len(starts) - 1
            found.append((starts[first : last + 1], ends[first : last + 1]))
            at = int(ends[last])
            continue
        length, told = HEADER.unpack_from(held, at)
        end = at + length + FRAME
        if end > len(held) or masked_crc32c(held[at : at + 8]) != told:
            break
        found.append((np.array([at]), np.array([end])))
        at = end
    if not found:
        return starts[:0], ends[:0]
    return np.concatenate([one for one, _ in found]), np.concatenate([one for _, one in found])


def next_frame(held: bytes, start: int) -> int | None:
    """Return where from `start` on a frame begins, by the sum of its length; None where none does."""
    places = np.arange(start, len(held) - HEADER.size + 1)
    sums = masked_crc32c_of_all(held, places, np.full(len(places), 8))
    found = np.flatnonzero(sums == uint32_at(held, places + 8)) if len(places) else places
    return int(places[found[0]]) if len(found) else None
