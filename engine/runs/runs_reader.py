"""The summaries of all runs of a folder, looked at again and again: only what changed is read anew."""

import threading
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from finetui.engine.errors import BadInput
from finetui.engine.runs.folder import RunFolder, run_folders
from finetui.engine.runs.lock import Holder, holder_of
from finetui.engine.runs.summaries import RunSummary, Summariser

Progress = Callable[[int, int], None]  # runs that were looked at, of how many
_Mark = tuple[int, int, int]  # of a file: which it is, its bytes, and when it was written


class _Known(NamedTuple):
    """What was read of a run, and of what; the `summariser` goes on with the journal of one that an engine has."""

    state: tuple[_Mark, _Mark, Holder | None]
    summary: RunSummary | None
    summariser: Summariser | None


class RunsReader:
    """Reads the runs in `runs_dir`; may be used by any thread, one after the other."""

    def __init__(self, runs_dir: Path) -> None:
        self._runs_dir = runs_dir
        self._known: dict[Path, _Known] = {}
        self._turn = threading.Lock()
        self.journals_read = 0  # how often one was opened

    def read(self, progress: Progress = lambda _done, _all: None) -> list[RunSummary]:
        """Return a summary of every run, newest first, as `summarise_runs` does. Raises `BadInput`."""
        with self._turn:
            folders = run_folders(self._runs_dir)
            found: dict[Path, _Known] = {}
            for number, folder in enumerate(folders, 1):
                try:
                    found[folder.path] = self._look(folder)
                except BadInput:
                    if folder.journal.exists():
                        raise
                    continue  # somebody has deleted it meanwhile
                progress(number, len(folders))
            self._known = found
            return [known.summary for known in found.values() if known.summary is not None]

    def _look(self, folder: RunFolder) -> _Known:
        there = holder_of(folder)
        state = _mark(folder.journal), _mark(folder.notes), there
        known = self._known.get(folder.path)
        if known is not None and known.state == state:
            return known
        summariser = known.summariser if known is not None and _has_grown(known.state[0], state[0]) else None
        summariser = summariser or Summariser(folder)
        self.journals_read += 1
        return _Known(state, summariser.read(there), None if there is None else summariser)


@lru_cache(maxsize=1)
def reader_of(runs_dir: Path) -> RunsReader:
    """Return the reader of `runs_dir`: the same one as before, so that what it knows is not read again."""
    return RunsReader(runs_dir)


def _mark(path: Path) -> _Mark:
    with suppress(OSError):
        about = path.stat()
        return about.st_ino, about.st_size, about.st_mtime_ns
    return 0, 0, 0


def _has_grown(before: _Mark, now: _Mark) -> bool:
    """Tell whether a file is the same one with something added, as far as its `now` says."""
    return before[0] == now[0] and before[1] <= now[1]
