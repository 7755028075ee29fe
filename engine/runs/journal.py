"""The journal: every event of a run, once, in order, one JSON line each. It is the truth about the run."""

import errno
import io
import math
import os
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TypeVar

import msgspec

from finetui.engine.errors import BadInput, reason_of
from finetui.engine.protocol.events import COALESCIBLE, TRANSIENT, AnyEvent, Event, RunStarted
from finetui.engine.protocol.values import TimeShares
from finetui.engine.text import clean

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[AnyEvent] = msgspec.json.Decoder(AnyEvent)
_tag_decoder: msgspec.json.Decoder[dict[str, object]] = msgspec.json.Decoder(dict[str, object])


class Glance(msgspec.Struct, gc=False):
    """As much of a line as tells whether it is worth being read; most have no `loss` and `accuracy`."""

    type: str
    seq: int = -1
    loss: float | None = math.nan
    accuracy: float | None = math.nan
    time_shares: TimeShares | None = None


_glance: msgspec.json.Decoder[Glance] = msgspec.json.Decoder(Glance)
_E = TypeVar("_E", bound=Event)
_MOST_UNWRITTEN = 20_000  # lines that wait for room on the disk: half an hour of points
_TAIL_BYTES = 2**16
_BLOCK = 2**17


def encode_line(event: AnyEvent) -> bytes:
    """Return `event` as its journal line, newline included."""
    return _encoder.encode(event) + b"\n"


class Journal:
    """Numbers and stores a run's events.

    Until `open` names a file the events are kept in memory: a run that is prepared and never started leaves
    nothing on disk. Afterwards each event is one unbuffered write, so that a killed engine loses none. What cannot be
    written (a full disk) waits in memory and goes first once there is room; `problem` says why it waits.
    """

    def __init__(self) -> None:
        self.path: Path | None = None
        self.next_seq = 0
        self.problem = ""
        self._pending: list[AnyEvent] = []
        self._file: io.FileIO | None = None
        self._end = 0  # of the last whole line in the file
        self._unwritten: deque[tuple[bool, bytes]] = deque()  # whether it may be dropped, and the line

    def append(self, event: _E) -> _E:
        """Return `event` stamped with its `seq` and the time, and keep it; transient events are only stamped."""
        if isinstance(event, TRANSIENT):
            return msgspec.structs.replace(event, time=time.time())
        stamped = msgspec.structs.replace(event, seq=self.next_seq, time=time.time())
        if self._file is None:
            self._pending.append(stamped)  # type: ignore[arg-type]  # every concrete event is an AnyEvent
        else:
            self._store(stamped)  # type: ignore[arg-type]
        self.next_seq += 1
        return stamped

    def open(self, path: Path) -> None:
        """Write what was kept so far to the new file `path`, and everything from now on. Raises OSError."""
        # Opened for reading as well: a journal whose folder was deleted can then be written anew.
        self._file = path.open("x+b", buffering=0)
        self.path = path
        for event in self._pending:
            self._store(event)
        self._pending.clear()

    def reopen(self, path: Path) -> AnyEvent | None:
        """Go on with the journal `path` of an earlier engine, numbers included; return its last event.

        A line that was torn when that engine was killed is ended, so that readers skip it and count it. Raises OSError.
        """
        last = last_event(path) if path.exists() else None
        self._file = path.open("a+b", buffering=0)
        self.path = path
        self._end = self._file.seek(0, os.SEEK_END)
        if self._end:
            self._file.seek(self._end - 1)
            if self._file.read(1) != b"\n":
                self._unwritten.append((False, b"\n"))
        self.next_seq = last.seq + 1 if last is not None else 0
        return last

    def restore(self) -> None:
        """Write the journal anew where its file was deleted under it. Raises OSError."""
        assert self._file is not None and self.path is not None, "the journal has a file"
        self._file.seek(0)
        content = self._file.readall() or b""
        self.path.write_bytes(content)
        self._file.close()
        self._file = self.path.open("a+b", buffering=0)
        self._end = len(content)
        self._flush()

    def _store(self, event: AnyEvent) -> None:
        self._unwritten.append((isinstance(event, COALESCIBLE), encode_line(event)))
        self._flush()
        if len(self._unwritten) > _MOST_UNWRITTEN:
            droppable = next((item for item in self._unwritten if item[0]), None)
            if droppable is not None:
                self._unwritten.remove(droppable)

    def _flush(self) -> None:
        try:
            while self._unwritten:
                self._write(self._unwritten[0][1])
                self._unwritten.popleft()
        except OSError as error:
            self.problem = error.strerror or str(error)
        else:
            self.problem = ""

    def _write(self, line: bytes) -> None:
        assert self._file is not None, "the journal has a file"
        self._file.seek(self._end)
        written = self._file.write(line)
        if written != len(line):
            # The disk is full: half a line would make the next one unreadable as well.
            self._file.truncate(self._end)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._end += len(line)

    def pending(self) -> tuple[AnyEvent, ...]:
        """Return the events that are not on disk because there is no file yet."""
        return tuple(self._pending)

    def forsake(self) -> None:
        """Close the file and write nothing, in a child that was forked: what waits is written by the parent."""
        if self._file is not None:
            self._file.close()

    def close(self) -> None:
        """Close the file; the journal takes no more events."""
        if self._file is not None:
            self._flush()
            self._file.close()


