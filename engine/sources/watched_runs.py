"""All runs that are watched in some places, looked at again and again: new ones are found, and each is read on."""

import math
import shlex
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from finetui.engine.errors import BadInput, describe, reason_of
from finetui.engine.protocol.events import ENDED, AnyEvent, RunPrepared, TrainPoint
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.lock import holder_of
from finetui.engine.runs.summaries import RunSummary, Summariser, SummarySoFar
from finetui.engine.sources.recognise import Found, find_runs
from finetui.engine.sources.run_events import RunEvents
from finetui.engine.text import clean

_ENDED_SECONDS = 10.0  # between two looks at a run that has ended: it may be gone on with
_RUNS_A_SECOND = 1000  # of which these looks take a fraction of a processor
_SEARCH_SECONDS = 10.0  # between two looks for new runs: a deep folder on a network takes a while


def events_of(found: Found) -> RunEvents:
    """Return what reads the run `found`, of any kind but finetui's own."""
    return RunEvents(found.open(), found.name, found.place)


class _Watched:
    """The summary of a run so far."""

    def __init__(self, found: Found) -> None:
        self.found = found
        self._own = Summariser(RunFolder(found.path)) if found.is_own else None
        self._events = None if self._own is not None else events_of(found)
        self._told = SummarySoFar()
        self._last: RunSummary | None = None
        self._rate: float | None = None
        self._looked = 0.0

    def summary(self, ended_seconds: float) -> RunSummary | None:
        """Return what is known by now; what cannot be read just now stays as it was.

        A run that has ended is only looked at again after `ended_seconds`. Where something in it is not understood, its
        note says so.
        """
        if self._last is not None and self._last.state in ENDED and time.monotonic() - self._looked < ended_seconds:
            return self._last
        self._looked = time.monotonic()
        try:
            if self._own is not None:
                summary = self._own.read(holder_of(RunFolder(self.found.path)))
                self._last = summary and msgspec.structs.replace(summary, name=clean(self.found.name))
            else:
                self._read_on()
        except (OSError, BadInput) as error:
            return self._last or msgspec.structs.replace(self._bare(), note=f"it cannot be read: {reason_of(error)}")
        except Exception as error:  # noqa: BLE001  # others write the files, and the other runs are still to be read
            note = f"something in its files cannot be parsed: {describe(error)}"
            return msgspec.structs.replace(self._last or self._bare(), note=note)
        return self._last

    def _bare(self) -> RunSummary:
        """Return the row of a run of which nothing is known."""
        return RunSummary(
            name=clean(self.found.name), path=clean(self.found.place, 4096), state="failed", data=self.found.kind,
            model="", epoch=0, step=0, best_accuracy=None, started="", parent=None,
        )  # fmt: skip

    def _read_on(self) -> None:
        assert self._events is not None, "it is not a run of finetui"
        for event in self._events.read():
            self._told.hear(event)
            self._hear_rate(event)
        size = self.found.path.stat().st_size if self.found.path.is_file() else 0
        summary = self._told.summary(clean(self.found.name), Path(self.found.place), None, size)
        if summary is None:
            summary = msgspec.structs.replace(self._bare(), state="preparing", note="it has logged nothing yet")
        self._last = msgspec.structs.replace(summary, lr=self._rate) if summary.lr is None else summary

    def _hear_rate(self, event: AnyEvent) -> None:
        """Keep the greatest rate that was logged: what was set, where schedules warm up and decay."""
        if isinstance(event, RunPrepared):
            self._rate = None
        elif isinstance(event, TrainPoint) and event.learning_rate is not None and math.isfinite(event.learning_rate):
            self._rate = max(event.learning_rate, self._rate or 0.0)


def _told_apart(found: Found, path: Path) -> Found:
    """Return `found`, in `path`, by a longer name: a run in another path that is watched is called the same."""
    itself = not found.run and (path.is_file() or found.name == path.absolute().name)
    return found._replace(name=str(path) if itself else str(path / found.name))


class WatchedRuns:
    """The runs in `paths`, files and folders; may be used by any thread, one after the other."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = tuple(paths)
        self._known: dict[str, _Watched] = {}
        self._turn = threading.Lock()
        self._searched = 0.0
        self.notes: tuple[str, ...] = ()  # what is to be said of the search, as sentences

    @property
    def title(self) -> str:
        """Where they are, for people."""
        return ", ".join(map(str, self._paths))

    @property
    def command(self) -> str:
        """The command that watches them."""
        return shlex.join(["finetui", "watch", *map(str, self._paths)])

    def found(self) -> list[Found]:
        """Return the runs that there are now. Raises `BadInput` where one of the paths is of no use."""
        notes: list[str] = []
        there = {
            clean(found.place, 4096): (found, path) for path in self._paths for found in find_runs(path, notes.append)
        }
        self.notes = tuple(notes)
        named = Counter(found.name for found, _ in there.values())
        runs = {
            place: _told_apart(found, path) if named[found.name] > 1 else found
            for place, (found, path) in there.items()
        }
        self._searched = time.monotonic()
        self._known = {place: self._known.get(place) or _Watched(one) for place, one in runs.items()}
        return list(runs.values())

    def named(self, path: str) -> Found | None:
        """Return the run whose summary has this `path`; None where there is none."""
        watched = self._known.get(path)
        return None if watched is None else watched.found

    def read(self, progress: Callable[[int, int], None] = lambda _done, _all: None) -> list[RunSummary]:
        """Return a summary of each run, the newest first. Raises `BadInput`."""
        with self._turn:
            if not self._known or time.monotonic() - self._searched > _SEARCH_SECONDS:
                self.found()
            return list(self._summaries(progress))

    def _summaries(self, progress: Callable[[int, int], None]) -> Iterator[RunSummary]:
        found = []
        for number, watched in enumerate(self._known.values(), 1):
            summary = watched.summary(max(_ENDED_SECONDS, len(self._known) / _RUNS_A_SECOND))
            if summary is not None:
                found.append(summary)
            progress(number, len(self._known))
        yield from sorted(found, key=lambda one: one.started, reverse=True)
