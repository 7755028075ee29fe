"""Tables and JSON on standard output, and how wide that is."""

import shutil
import sys
from collections.abc import Sequence

import msgspec

WIDTH = 80


def output_width() -> int:
    """Return the columns of the terminal that standard output is; 80 where it is none."""
    return shutil.get_terminal_size((WIDTH, 24)).columns if sys.stdout.isatty() else WIDTH


def print_json(value: object) -> None:
    """Print `value` as one line of JSON."""
    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")


def table(rows: Sequence[Sequence[str]], right: frozenset[int]) -> str:
    """Return `rows` (the first is the heading) as aligned text; columns in `right` are right-aligned."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)
