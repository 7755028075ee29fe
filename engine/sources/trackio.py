"""A run in trackio's database: a file of SQLite for each project, read without a lock of its own."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from finetui.engine.errors import BadInput
from finetui.engine.sources.rows import Row
from finetui.engine.sources.source import Anew, Hparams, Item
from finetui.engine.sources.table import flat

_WAIT = 2.0  # seconds for a writer that has the database
_MAGIC = b"SQLite format 3\x00"


def is_database(path: Path) -> bool:
    """Whether the file at `path` is one of SQLite's. Raises OSError."""
    with path.open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=_WAIT)


def runs_in(path: Path) -> list[tuple[str, str]]:
    """Return id and name of each run in the database, the first one first; none where it is not trackio's."""
    try:
        with closing(_connect(path)) as base:
            query = "SELECT run_id, max(run_name) FROM metrics GROUP BY run_id ORDER BY min(id)"
            return [(str(key), str(name)) for key, name in base.execute(query)]
    except sqlite3.Error:
        return []


class TrackioRun:
    """The run with the id `run` in the database at `path`."""

    kind = "trackio"

    def __init__(self, path: Path, run: str) -> None:
        self._path = path
        self._run = run
        self._last, self._rows = 0, 0
        self._inode = 0
        self._told_settings = False

    def read(self) -> Iterator[Item]:
        """Yield the rows that are new. Raises OSError where the database cannot be read just now."""
        inode = self._path.stat().st_ino
        try:
            with closing(_connect(self._path)) as base:
                yield from self._items(base, inode)
        except sqlite3.Error as error:
            raise OSError(f"the database {self._path.name} cannot be read: {error}") from error

    def _items(self, base: sqlite3.Connection, inode: int) -> Iterator[Item]:
        counted = "SELECT count(*), max(id) FROM metrics WHERE run_id = ? AND id <= ?"
        rows = base.execute(counted, (self._run, self._last)).fetchone()[0]
        if rows < self._rows or (self._inode and inode != self._inode):
            self._last = self._rows = 0
            self._told_settings = False
            yield Anew("rows of the database are gone")
        self._inode = inode
        if not self._told_settings:
            yield from self._settings(base)
        query = "SELECT id, timestamp, step, metrics FROM metrics WHERE run_id = ? AND id > ? ORDER BY id"
        for key, when, step, metrics in base.execute(query, (self._run, self._last)):
            self._last = int(key)
            self._rows += 1
            try:
                told = flat(json.loads(metrics))
            except (ValueError, AttributeError, RecursionError):
                continue
            epoch = told.pop("epoch", None)
            if told:
                yield Row(int(step), _unix(when), epoch, told)

    def _settings(self, base: sqlite3.Connection) -> Iterator[Item]:
        try:
            found = base.execute("SELECT config FROM configs WHERE run_id = ?", (self._run,)).fetchone()
            told = json.loads(found[0]) if found else {}
        except (sqlite3.Error, ValueError):
            return
        self._told_settings = bool(found)
        if isinstance(told, dict):
            simple = {k: v for k, v in told.items() if isinstance(v, str | int | float | bool) and k[:1] != "_"}
            if simple:
                yield Hparams(simple)

    def changed(self) -> float:
        """Return when the database last changed, in Unix seconds: it, or what was not written into it yet."""
        found = (self._path, self._path.with_name(self._path.name + "-wal"))
        return max((path.stat().st_mtime for path in found if path.exists()), default=0.0)

    def unread(self) -> int:
        """Return the bytes of the database while nothing was read yet."""
        return 0 if self._rows else self._path.stat().st_size


def _unix(text: object) -> float:
    try:
        when = datetime.fromisoformat(str(text))
    except ValueError:
        return 0.0
    return (when if when.tzinfo is not None else when.replace(tzinfo=UTC)).timestamp()


def check_readable(path: Path) -> None:
    """Raise `BadInput` where the database at `path` holds no runs of trackio's."""
    if not runs_in(path):
        raise BadInput(f"{path} is a database, but not one of trackio's with runs in it")
