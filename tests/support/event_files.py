"""Event files of TensorBoard's, written record by record: another hand than the reader's."""

import struct
from collections.abc import Iterable

_POLYNOMIAL = 0x82F63B78


def _shifted_out(byte: int) -> int:
    """What CRC-32C makes of a byte, bit by bit, as RFC 3720 defines it."""
    for _ in range(8):
        byte = byte >> 1 ^ (_POLYNOMIAL if byte & 1 else 0)
    return byte


_BYTES = tuple(map(_shifted_out, range(256)))


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _BYTES[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def masked(data: bytes) -> bytes:
    crc = crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def varint(number: int) -> bytes:
    number &= (1 << 64) - 1
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])


def field(number: int, content: bytes | int | float, *, single: bool = False) -> bytes:
    if isinstance(content, bytes):
        return varint(number << 3 | 2) + varint(len(content)) + content
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | (5 if single else 1)) + struct.pack("<f" if single else "<d", content)


def frame(payload: bytes) -> bytes:
    length = struct.pack("<Q", len(payload))
    return length + masked(length) + payload + masked(payload)


def record(step: int, *values: bytes, time: float = 1.7e9) -> bytes:
    """A frame with the summary's `values`."""
    summary = b"".join(field(1, value) for value in values)
    return frame(field(1, time) + field(2, step) + field(5, summary))


def scalar(tag: str, value: float) -> bytes:
    return field(1, tag.encode()) + field(2, value, single=True)


def tensor(tag: str, value: float) -> bytes:
    """A double in a tensor without dimensions, as Keras writes it."""
    content = field(1, 2) + field(2, b"") + field(4, struct.pack("<d", value))
    return field(1, tag.encode()) + field(8, content)


def image(tag: str, size: int) -> bytes:
    return field(1, tag.encode()) + field(4, field(4, b"\x89PNG" * (size // 4)))


def hparams(**values: float) -> bytes:
    """The settings of a run, as `add_hparams` writes them."""
    told = b"".join(field(1, field(1, name.encode()) + field(2, field(2, value))) for name, value in values.items())
    plugin = field(1, field(1, b"hparams") + field(2, field(3, told)))
    return field(1, b"_hparams_/session_start_info") + field(9, plugin)


def begins(step: int) -> bytes:
    """The record by which a writer says that it begins again at `step`."""
    return frame(field(1, 1.7e9) + field(2, step) + field(7, field(1, 1)))


def losses(steps: Iterable[int], value: float = 1.0, tag: str = "loss") -> bytes:
    return b"".join(record(step, scalar(tag, value), time=1.7e9 + step) for step in steps)
