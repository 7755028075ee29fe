"""The journal: every event of a run, once, in order, one JSON line each. It is the truth about the run."""

import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from engine.errors import BadInput
from engine.events import TRANSIENT, AnyEvent, Event
from engine.text import clean

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[AnyEvent] = msgspec.json.Decoder(AnyEvent)
_tag_decoder: msgspec.json.Decoder[dict[str, object]] = msgspec.json.Decoder(dict[str, object])
_E = TypeVar("_E", bound=Event)


def encode_line(event: AnyEvent) -> bytes:
    """Return `event` as its journal line, newline included."""
    return _encoder.encode(event) + b"\n"


class Journal:
    """Numbers and stores a run's events.

    Until `open` names a file the events are kept in memory: a run that is prepared and never started leaves
    nothing on disk. Afterwards each event is one unbuffered write, so that a killed engine loses none.
    """

    def __init__(self) -> None:
        self.path: Path | None = None
        self.next_seq = 0
        self._pending: list[AnyEvent] = []
        self._file: io.FileIO | None = None

    def append(self, event: _E) -> _E:
        """Return `event` stamped with its `seq` and the time, and keep it; transient events are only stamped.

        Raises OSError when the file cannot be written.
        """
        if isinstance(event, TRANSIENT):
            return msgspec.structs.replace(event, time=time.time())
        stamped = msgspec.structs.replace(event, seq=self.next_seq, time=time.time())
        if self._file is None:
            self._pending.append(stamped)  # type: ignore[arg-type]  # every concrete event is an AnyEvent
        else:
            self._file.write(encode_line(stamped))  # type: ignore[arg-type]
        self.next_seq += 1
        return stamped

    def open(self, path: Path) -> None:
        """Write what was kept so far to the new file `path`, and everything from now on."""
        self._file = path.open("xb", buffering=0)
        self._file.write(b"".join(map(encode_line, self._pending)))
        self._pending.clear()
        self.path = path

    def pending(self) -> tuple[AnyEvent, ...]:
        """Return the events that are not on disk because there is no file yet."""
        return tuple(self._pending)

    def close(self) -> None:
        """Close the file; the journal takes no more events."""
        if self._file is not None:
            self._file.close()


class JournalReader:
    """Reads a journal that may still be growing, and may be damaged.

    A last line without its newline is left for the next call. A line that is no event is skipped and
    counted in `skipped`; an event of a type that this version does not know is skipped and counted in `unknown`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.skipped = 0
        self.unknown = 0
        self._offset = 0

    def read(self) -> Iterator[AnyEvent]:
        """Yield the events since the last call. Raises `BadInput` when the file cannot be read."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._offset)
                for line in file:
                    if not line.endswith(b"\n"):
                        return
                    self._offset += len(line)
                    event = self._decode(line)
                    if event is not None:
                        yield event
        except OSError as error:
            where = clean(str(self.path))
            raise BadInput(f"the journal {where} cannot be read: {error.strerror or error}") from error

    def _decode(self, line: bytes) -> AnyEvent | None:
        try:
            return _decoder.decode(line)
        except (msgspec.DecodeError, BadInput, UnicodeDecodeError):
            pass
        known = {subtype.__struct_config__.tag for subtype in AnyEvent.__args__}
        try:
            tag = _tag_decoder.decode(line).get("type")
        except (msgspec.DecodeError, UnicodeDecodeError):
            tag = None
        if isinstance(tag, str) and tag not in known:
            self.unknown += 1
        else:
            self.skipped += 1
        return None
