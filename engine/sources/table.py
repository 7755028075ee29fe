"""A run in a table of text: CSV as Lightning, Ultralytics, Keras and timm write it, or one JSON object a line.

The step of a row is what a column says that is called so, else its epoch, else its place in the file. Cells may be
empty: Lightning tells of training and validation in rows of their own.
"""

import csv
import json
import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from finetui.engine.sources.names import PARTS, Kind, is_place, meaning
from finetui.engine.sources.rows import Row
from finetui.engine.sources.source import Anew, Item, Note
from finetui.engine.sources.tail import Lines

_SETTLED_SECONDS = 60.0  # after which a last line without an end is taken as it is
_UNIX = 1e8  # seconds: less is counted from the start of the run
_PARTS = ("part", "split", "phase", "subset")  # columns
_DEEPEST = 4  # levels of an object in another


class _Table:
    """What both kinds of table have in common: lines that grow, and rows made of names and numbers."""

    kind = ""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines = Lines(path)
        self._begin()

    def _begin(self) -> None:
        self._rows = self._damaged = self._told = 0
        self._last_step = -1

    def read(self) -> Iterator[Item]:
        """Yield what is new. Raises OSError."""
        settled = time.time() - self.changed() > _SETTLED_SECONDS
        for block, why in self._lines.blocks(settled=settled):
            if why:
                self._begin()
                yield Anew(f"{self._path.name}: {why}")
            for line in block.split(b"\n"):
                if line.strip():
                    row = self._row(line.decode("utf-8", "replace").rstrip("\r"))
                    if row is not None:
                        yield row
        if self._damaged > self._told:
            self._told = self._damaged
            words = (
                "lines of {} that hold no numbers were" if self._damaged > 1 else "line of {} that holds no numbers was"
            )
            yield Note(f"{self._damaged:,} {words.format(self._path.name)} left out")

    def _row(self, line: str) -> Row | None:
        raise NotImplementedError

    def _made(self, told: Mapping[str, float]) -> Row | None:
        """Return the row with the numbers `told`; None where there are none beside step, epoch and time."""
        self._rows += 1
        places: dict[Kind, float] = {}
        values: dict[str, float] = {}
        for name, value in told.items():
            kind = meaning(name).kind
            if is_place(name):
                if math.isfinite(value):
                    places.setdefault(kind, value)
            else:
                values[name] = value
        if not values:
            return None
        epoch = places.get("epoch")
        step = places.get("step", self._rows if epoch is None else epoch)
        at = places.get("time", 0.0)
        return Row(int(step), at + _UNIX if 0 < at < _UNIX else at, epoch, values)

    def changed(self) -> float:
        """Return when the file last changed, in Unix seconds."""
        return self._lines.tail.changed()

    def unread(self) -> int:
        """Return how many bytes are still to be read."""
        return self._lines.tail.unread()


class CsvRun(_Table):
    """The run in the CSV file `path`, whose first line names the columns, and tells what is between them.

    Where that is no comma, numbers may have one: `0,5` is a half.
    """

    kind = "CSV"

    def _begin(self) -> None:
        super()._begin()
        self._columns: list[str] = []
        self._between = ","

    def _row(self, line: str) -> Row | None:
        if not self._columns:
            self._columns, self._between = header(line)
            return None
        try:
            cells = next(csv.reader([line], delimiter=self._between), [])
        except csv.Error:  # a cell that is no number: it is longer than any may be
            self._damaged += 1
            return None
        if self._between != ",":
            cells = [cell.replace(",", ".") for cell in cells]
        told = {name: number for name, cell in zip(self._columns, cells, strict=False) if (number := _number(cell))}
        if [cell.strip() for cell in cells] == self._columns:  # a run that was begun again in the same file
            return None
        if len(cells) != len(self._columns) or not told:
            self._damaged += 1
            return None
        part = self._part(cells)
        return self._made({part + name if part and not is_place(name) else name: n[0] for name, n in told.items()})

    def _part(self, cells: list[str]) -> str:
        """Return what the names of a row begin with, where a column tells which part of the data it is of."""
        said = next((cell for name, cell in zip(self._columns, cells, strict=True) if name.lower() in _PARTS), "")
        return f"{said.strip()}/" if said.strip().lower() in PARTS else ""


class JsonLinesRun(_Table):
    """The run in the file `path` with one JSON object a line: `{"step": 10, "loss": 0.5, "val": {"accuracy": 0.9}}`."""

    kind = "JSON lines"

    def _row(self, line: str) -> Row | None:
        try:
            told = json.loads(line)
        except (ValueError, RecursionError):
            told = None
        if not isinstance(told, dict):
            self._damaged += 1
            return None
        return self._made(flat(told))


def header(line: str) -> tuple[list[str], str]:
    """Return the names of the columns in the first line of a CSV file, and what is between them: `,`, `;` or a tab.

    That is what makes the most columns.
    """
    found = []
    for between in ",;\t":
        try:
            cells = next(csv.reader([line.removeprefix("\ufeff")], delimiter=between), [])
        except csv.Error:  # a cell that is longer than any may be
            cells = []
        found.append(([name.strip() for name in cells], between))
    return max(found, key=lambda one: len(one[0]))


def flat(table: Mapping[str, object], before: str = "", depth: int = 0) -> dict[str, float]:
    """Return the numbers in `table` and in the tables in it, by their names with slashes between."""
    found: dict[str, float] = {}
    for name, value in table.items():
        if isinstance(value, Mapping) and depth < _DEEPEST:
            found |= flat(value, f"{before}{name}/", depth + 1)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            try:
                found[before + name] = float(value)
            except OverflowError:
                found[before + name] = math.inf
    return found


def _number(cell: str) -> tuple[float] | None:
    """Return the number in a cell; None where there is none."""
    try:
        return (float(cell),)
    except ValueError:
        return None
