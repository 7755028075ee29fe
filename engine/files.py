"""Files that are there whole or not at all, whatever happens while they are written. Needs no torch."""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_TEMPORARY = re.compile(r"\..+\.([0-9]+)\.tmp")


@contextmanager
def replacing(path: Path, *, synced: bool = True) -> Iterator[BinaryIO]:
    """Give a file to write and read; on leaving it takes the place of `path`, synced to the disk with its folder.

    When anything is raised, `path` stays as it was. What can be had again need not be `synced`: a crash of the machine
    may then lose it. Raises OSError.
    """
    temporary = temporary_for(path)
    try:
        with temporary.open("w+b") as file:
            yield file
            if synced:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    if synced:
        sync_folder(path.parent)


def link(path: Path, to: Path) -> None:
    """Let `to` be the same file as `path`, or a copy where the file system has no links, at once. Raises OSError.

    What is written over `path` by `replacing` later leaves `to` as it is.
    """
    temporary = temporary_for(to)
    temporary.unlink(missing_ok=True)
    try:
        os.link(path, temporary)
    except OSError:
        with path.open("rb") as source, replacing(to) as target:
            shutil.copyfileobj(source, target, 1 << 20)
        return
    try:
        temporary.replace(to)
    finally:
        temporary.unlink(missing_ok=True)  # two names of one file are not renamed over each other
    sync_folder(to.parent)


def remove_stale(folder: Path) -> list[Path]:
    """Remove the temporary files in `folder` that a killed process left, and return them. Raises OSError.

    Those of this process count as left: call it before anything is written there. Those of another process that lives
    stay.
    """
    removed = []
    for path in sorted(folder.iterdir()):
        match = _TEMPORARY.fullmatch(path.name)
        if match is not None and path.is_file() and not _is_anothers(int(match[1])):
            path.unlink(missing_ok=True)
            removed.append(path)
    return removed


def temporary_for(path: Path) -> Path:
    """Return where this process writes what becomes `path`: in the same folder, hidden, with its process id."""
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def sync_folder(folder: Path) -> None:
    """Have the names in `folder` written to the disk. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems cannot sync a folder; they write its names without being asked.
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(descriptor)


def _is_anothers(pid: int) -> bool:
    """Tell whether `pid` is a process that lives and is not this one."""
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return pid > 0  # 0 stands for this process's group
