"""What each run has come to, from its journal: the rows of `finetui runs`."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import msgspec

from finetui.engine.errors import BadInput
from finetui.engine.protocol.commands import NoteTest
from finetui.engine.protocol.events import (
    ENDED,
    CheckpointSaved,
    CommandAccepted,
    Evaluated,
    Event,
    Rewound,
    RunPrepared,
    RunStarted,
    State,
    StateChanged,
    TrainPoint,
)
from finetui.engine.protocol.paths import short
from finetui.engine.protocol.time_sum import TimeSum
from finetui.engine.protocol.values import Part, TimeShares
from finetui.engine.runs.folder import RunFolder, run_folders
from finetui.engine.runs.journal import JournalReader
from finetui.engine.runs.lock import Holder, holder_of
from finetui.engine.text import clean


def best_accuracy(before: float | None, event: Evaluated) -> float:
    """Return the accuracy of the best evaluation, `before` or `event`; without a figure the best is the most accurate.

    A new best by another figure may be less accurate than the one before.
    """
    if event.figure is None:
        return max(before or 0.0, event.accuracy)
    return event.accuracy if event.best or before is None else before


class RunSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One row of `finetui runs`; `started` is local time in ISO 8601, accuracies run from 0 to 1.

    `accuracy` is that of the last evaluation while training, on `evaluated_on` images, `best_accuracy` that of the best
    of these, all on `part`; `test_accuracy` that of test images that nothing was chosen by. `pid` and `host` are those
    of the engine that has the run now, if any. `time_shares` says where the time of its training went, as far as that
    was measured; what was undone later has taken time as well.
    """

    name: str
    path: str
    state: State
    data: str
    model: str
    epoch: int
    step: int
    best_accuracy: float | None
    started: str
    parent: str | None
    pid: int | None = None
    host: str | None = None
    evaluated_on: int | None = None
    accuracy: float | None = None
    test_accuracy: float | None = None
    part: Part = "test"
    time_shares: TimeShares | None = None


def summarise_runs(runs_dir: Path) -> list[RunSummary]:
    """Return a summary of every run in `runs_dir`, newest first; a folder without a readable start is left out."""
    found = []
    for folder in run_folders(runs_dir):
        try:
            summary = summarise_run(folder)
        except BadInput:
            if folder.journal.exists():
                raise
            continue  # somebody has deleted it meanwhile
        if summary is not None:
            found.append(summary)
    return found


def summarise_run(folder: RunFolder) -> RunSummary | None:
    """Return what `folder`'s journal says, or None when it does not even say how the run began."""
    # Asked first: an engine that ends meanwhile has told so by the end of the journal.
    there = holder_of(folder)
    return _Summariser(folder, there).run(JournalReader(folder.journal).read())


class _Summariser:
    def __init__(self, folder: RunFolder, there: Holder | None) -> None:
        self._folder = folder
        self._there = there
        self._prepared: RunPrepared | None = None
        self._state: State = "preparing"
        self._best: float | None = None
        self._last: Evaluated | None = None
        self._test: tuple[int, float] | None = None  # step and accuracy
        self._kept: dict[int, Evaluated | None] = {}  # the last evaluation before each checkpoint
        self._step = 0
        self._epoch = 0
        self._time = TimeSum()

    def run(self, events: Iterator[Event]) -> RunSummary | None:
        started = 0.0
        for event in events:
            self._step = max(self._step, event.step)
            match event:
                case Rewound():
                    self._step, self._epoch, self._best = event.step, event.epoch, event.best_accuracy
                    before = None if self._last is None or self._last.step > event.step else self._last
                    self._last = self._kept.get(event.at, before)
                    self._test = None if self._test is None or self._test[0] > event.step else self._test
                case RunPrepared():
                    self._prepared = event
                case RunStarted():
                    started = event.time
                case StateChanged():
                    self._state = event.state
                case TrainPoint():
                    self._epoch = event.epoch
                    if event.time_shares is not None:
                        self._time.add(event.time_shares)
                case Evaluated(watched=False):
                    self._test = (event.step, event.accuracy) if event.part == "test" else self._test
                case CommandAccepted(command=NoteTest() as note):
                    watched = self._prepared is None or self._prepared.data.watched == "test"
                    self._test = self._test if watched else (event.step, note.accuracy)
                case CheckpointSaved():
                    self._kept[event.at] = self._last
                case Evaluated():
                    self._epoch, self._last = event.epoch, event
                    self._best = best_accuracy(self._best, event)
        return self._summary(started)

    def _summary(self, started: float) -> RunSummary | None:
        if self._prepared is None:
            return None
        there = self._there
        silent = self._state not in ENDED and there is None
        return RunSummary(
            name=self._folder.name,
            path=clean(str(self._folder.path.absolute()), 4096),
            state="crashed" if silent else self._state,
            data=clean(self._prepared.data.name),
            model=clean(short(self._prepared.config.model.name)),
            epoch=self._epoch,
            step=self._step,
            accuracy=None if self._last is None else self._last.accuracy,
            best_accuracy=self._best,
            test_accuracy=None if self._test is None else self._test[1],
            part=self._prepared.data.watched if self._last is None else self._last.part,
            started=_local_time(started),
            parent=None if self._prepared.parent is None else clean(self._prepared.parent),
            pid=there.pid if there is not None else None,
            host=clean(there.host) if there is not None else None,
            evaluated_on=None if self._last is None else self._last.n,
            time_shares=self._time.shares() if self._time.seconds else None,
        )


def _local_time(seconds: float) -> str:
    """Return a time since 1970 as local time in ISO 8601; empty where a damaged journal tells none, or a wild year."""
    if seconds == 0:
        return ""
    try:
        return datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):
        return ""
