"""Frames on the socket: a 4-byte big-endian length, then one MessagePack value of that many bytes. Never pickle."""

import struct
from typing import Generic, TypeVar

import msgspec

from engine.errors import FinetuiError
from engine.events import AnyEvent

MAX_FRAME = 64 * 1024 * 1024  # bytes; a confusion matrix of 1 000 classes takes about 1 MiB
_HEADER = struct.Struct(">I")
_T = TypeVar("_T")


class ProtocolError(FinetuiError):
    """The other side sent something that is not a frame of this protocol."""


class Welcome(msgspec.Struct, frozen=True, tag="welcome"):
    """The engine's first frame to a client.

    The client reads the events before `next_seq` from the file `journal`; where that is empty they follow as frames.
    """

    journal: str
    next_seq: int


ServerFrame = Welcome | AnyEvent
_encoder = msgspec.msgpack.Encoder()


def encode_frame(value: msgspec.Struct) -> bytes:
    """Return `value` as one frame."""
    body = _encoder.encode(value)
    return _HEADER.pack(len(body)) + body


class FrameReader(Generic[_T]):
    """Cuts a stream of bytes into frames and decodes each as type `decoder` says."""

    def __init__(self, decoder: msgspec.msgpack.Decoder[_T], limit: int = MAX_FRAME) -> None:
        self._decoder = decoder
        self._limit = limit
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[_T]:
        """Add `data` and return the values of the frames that are now complete.

        Raises `ProtocolError` on a frame that is too long or is not of the type.
        """
        self._buffer += data
        values: list[_T] = []
        while len(self._buffer) >= _HEADER.size:
            (length,) = _HEADER.unpack_from(self._buffer)
            if length > self._limit:
                raise ProtocolError(f"a frame of {length} bytes is over the limit of {self._limit}")
            end = _HEADER.size + length
            if len(self._buffer) < end:
                break
            body = bytes(self._buffer[_HEADER.size : end])
            del self._buffer[:end]
            try:
                values.append(self._decoder.decode(body))
            except msgspec.DecodeError as error:
                raise ProtocolError(f"a frame could not be understood: {error}") from error
        return values
