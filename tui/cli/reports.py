"""Tables and JSON on standard output, and how wide that is."""

import codecs
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import TextIO

import msgspec
from rich.cells import cell_len

WIDTH = 80
PLAIN_SIGNS = "finetui-plain-signs"
_PLAIN = {"→": "->", "…": "...", "├": "|", "└": "`", "│": "|", "─": "-", "·": ".", "×": "x", "✗": "x", "↶": "<"}
_PLAIN |= dict.fromkeys("╭╮╰╯", "+")


def _in_plain_signs(error: UnicodeError) -> tuple[str, int]:
    """Stand in for what an encoding does not have: the codec error handler `PLAIN_SIGNS`."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(_PLAIN.get(sign, "?") for sign in lacking), error.end


codecs.register_error(PLAIN_SIGNS, _in_plain_signs)


def output_width() -> int:
    """Return the columns of the terminal that standard output is; 80 where it is none."""
    return shutil.get_terminal_size((WIDTH, 24)).columns if sys.stdout.isatty() else WIDTH


_data: TextIO | None = None  # what standard output is, where it is for data only


@contextmanager
def data_only() -> Iterator[None]:
    """Within it standard output is `write_data`'s alone; what else is printed there, by a person's network say, goes to
    standard error.
    """
    global _data
    _data = sys.stdout
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        _data = None


def write_data(data: bytes) -> None:
    """Write JSON or CSV, which is UTF-8 whatever the locale, to the standard output that `data_only` keeps free."""
    output = _data or sys.stdout
    output.buffer.write(data)
    output.flush()


def print_json(value: object) -> None:
    """Print `value` as one line of JSON."""
    write_data(msgspec.json.encode(value) + b"\n")


def table(rows: Sequence[Sequence[str]], right: frozenset[int]) -> str:
    """Return `rows` (the first is the heading) as aligned text; columns in `right` are right-aligned."""
    widths = [max(cell_len(row[i]) for row in rows) for i in range(len(rows[0]))]

    def padded(column: int, cell: str) -> str:
        space = " " * (widths[column] - cell_len(cell))
        return space + cell if column in right else cell + space

    lines = ["  ".join(padded(column, cell) for column, cell in enumerate(row)) for row in rows]
    return "\n".join(line.rstrip() for line in lines)
