"""Frames on the socket: a 4-byte big-endian length, then one MessagePack value of that many bytes. Never pickle."""

import struct
from typing import Generic, TypeVar

import msgspec

from finetui.engine.errors import FinetuiError
from finetui.engine.protocol.commands import AnyCommand
from finetui.engine.protocol.events import AnyEvent

MAX_FRAME = 64 * 1024 * 1024  # bytes; a confusion matrix of 1 000 classes takes about 1 MiB
# Why a client that only reads is not obeyed.
READS_ONLY = "this dashboard only reads; attach without --read-only to steer the run"
_HEADER = struct.Struct(">I")
_T = TypeVar("_T")


class ProtocolError(FinetuiError):
    """The other side sent something that is not a frame of this protocol."""


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """A client's first frame: how it wants to be called, and whether it only reads."""

    name: str = ""
    reading: bool = False


class Welcome(msgspec.Struct, frozen=True, tag="welcome"):
    """The engine's answer to a `Hello`, and how it tells that the events go on in another journal.

    The client reads the events before `next_seq` from the file `journal`; where that is empty they follow as frames.
    """

    journal: str
    next_seq: int


class Goodbye(msgspec.Struct, frozen=True, tag="goodbye"):
    """Either side's last frame before it leaves on purpose, and why, if that needs saying."""

    reason: str = ""


ServerFrame = Welcome | Goodbye | AnyEvent
ClientFrame = Hello | Goodbye | AnyCommand
_encoder = msgspec.msgpack.Encoder()


def encode_frame(value: msgspec.Struct) -> bytes:
    """Return `value` as one frame."""
    body = _encoder.encode(value)
    return _HEADER.pack(len(body)) + body


class FrameReader(Generic[_T]):
    """Cuts a stream of bytes into frames and decodes each as type `decoder` says.

    With `lenient`, values that this version does not know are skipped and counted in `unknown`.
    """

    def __init__(self, decoder: msgspec.msgpack.Decoder[_T], limit: int = MAX_FRAME, *, lenient: bool = False) -> None:
        self._decoder = decoder
        self._limit = limit
        self._lenient = lenient
        self._buffer = bytearray()
        self.unknown = 0

    @property
    def waiting(self) -> bool:
        """Whether a frame has begun to arrive and is not complete."""
        return bool(self._buffer)

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
            # Text that is no UTF-8 and values nested without end have errors of their own.
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                if not (self._lenient and isinstance(error, msgspec.ValidationError)):
                    raise ProtocolError(f"a frame could not be understood: {error}") from error
                self.unknown += 1
        return values
