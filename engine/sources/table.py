"""A run in a table of text: CSV as Lightning, Ultralytics, Keras and timm write it, or one JSON object a line.

The step of a row is what a column says that is called so, else its epoch, else its place in the file. Cells may be
empty: Lightning tells of training and validation in rows of their own.
"""

import csv
import json
import math
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from finetui.engine.sources.names import PARTS, Kind, is_place, meaning
from finetui.engine.sources.rows import Row, Rows
from finetui.engine.sources.source import Anew, Item, Note
from finetui.engine.sources.table_blocks import DEEPEST, UNIX, JsonColumns, number, of_csv, rows_of
from finetui.engine.sources.tail import Lines

_SETTLED_SECONDS = 60.0  # after which a last line without an end is taken as it is
_END = 4096  # bytes that hold the last line, but for a very long one
_PARTS = ("part", "split", "phase", "subset")  # columns
_MANY = 1000  # rows, after which the next ones are read together
_LONG_BLOCK = 1 << 16  # bytes: so many lines at least, that is


class _Table:
    """What both kinds of table have in common: lines that grow, and rows made of names and numbers."""

    kind = ""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines = Lines(path)
        self._begin()

    def _begin(self) -> None:
        self._rows = self._damaged = self._noted = 0
        self._start: float | None = None

    def read(self) -> Iterator[Item]:
        """Yield what is new. Raises OSError."""
        settled = time.time() - self.changed() > _SETTLED_SECONDS
        for block, why in self._lines.blocks(settled=settled):
            if why:
                self._begin()
                yield Anew(f"{self._path.name}: {why}")
            long = self._rows >= _MANY and len(block) >= _LONG_BLOCK
            rows = self._since_start(self._together(block)) if long else None
            if rows is None:
                yield from self._one_by_one(block)
            elif len(rows.steps):
                yield rows
        if self._damaged > self._noted:
            self._noted = self._damaged
            words = "lines of {} without numbers were" if self._damaged > 1 else "line of {} without numbers was"
            yield Note(f"{self._damaged:,} {words.format(self._path.name)} left out")

    def _one_by_one(self, block: bytes) -> Iterator[Row]:
        for line in block.split(b"\n"):
            if line.strip():
                row = self._row(line.decode("utf-8", "replace").rstrip("\r"))
                if row is not None:
                    yield row

    def _row(self, line: str) -> Row | None:
        raise NotImplementedError

    def _together(self, block: bytes) -> Rows | None:
        """Return the rows of many lines; None where they have to be read one by one."""
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
        return Row(int(step), at + self._began() if 0 < at < UNIX else at, epoch, values)

    def _since_start(self, rows: Rows | None) -> Rows | None:
        """Return `rows` with the times of the day of those that count seconds."""
        if rows is None:
            return None
        counts = (rows.times > 0) & (rows.times < UNIX)
        if not counts.any():
            return rows
        return rows._replace(times=np.where(counts, rows.times + self._began(), rows.times))

    def _began(self) -> float:
        """Return when the run began whose rows count seconds: when the last row was written, less what it says."""
        if self._start is None:
            with self._path.open("rb") as file:
                file.seek(max(file.seek(0, os.SEEK_END) - _END, 0))
                last = file.read().decode("utf-8", "replace").rpartition("\n")[0].rpartition("\n")[2]
            said = [value for name, value in self._told(last).items() if meaning(name).kind == "time"]
            self._start = self.changed() - max(filter(math.isfinite, said), default=0.0)
        return self._start

    def _told(self, line: str) -> Mapping[str, float]:
        raise NotImplementedError

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
        if [cell.strip() for cell in cells] == self._columns:  # a run that was begun again in the same file
            return None
        told = self._numbers(cells)
        if len(cells) != len(self._columns) or not told:
            self._damaged += 1
            return None
        part = self._part(cells)
        return self._made({part + name if part and not is_place(name) else name: n for name, n in told.items()})

    def _told(self, line: str) -> Mapping[str, float]:
        try:
            return self._numbers(next(csv.reader([line], delimiter=self._between), []))
        except csv.Error:
            return {}

    def _numbers(self, cells: list[str]) -> dict[str, float]:
        if self._between != ",":
            cells = [cell.replace(",", ".") for cell in cells]
        told = zip(self._columns, cells, strict=False)
        return {name: found[0] for name, cell in told if (found := number(cell))}

    def _part(self, cells: list[str]) -> str:
        """Return what the names of a row begin with, where a column tells which part of the data it is of."""
        said = next((cell for name, cell in zip(self._columns, cells, strict=True) if name.lower() in _PARTS), "")
        return f"{said.strip()}/" if said.strip().lower() in PARTS else ""

    def _together(self, block: bytes) -> Rows | None:
        if any(name.lower() in _PARTS for name in self._columns):
            return None  # each line says of which part it is
        found = of_csv(block, self._columns, self._between)
        if found is None:
            return None
        lines, damaged = found
        rows = rows_of(lines, self._rows)
        if rows is not None:
            self._rows += len(lines.values)
            self._damaged += damaged
        return rows


class JsonLinesRun(_Table):
    """The run in the file `path` with one JSON object a line: `{"step": 10, "loss": 0.5, "val": {"accuracy": 0.9}}`."""

    kind = "JSON lines"

    def _begin(self) -> None:
        super()._begin()
        self._known = JsonColumns()
        self._new: list[dict[str, object]] = []  # lines whose keys are to be learned

    def _one_by_one(self, block: bytes) -> Iterator[Row]:
        yield from super()._one_by_one(block)
        if len(block) >= _LONG_BLOCK:
            self._known.learn(self._new)
        self._new = []

    def _together(self, block: bytes) -> Rows | None:
        lines = self._known.of(block)
        rows = None if lines is None else rows_of(lines, self._rows)
        if lines is not None and rows is not None:
            self._rows += len(lines.values)
        return rows

    def _row(self, line: str) -> Row | None:
        told = self._object(line)
        if told is None:
            self._damaged += 1
            return None
        self._new.append(told)
        return self._made(flat(told))

    def _told(self, line: str) -> Mapping[str, float]:
        return flat(self._object(line) or {})

    def _object(self, line: str) -> dict[str, object] | None:
        try:
            told = json.loads(line)
        except (ValueError, RecursionError):
            return None
        return told if isinstance(told, dict) else None


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
        if isinstance(value, Mapping) and depth < DEEPEST:
            found |= flat(value, f"{before}{name}/", depth + 1)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            try:
                found[before + name] = float(value)
            except OverflowError:
                found[before + name] = math.inf
    return found
