"""What a run's folder keeps to be read: the journal as lines, and what the engine and its libraries printed.

Reading may take a while: a dashboard does it in a thread.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from finetui.engine.errors import BadInput, reason_of
from finetui.engine.runs.journal import JournalReader
from finetui.engine.text import clean
from finetui.tui.state.log_lines import LogLine, log_line, signed

MOST_LINES = 5000  # of the output, the newest
_LINE_LIMIT = 2000  # characters
# What is looked at for these lines: however long they are, reading takes a moment and not all memory.
_MOST_BYTES = 4 * 2**20
# Colours and the like, whole: cleaning leaves their letters behind.
_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\))")


class JournalLines:
    """A journal's lines; each `read` returns those that have come since the one before."""

    def __init__(self, path: Path) -> None:
        self._reader = JournalReader(path)
        self.last_seq = -1  # of the last event that was read, whether it is a line or not

    @property
    def damage(self) -> str:
        """What was skipped, in words; empty where nothing was."""
        skipped, unknown = self._reader.skipped, self._reader.unknown
        return f"{skipped} damaged and {unknown} unknown lines were skipped" if skipped or unknown else ""

    def read(self) -> list[LogLine]:
        """Return the new lines. Raises `BadInput` when the journal cannot be read."""
        lines: list[LogLine] = []
        for event in self._reader.read():
            self.last_seq = event.seq
            line = log_line(event)
            if line is None:
                continue
            if lines and (with_name := signed(lines[-1], event)) is not None:
                lines[-1] = with_name
            else:
                lines.append(line)
        return lines


def after(log: Sequence[LogLine], seen: LogLine | None) -> Sequence[LogLine] | None:
    """Return what `log` has after the line `seen`; None where it does not reach back so far."""
    if seen is None:
        return log
    for index in range(len(log) - 1, -1, -1):
        if log[index] is seen:
            return log[index + 1 :]
    return None


def of_session(log: Sequence[LogLine]) -> Sequence[LogLine]:
    """Return the end of `log` that belongs to one journal: before it, the numbers are those of another run."""
    begin, lowest = len(log), None
    for index in range(len(log) - 1, -1, -1):
        seq = log[index].seq
        if lowest is not None and seq >= lowest:
            break
        lowest = seq if seq >= 0 else lowest
        begin = index
    return log[begin:]


def put_between(lines: list[LogLine], more: Sequence[LogLine]) -> None:
    """Put each of `more` behind the last of `lines` that is not younger; the order of `lines` stays as it is."""
    for line in reversed(more):
        index = len(lines)
        while index and lines[index - 1].time > line.time:
            index -= 1
        lines.insert(index, line)


class OutputTail:
    """The end of a file that programs print to, as harmless lines; each `read` returns what is new.

    A progress bar's carriage returns end lines as well. A last line that has no end yet is `unfinished`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._rest = b""
        self._identity = (0, 0)

    @property
    def unfinished(self) -> str:
        """The last line as far as it goes."""
        return _harmless(self._rest)

    def read(self) -> list[str]:
        """Return the new whole lines, at most the newest `MOST_LINES`. Raises `BadInput` if the file cannot be read."""
        try:
            with self._path.open("rb") as file:
                status = os.fstat(file.fileno())
                # Another file of that name, or one that was emptied, begins anew.
                if (status.st_dev, status.st_ino) != self._identity or status.st_size < self._offset:
                    self._identity = status.st_dev, status.st_ino
                    self._offset, self._rest = 0, b""
                skipped = status.st_size - self._offset > _MOST_BYTES
                if skipped:
                    self._offset, self._rest = status.st_size - _MOST_BYTES, b""
                file.seek(self._offset)
                new = file.read(_MOST_BYTES)
        except FileNotFoundError:
            where = clean(str(self._path))
            raise BadInput(f"no {where}: the engine printed to its own terminal") from None
        except OSError as error:
            raise BadInput(f"{self._path} cannot be read: {reason_of(error)}") from error
        new = new.removesuffix(b"\r")  # the other half of its line end may be on its way: it is read again
        self._offset += len(new)
        *whole, self._rest = (self._rest + new).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._rest = self._rest[:_MOST_BYTES]
        return [_harmless(line) for line in whole[skipped:][-MOST_LINES:]]


def _harmless(line: bytes) -> str:
    text = line[: 16 * _LINE_LIMIT].decode(errors="replace")
    return clean(_ESCAPE.sub("", text).expandtabs().rstrip(), _LINE_LIMIT)
