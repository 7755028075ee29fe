"""What one record of an event file says: the few fields of TensorFlow's `Event` protobuf that matter here.

The fields and their numbers are those of tensorflow/core/util/event.proto and core/framework/{summary,tensor}.proto,
and of tensorboard/plugins/hparams/plugin_data.proto; wire format as in the Protocol Buffers encoding guide.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from finetui.engine.sources.source import Setting

_DOUBLE, _FLOAT, _HALF = struct.Struct("<d"), struct.Struct("<f"), struct.Struct("<e")
_HPARAMS = b"_hparams_/session_start_info"
_DTYPES = {1: "<f", 2: "<d", 3: "<i", 9: "<q", 19: "<e"}  # of tensorflow/core/framework/types.proto
_VALUES = {5: "<f", 6: "<d", 7: "int", 10: "int"}  # the fields of a tensor with numbers of a type, one by one
_PICTURES = {4: "images", 5: "histograms", 6: "audio clips"}  # kinds of a summary's value, by their fields


class Malformed(Exception):
    """Bytes that are no such message."""


class Scalar(NamedTuple):
    """A number called `tag`."""

    tag: str
    value: float


class Record(NamedTuple):
    """What a record says. `restarts`: the writer begins anew at `step`. `skipped` are the kinds that are not read."""

    time: float
    step: int
    scalars: list[Scalar]
    hparams: dict[str, Setting]
    restarts: bool
    skipped: list[str]


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise Malformed
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield number and value of each field: an int of a varint, else the bytes. Raises `Malformed`."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield key >> 3, value
            continue
        if kind == 2:
            size, at = _varint(data, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise Malformed
        if at + size > len(data):
            raise Malformed
        yield key >> 3, data[at : at + size]
        at += size


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise Malformed
    return value


def _number(value: int | bytes) -> int:
    if not isinstance(value, int):
        raise Malformed
    return value - (1 << 64) if value >= 1 << 63 else value


def _unpacked(format_: str, value: int | bytes) -> float:
    content = _bytes(value)
    if len(content) != struct.calcsize(format_):
        raise Malformed
    return float(struct.unpack(format_, content)[0])


def _of_tensor(data: bytes) -> float | None:
    """Return the number in a tensor without dimensions; None where it is of another shape or kind."""
    dtype, content, found = 0, b"", None
    for number, value in _fields(data):
        if number == 1:
            dtype = _number(value)
        elif number == 2 and any(field == 2 for field, _ in _fields(_bytes(value))):
            return None  # it has dimensions
        elif number == 4:
            content = _bytes(value)
        elif number in _VALUES and found is None:
            kind = _VALUES[number]
            if kind == "int":
                found = float(_number(value) if isinstance(value, int) else _varint(value, 0)[0])
            else:
                found = _unpacked(kind, value)
    if content and dtype in _DTYPES and len(content) == struct.calcsize(_DTYPES[dtype]):
        return _unpacked(_DTYPES[dtype], content)
    return found if dtype in _DTYPES else None


def _setting(data: bytes) -> Setting:
    for number, value in _fields(data):
        if number == 2:
            return _unpacked("<d", value)
        if number == 3:
            return _bytes(value).decode("utf-8", "replace")
        if number == 4:
            return bool(_number(value))
    return ""


def _hparams(metadata: bytes) -> dict[str, Setting]:
    """Return the hyperparameters that the metadata of a summary's value hold."""
    found: dict[str, Setting] = {}
    for plugin in (_bytes(value) for number, value in _fields(metadata) if number == 1):
        for content in (_bytes(value) for number, value in _fields(plugin) if number == 2):
            for start in (_bytes(value) for number, value in _fields(content) if number == 3):
                for entry in (_bytes(value) for number, value in _fields(start) if number == 1):
                    pair = dict(_fields(entry))
                    key, told = _bytes(pair.get(1, b"")), _bytes(pair.get(2, b""))
                    found[key.decode("utf-8", "replace")] = _setting(told)
    return found


def parse(payload: bytes) -> Record:
    """Return what the record `payload` says. Raises `Malformed` where it is no event."""
    time, step, restarts = 0.0, 0, False
    scalars: list[Scalar] = []
    hparams: dict[str, Setting] = {}
    skipped: list[str] = []
    for number, value in _fields(payload):
        if number == 1:
            time = _unpacked("<d", value)
        elif number == 2:
            step = _number(value)
        elif number == 7:
            restarts = any(field == 1 and told == 1 for field, told in _fields(_bytes(value)))
        elif number == 5:
            for field, told in _fields(_bytes(value)):
                if field == 1:
                    _take(_bytes(told), scalars, hparams, skipped)
    return Record(time, step, scalars, hparams, restarts, skipped)


def _take(data: bytes, scalars: list[Scalar], hparams: dict[str, Setting], skipped: list[str]) -> None:
    """Add what a value of a summary says to one of the lists."""
    tag, number, plugin = "", None, b""
    for field, value in _fields(data):
        if field == 1:
            tag = _bytes(value).decode("utf-8", "replace")
        elif field == 2:
            number = _unpacked("<f", value)
        elif field == 8:
            number = _of_tensor(_bytes(value))
        elif field == 9:
            plugin = _bytes(value)
        elif field in _PICTURES:
            skipped.append(_PICTURES[field])
    if tag == _HPARAMS.decode():
        hparams.update(_hparams(plugin))
    elif number is not None and not tag.startswith("_hparams_/"):
        scalars.append(Scalar(tag, number))
    elif b"images" in plugin[:32]:
        skipped.append("images")


class FastParser:
    """Parses records, those with one plain scalar by what is known of others of the same tag: four times as fast."""

    def __init__(self) -> None:
        self._tags: dict[bytes, str] = {}  # by the bytes between the step and the number

    def __call__(self, payload: bytes) -> Record:
        """Return what `parse` does. Raises `Malformed`."""
        if len(payload) > 24 and payload[0] == 0x09 and payload[9] == 0x10:
            at, shift, step = 10, 0, 0
            while at < 20:
                byte = payload[at]
                step |= (byte & 0x7F) << shift
                at += 1
                if byte < 0x80:
                    break
                shift += 7
            between = payload[at:-4]
            tag = self._tags.get(between)
            if tag is not None:
                (time,), (value,) = _DOUBLE.unpack_from(payload, 1), _FLOAT.unpack_from(payload, len(payload) - 4)
                step = step - (1 << 64) if step >= 1 << 63 else step
                return Record(time, step, [Scalar(tag, value)], {}, False, [])
            record = parse(payload)
            # The number is the last field of the last value: 0x15 is its key, 4 bytes its size.
            if len(record.scalars) == 1 and not record.skipped and between[-1:] == b"\x15" and len(self._tags) < 10_000:
                self._learn(between, record.scalars[0].tag)
            return record
        return parse(payload)

    def _learn(self, between: bytes, tag: str) -> None:
        """Note that records with these bytes before their number are of `tag`, if they say nothing else."""
        name = tag.encode("utf-8")
        value = b"\x0a" + _size(len(name)) + name + b"\x15"
        inner = b"\x0a" + _size(len(value) + 4) + value
        if between == b"\x2a" + _size(len(inner) + 4) + inner:
            self._tags[between] = tag


def _size(number: int) -> bytes:
    """Return `number` as a varint."""
    found = bytearray()
    while number >= 0x80:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)
