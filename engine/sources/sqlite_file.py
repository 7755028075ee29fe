"""A database of SQLite that somebody else writes, read without a trace: no file is made beside it, no lock is kept.

SQLite itself makes files beside a database in write-ahead mode that nobody has open, also where it only reads. Such a
one is read as a file that does not change; where a writer that died has left what is not in the database yet, a copy of
both is read, in a folder for temporary files.
"""

import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

_WAIT = 2.0  # seconds for a writer that has the database
_MAGIC = b"SQLite format 3\x00"
_READ_VERSION, _WRITE_AHEAD = 19, 2  # the place of a byte of the header, and what it is in write-ahead mode
_MOST_COPIED = 4 << 30  # bytes
_LEFT = ("SQLITE_READONLY_ROLLBACK", "SQLITE_CANTOPEN", "SQLITE_READONLY_RECOVERY", "SQLITE_READONLY_CANTINIT")


def is_database(path: Path) -> bool:
    """Whether the file at `path` is one of SQLite's. Raises OSError."""
    with path.open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


def files_of(path: Path) -> list[Path]:
    """Return the database at `path`, and what belongs to it: what was not written into it yet, or can be undone."""
    return [path, *(path.with_name(path.name + end) for end in ("-wal", "-journal"))]


def mark_of(path: Path) -> tuple[tuple[int, int, int], ...]:
    """Return what changes with the database at `path`: inode, size in bytes and time in ns of each of its files."""
    found = []
    for one in files_of(path):
        try:
            about = one.stat()
        except FileNotFoundError:
            continue
        found.append((about.st_ino, about.st_size, about.st_mtime_ns))
    return tuple(found)


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """Give a connection that reads the database at `path`. Raises OSError where it cannot be read just now."""
    try:
        with _connected(path) as base:
            base.text_factory = lambda content: content.decode("utf-8", "replace")
            yield base
    except sqlite3.Error as error:
        raise OSError(f"the database {path.name} cannot be read: {error}") from error


@contextmanager
def _connected(path: Path) -> Iterator[sqlite3.Connection]:
    before, *_ = mark_of(path) or (None,)
    with path.open("rb") as file:
        header = file.read(_READ_VERSION + 1)
    _, ahead, journal = files_of(path)
    if len(header) > _READ_VERSION and header[_READ_VERSION] == _WRITE_AHEAD:
        if not _holds_something(ahead):
            with closing(_connect(path, "mode=ro&immutable=1")) as base:
                yield base
            # A writer that has closed it again has taken what it wrote into the database.
            if _holds_something(ahead) or before not in mark_of(path):
                raise OSError(f"the database {path.name} was opened by its writer just now")
            return
        if not path.with_name(path.name + "-shm").exists():
            with _copied(path) as base:
                yield base
            return
    elif _holds_something(journal) and _is_left_behind(path):
        with _copied(path) as base:
            yield base
        return
    with closing(_connect(path, "mode=ro")) as base:
        yield base


def _connect(path: Path, how: str) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?{how}", uri=True, timeout=_WAIT)


def _holds_something(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except FileNotFoundError:
        return False


def _is_left_behind(path: Path) -> bool:
    """Whether the journal of the database at `path` is of a writer that died, and has to be undone first."""
    try:
        with closing(_connect(path, "mode=ro")) as base:
            base.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorname in _LEFT:
            return True
        raise
    return False


@contextmanager
def _copied(path: Path) -> Iterator[sqlite3.Connection]:
    """Give a connection to a copy of the database at `path`, into which what its writer has left is taken first."""
    there = [one for one in files_of(path) if one.exists()]
    size = sum(one.stat().st_size for one in there)
    if size > _MOST_COPIED:
        raise OSError(f"the database {path.name} was not closed by its writer, and is too large to be copied")
    with tempfile.TemporaryDirectory(prefix="finetui-") as folder:
        for one in there:
            shutil.copyfile(one, Path(folder) / one.name)
        with closing(sqlite3.connect(Path(folder) / path.name, timeout=_WAIT)) as base:
            yield base