def last_event(path: Path) -> AnyEvent | None:
    """Return the last event of the journal `path` that can be read, None if there is none; it is read from its end.

    Raises OSError.
    """
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        block = _TAIL_BYTES
        while True:
            start = max(size - block, 0)
            file.seek(start)
            lines = file.read(size - start).split(b"\n")
            # The first piece may be the end of a longer line, the last one is torn, or empty.
            for line in reversed(lines[(1 if start else 0) : -1]):
                try:
                    event = _decoder.decode(line)
                except (msgspec.DecodeError, BadInput, UnicodeDecodeError, RecursionError):
                    continue
                if event.seq >= 0:
                    return event
            if start == 0:
                return None
            block *= 8


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
        self._glanced: Iterator[tuple[Glance, bytes]] = iter(())

    def read(self) -> Iterator[AnyEvent]:
        """Yield the events since the last call. Raises `BadInput` when the file cannot be read."""
        for line in self._lines():
            event = self.decode(line)
            if event is not None:
                yield event

    def glances(self) -> Iterator[tuple[Glance, bytes]]:
        """Yield the lines since the last one, each with a glance at it: in less than half the time that `read` takes.

        Whoever stops on the way goes on there with the next call. `decode` makes an event of a line. Raises `BadInput`
        when the file cannot be read.
        """
        while True:
            yield from self._glanced
            block = self._block()
            if not block:
                return
            self._glanced = self._glance_at(block)

    def _glance_at(self, block: bytes) -> Iterator[tuple[Glance, bytes]]:
        lines = block[:-1].split(b"\n")
        try:
            glances = _glance.decode_lines(block)  # all of them in one call
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            glances = []
        if len(glances) == len(lines):
            return zip(glances, lines, strict=True)
        found = []
        for line in lines:
            try:
                found.append((_glance.decode(line), line))
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                self.decode(line)  # counts it
        return iter(found)

    def _block(self) -> bytes:
        """Return the next whole lines, `_BLOCK` or a little less of them where they are short; nothing at the end."""
        with self._open() as file:
            file.seek(self._offset)
            pieces: list[bytes] = []
            while more := file.read(_BLOCK):
                end = more.rfind(b"\n") + 1
                pieces.append(more[: end or None])
                if end:
                    block = b"".join(pieces)
                    self._offset += len(block)
                    return block
        return b""  # a last line that is still being written, or torn

    def _lines(self) -> Iterator[bytes]:
        with self._open() as file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._offset += len(line)
                yield line

    @contextmanager
    def _open(self) -> Iterator[BinaryIO]:
        try:
            with self.path.open("rb") as file:
                yield file
        except OSError as error:
            where = clean(str(self.path))
            raise BadInput(f"the journal {where} cannot be read: {reason_of(error)}") from error

    def decode(self, line: bytes) -> AnyEvent | None:
        """Return the event that `line` is; None where it is none, which is counted."""
        try:
            event = _decoder.decode(line)
            return self._here(event) if isinstance(event, RunStarted) else event
        except (msgspec.DecodeError, BadInput, UnicodeDecodeError, RecursionError):
            pass
        known = {subtype.__struct_config__.tag for subtype in AnyEvent.__args__}
        try:
            tag = _tag_decoder.decode(line).get("type")
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            tag = None
        if isinstance(tag, str) and tag not in known:
            self.unknown += 1
        else:
            self.skipped += 1
        return None

    def _here(self, event: RunStarted) -> RunStarted:
        """Return `event` with the run's name and place of today: its folder may have been renamed, or moved."""
        folder = self.path.absolute().parent
        return msgspec.structs.replace(event, name=clean(folder.name), path=clean(str(folder), 4096))
