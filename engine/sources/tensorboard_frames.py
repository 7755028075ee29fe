"""Where the frames of TFRecord are in a block of bytes: found all at once by how the length of a short one looks.

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


def whole_frames(held: bytes) -> tuple[Places, Places]:
    """Return start and end of the whole frames with right headers, one after the other, that `held` begins with."""
    if len(held) < FRAME:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    starts, ends = _short_frames(held)
    breaks = np.flatnonzero(ends[:-1] != starts[1:])
    found: list[tuple[Places, Places]] = []
    at = 0
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
