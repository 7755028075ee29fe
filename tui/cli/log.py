"""`finetui log`: the journal, or what the engine printed, on standard output; never a byte that a terminal obeys."""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from finetui.engine.errors import BadInput, reason_of
from finetui.engine.runs.folder import RunFolder, find_run
from finetui.engine.runs.lock import is_live
from finetui.engine.text import clean
from finetui.tui.cli.options import Run, RunsDir
from finetui.tui.cli.reports import write_data
from finetui.tui.state.log_lines import LogLine, Undone, clock
from finetui.tui.state.run_log import JournalLines, OutputTail

_FOLLOW_SECONDS = 0.5
_SIGNS = {"info": " ", "warning": "!", "error": "✗"}


def log(
    run: Run,
    /,
    *,
    engine: bool = False,
    follow: bool = False,
    runs_dir: RunsDir = Path("checkpoints"),
    json: bool = False,
) -> int:
    """Print what happened in a run, one event per line: when, at which step, what, and who asked for it.

    ! marks warnings, ✗ errors, and ↶ a return to a checkpoint; events that it undid say so.

    Parameters
    ----------
    engine
        Print the output of the engine and its libraries instead, the last 5,000 lines.
    follow
        Keep printing until the run ends.
    json
        Print the journal's own events, one JSON object per line.
    """
    if engine and json:
        raise BadInput("--engine and --json: the output of the engine is not JSON; choose one of them")
    folder = find_run(run, runs_dir)
    printer = (_Output if engine else _Raw if json else _Journal)(folder)
    while True:
        # Asked before reading: what an engine writes last, it writes before it goes.
        goes_on = follow and is_live(folder)
        printer.show()
        sys.stdout.flush()
        if not goes_on:
            break
        time.sleep(_FOLLOW_SECONDS)
    printer.end()
    return 0


class _Journal:
    """Prints events as lines."""

    def __init__(self, folder: RunFolder) -> None:
        self._lines = JournalLines(folder.journal)

    def show(self) -> None:
        """Print what is new. What is undone only later has been printed: the line that undoes it tells of that."""
        lines = self._lines.read()
        undone = Undone(lines)
        for line in lines:
            print(_row(line, undone=line in undone))

    def end(self) -> None:
        """Say what could not be read."""
        if self._lines.damage:
            print(f"finetui: {self._lines.damage}", file=sys.stderr)
        elif self._lines.last_seq < 0:
            print("finetui: nothing in this journal can be read", file=sys.stderr)


def _row(line: LogLine, *, undone: bool) -> str:
    sign = "↶" if line.undoes >= 0 else _SIGNS[line.level]
    when = clock(line.time, "%Y-%m-%d %H:%M:%S")
    return f"{when}  {line.step:>9,} {sign} {'undone: ' if undone else ''}{line.text}"


class _Raw:
    """Prints the journal's own lines."""

    def __init__(self, folder: RunFolder) -> None:
        self._path = folder.journal
        self._offset = 0
        self._skipped = 0

    def show(self) -> None:
        """Print what is new."""
        for text in self._read():
            write_data(text.encode() + b"\n")

    def _read(self) -> Iterator[str]:
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                for line in file:
                    if not line.endswith(b"\n"):
                        break  # it is being written
                    self._offset += len(line)
                    text = _as_ascii(line)
                    if text is None:
                        self._skipped += 1
                    else:
                        yield text
        except OSError as error:
            where = clean(str(self._path))
            raise BadInput(f"the journal {where} cannot be read: {reason_of(error)}") from error

    def end(self) -> None:
        """Say what could not be read."""
        if self._skipped:
            print(f"finetui: {self._skipped} damaged lines were skipped", file=sys.stderr)


def _as_ascii(line: bytes) -> str | None:
    """Return a line of JSON with nothing in it that a terminal obeys; None where it is no JSON."""
    try:
        value = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    text = line[:-1].decode(errors="replace")
    if text.isascii() and text.isprintable():
        return text
    return json.dumps(value, separators=(",", ":"))


class _Output:
    """Prints what the engine printed."""

    def __init__(self, folder: RunFolder) -> None:
        self._tail = OutputTail(folder.log)

    def show(self) -> None:
        """Print what is new."""
        for line in self._tail.read():
            print(line)

    def end(self) -> None:
        """Print a last line that was never finished."""
        if self._tail.unfinished:
            print(self._tail.unfinished)
