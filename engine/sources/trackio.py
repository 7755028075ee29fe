"""A run in trackio's database: a file of SQLite for each project, read in blocks, each in a moment."""

import json
import math
import sqlite3
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from finetui.engine.sources.names import is_place, meaning
from finetui.engine.sources.rows import Row, Rows
from finetui.engine.sources.source import Anew, Hparams, Item
from finetui.engine.sources.sqlite_file import files_of, mark_of, opened
from finetui.engine.sources.table import flat
from finetui.engine.sources.table_blocks import Columns, JsonColumns, rows_of

_MOST_ROWS, _MOST_BYTES = 4000, 4 << 20  # of a block
_FEW = 64  # rows that are not worth being decoded together
_LONGEST = 1 << 20  # characters of a row: what has more is a table or a picture
_SETTLED_SECONDS = 2.0  # since the last change, after which a file with the same mark is the same

# Each run by its index: the database may have millions of rows.
_RUNS = """
    WITH RECURSIVE runs(key) AS (
        SELECT min(run_id) FROM metrics
        UNION ALL SELECT (SELECT min(run_id) FROM metrics WHERE run_id > key) FROM runs WHERE key IS NOT NULL)
    SELECT key, (SELECT run_name FROM metrics WHERE run_id = key LIMIT 1), (SELECT min(id) FROM metrics
        WHERE run_id = key) AS first FROM runs WHERE key IS NOT NULL ORDER BY first"""
# By the place in the table: what is new lies at its end, and the run's own index is in another order.
_NEW = f"""
    SELECT id, timestamp, step, CASE WHEN length(metrics) > {_LONGEST} THEN '' ELSE metrics END
    FROM metrics NOT INDEXED WHERE id > ? AND id <= ? AND run_id = ? ORDER BY id LIMIT {_MOST_ROWS}"""

_latest: dict[Path, tuple[tuple[str, str], ...]] = {}  # the runs of each database, when it was last read


def runs_in(path: Path) -> list[tuple[str, str]]:
    """Return id and name of each run in the database, the first one first; none where it is not trackio's.

    Where it cannot be read just now, they are those of before.
    """
    return list(_runs_in(path, mark_of(path)))


@lru_cache(maxsize=64)
def _runs_in(path: Path, _mark: object) -> tuple[tuple[str, str], ...]:
    try:
        with opened(path) as base:
            found = tuple((str(key), str(name)) for key, name, _ in base.execute(_RUNS))
    except OSError:
        return _latest.get(path, ())
    _latest[path] = found
    return found


class _Line(NamedTuple):
    """A row of the database, its numbers as JSON."""

    step: int
    time: float
    metrics: str


class TrackioRun:
    """The run with the id `run` in the database at `path`."""

    kind = "trackio"

    def __init__(self, path: Path, run: str) -> None:
        self._path = path
        self._run = run
        self._mark: object = None
        self._inode = 0
        self._begin()

    def _begin(self) -> None:
        self._first = self._last = 0  # ids of rows of this run
        self._seen = 0  # the last id of all that was looked at
        self._told_settings = False
        self._known = JsonColumns()

    def read(self) -> Iterator[Item]:
        """Yield the rows that are new. Raises OSError where the database cannot be read just now."""
        mark, settled = mark_of(self._path), time.time() - self.changed() > _SETTLED_SECONDS
        if mark == self._mark:
            return
        inode = self._path.stat().st_ino
        # What is read may turn out to be void when the database is closed: nothing is remembered of it before.
        with opened(self._path) as base:
            gone = self._is_gone(base) or (self._inode and inode != self._inode)
            settings = [] if self._told_settings and not gone else self._settings(base)
            start, end = self._span(base, anew=bool(gone))
        self._inode = inode
        if gone:
            self._begin()
            yield Anew("rows of the database are gone")
        for told in settings:
            self._told_settings = True
            yield told
        while start < end:
            # Nothing of the database is held while these are told.
            with opened(self._path) as base:
                lines, ids, start = self._block(base, start, end)
            if ids is not None:
                self._first, self._last = self._first or ids[0], ids[1]
            yield from self._rows(lines)
        self._seen = max(end, self._seen)
        self._mark = mark if settled else None

    def _is_gone(self, base: sqlite3.Connection) -> bool:
        """Whether rows that were read are there no more."""
        ids = {self._first, self._last} - {0}
        query = "SELECT count(*) FROM metrics WHERE run_id = ? AND id IN (?, ?)"
        return int(base.execute(query, (self._run, self._first, self._last)).fetchone()[0]) < len(ids)

    def _span(self, base: sqlite3.Connection, *, anew: bool) -> tuple[int, int]:
        """Return between which ids rows of this run may be that were not read yet; `anew`: all of them are such."""
        most = base.execute("SELECT max(id) FROM metrics").fetchone()[0] or 0
        if self._first and not anew:
            return max(self._seen, self._last), most
        query = "SELECT min(id), max(id) FROM metrics WHERE run_id = ?"
        first, last = base.execute(query, (self._run,)).fetchone()
        return (0, 0) if first is None else (first - 1, last)

    def _block(self, base: sqlite3.Connection, start: int, end: int) -> tuple[list[_Line], tuple[int, int] | None, int]:
        """Return the next rows of this run with ids above `start`, up to `end`, and where to go on.

        In between come the first and the last id, None where there are none.
        """
        lines: list[_Line] = []
        first = last = size = count = 0
        for key, when, step, metrics in base.execute(_NEW, (start, end, self._run)):
            first, last = first or int(key), int(key)
            count += 1
            at = _whole(step)
            if at is not None and isinstance(metrics, str):
                size += len(metrics)
                lines.append(_Line(at, _unix(when), _plain(metrics)))
            if size > _MOST_BYTES:
                break
        goes_on = count == _MOST_ROWS or size > _MOST_BYTES
        return lines, (first, last) if count else None, last if goes_on else end

    def _rows(self, lines: list[_Line]) -> Iterator[Row | Rows]:
        rows = self._together(lines)
        if rows is None:
            yield from self._one_by_one(lines)
        elif len(rows.steps):
            yield rows

    def _together(self, lines: list[_Line]) -> Rows | None:
        """Return the rows that `lines` make; None where they have to be made one by one."""
        if len(lines) < _FEW:
            return None
        found = self._known.of("\n".join(line.metrics for line in lines).encode("utf-8", "replace"))
        if found is None or len(found.values) != len(lines):
            return None
        places = np.array([(line.step, line.time) for line in lines])
        told = np.hstack([np.ones(places.shape, bool), found.told])
        return rows_of(Columns(["step", "timestamp", *found.names], np.hstack([places, found.values]), told), 0)

    def _one_by_one(self, lines: list[_Line]) -> Iterator[Row]:
        learned = []
        for line in lines:
            try:
                told = json.loads(line.metrics)
            except (ValueError, RecursionError):
                continue
            if isinstance(told, dict):
                learned.append(told)
                yield from _row(line, flat(told))
        if len(lines) >= _FEW:
            self._known.learn(learned)

    def _settings(self, base: sqlite3.Connection) -> list[Item]:
        try:
            found = base.execute("SELECT config FROM configs WHERE run_id = ?", (self._run,)).fetchone()
            told = json.loads(found[0]) if found else {}
        except (sqlite3.Error, ValueError, TypeError, RecursionError):
            return []
        if not isinstance(told, dict):
            return []
        simple = {k: v for k, v in told.items() if isinstance(v, str | int | float | bool) and k[:1] != "_"}
        return [Hparams(simple)] if simple else []

    def changed(self) -> float:
        """Return when the database last changed, in Unix seconds: it, or what was not written into it yet."""
        found = files_of(self._path)[:2]
        return max((path.stat().st_mtime for path in found if path.exists()), default=0.0)

    def unread(self) -> int:
        """Return about the bytes of the database that are not read yet."""
        return 0 if self._first else self._path.stat().st_size


def _row(line: _Line, told: dict[str, float]) -> Iterator[Row]:
    """Yield the row of a line, if it tells of anything beside its place."""
    values = {name: value for name, value in told.items() if not is_place(name)}
    epochs = (value for name, value in told.items() if meaning(name).kind == "epoch" and math.isfinite(value))
    if values:
        yield Row(line.step, line.time, next(epochs, None), values)


def _plain(metrics: str) -> str:
    """Return JSON with what is no number as Python writes it, and not in quotation marks."""
    if '"NaN"' in metrics or 'Infinity"' in metrics:
        for word in ("-Infinity", "Infinity", "NaN"):
            metrics = metrics.replace(f'"{word}"', word)
    return metrics


def _whole(step: object) -> int | None:
    """Return a step; None where it is none: SQLite keeps what it is given."""
    return int(step) if isinstance(step, int | float) and math.isfinite(step) else None


def _unix(text: object) -> float:
    try:
        when = datetime.fromisoformat(str(text))
        return (when if when.tzinfo is not None else when.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return 0.0
