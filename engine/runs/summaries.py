"""What each run has come to, from its journal: the rows of `finetui runs`."""

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from stat import S_ISDIR
from typing import Any

import msgspec

from finetui.engine.errors import BadInput
from finetui.engine.protocol.commands import NoteTest
from finetui.engine.protocol.config import TrainingConfig
from finetui.engine.protocol.events import (
    ENDED,
    CheckpointSaved,
    CommandAccepted,
    Evaluated,
    Event,
    ProvenanceTold,
    Rewound,
    RunPrepared,
    RunStarted,
    SettingsTold,
    State,
    StateChanged,
    TrainingChanged,
    TrainPoint,
)
from finetui.engine.protocol.paths import short
from finetui.engine.protocol.provenance import Provenance
from finetui.engine.protocol.run_clock import RunClock
from finetui.engine.protocol.time_sum import TimeSum
from finetui.engine.protocol.values import Part, TimeShares
from finetui.engine.runs.folder import RunFolder, run_folders
from finetui.engine.runs.journal import Glance, JournalReader
from finetui.engine.runs.lock import Holder, holder_of
from finetui.engine.runs.notes import RunNotes, read_notes
from finetui.engine.runs.thinning import without_matrix
from finetui.engine.text import clean

_POINT, _EVALUATED = TrainPoint.__struct_config__.tag, Evaluated.__struct_config__.tag


def best_accuracy(before: float | None, event: Evaluated) -> float | None:
    """Return the accuracy of the best evaluation, `before` or `event`; without a figure the best is the most accurate.

    A new best by another figure may be less accurate than the one before.
    """
    if event.accuracy is None:
        return before
    if event.figure is None:
        return max(before or 0.0, event.accuracy)
    return event.accuracy if event.best or before is None else before


class RunSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One row of `finetui runs`; `started` is local time in ISO 8601, accuracies run from 0 to 1.

    `accuracy` is that of the last evaluation while training, on `evaluated_on` images, `best_accuracy` that of the best
    of these, all on `part`; `test_accuracy` that of test images that nothing was chosen by. `pid` and `host` are those
    of the engine that has the run now, if any. `epochs` and what follows it are the settings that hold now, `lr` as
    it was set; `recipe` is that of a finetune. `took` is how long it has trained in seconds, pauses left
    out, `size` what its folder holds in bytes. `tags` and `note` are what a person said of it. `time_shares` says where
    the time of its training went, as far as that was measured; what was undone later has taken time as well.
    `provenance` is what the engine that last trained it knew of itself.
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
    epochs: int = 0
    lr: float | None = None
    recipe: str | None = None
    optimizer: str = ""
    schedule: str = ""
    batch_size: int = 0
    seed: int = 0
    took: float = 0.0
    size: int = 0
    tags: tuple[str, ...] = ()
    note: str = ""
    provenance: Provenance | None = None

    @property
    def live(self) -> bool:
        """Whether an engine has the run now."""
        return self.pid is not None


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
    return Summariser(folder).read(holder_of(folder))


def _telling(reader: JournalReader, lines: Iterable[tuple[Glance, bytes]], time: TimeSum) -> Iterator[Event]:
    """Yield the events that `lines` are, of train points in a row only the last one: each tells of those before it.

    But for where the time went, which is added to `time`.
    """
    waiting = b""
    for glance, line in lines:
        if glance.type == _POINT:
            if glance.time_shares is not None:
                time.add(glance.time_shares)
            waiting = line
            continue
        for one in (waiting, without_matrix(line) if glance.type == _EVALUATED else line):
            if one and (event := reader.decode(one)) is not None:
                yield event
        waiting = b""
    if waiting and (event := reader.decode(waiting)) is not None:
        yield event


class SummarySoFar:
    """What the events of a run, heard one by one, add up to."""

    def __init__(self) -> None:
        self.time = TimeSum()
        self._started = 0.0
        self._prepared: RunPrepared | None = None
        self._state: State = "preparing"
        self._best: float | None = None
        self._last: Evaluated | None = None
        self._test: tuple[int, float] | None = None  # step and accuracy
        self._kept: dict[int, Evaluated | None] = {}  # the last evaluation before each checkpoint
        self._step = 0
        self._epoch = 0
        self._training: TrainingConfig | None = None
        self._clock = RunClock()
        self._provenance: Provenance | None = None
        self._hparams: dict[str, str | int | float | bool] | None = None

    def hear(self, event: Event) -> None:
        """Take in `event`, the next one of the run."""
        self._clock.note(event)
        self._step = max(self._step, event.step)
        match event:
            case Rewound():
                self._step, self._epoch, self._best = event.step, event.epoch, event.best_accuracy
                before = None if self._last is None or self._last.step > event.step else self._last
                self._last = self._kept.get(event.at, before)
                self._test = None if self._test is None or self._test[0] > event.step else self._test
            case RunPrepared():
                self._prepared, self._training, self._hparams = event, event.config.training, event.hparams
            case SettingsTold():
                self._hparams = {**(self._hparams or {}), **event.settings}
            case TrainingChanged():
                self._training = event.training
            case RunStarted():
                self._started = event.time
            case ProvenanceTold():
                self._provenance = event.provenance
            case StateChanged():
                self._state = event.state
            case TrainPoint():
                self._epoch = event.epoch
            case Evaluated(watched=False):
                if event.part == "test" and event.accuracy is not None:
                    self._test = (event.step, event.accuracy)
            case CommandAccepted(command=NoteTest() as note):
                watched = self._prepared is None or self._prepared.data.watched == "test"
                self._test = self._test if watched else (event.step, note.accuracy)
            case CheckpointSaved():
                self._kept[event.at] = self._last
            case Evaluated():
                self._epoch, self._last = event.epoch, event
                self._best = best_accuracy(self._best, event)

    def summary(
        self, name: str, path: Path, there: Holder | None, size: int, said: RunNotes | None = None
    ) -> RunSummary | None:
        """Return the summary of the run `name` at `path`, which `there` has; None until it is told how it began."""
        if self._prepared is None or self._training is None:
            return None
        training, finetune, hparams = self._training, self._prepared.config.finetune, self._hparams
        found = RunSummary(
            name=name,
            path=clean(str(path.absolute()), 4096),
            state=self._state,
            data=clean(self._prepared.data.name),
            model=clean(short(self._prepared.config.model.name)),
            epoch=self._epoch,
            step=self._step,
            accuracy=None if self._last is None else self._last.accuracy,
            best_accuracy=self._best,
            test_accuracy=None if self._test is None else self._test[1],
            part=self._prepared.data.watched if self._last is None else self._last.part,
            started=_local_time(self._started),
            parent=None if self._prepared.parent is None else clean(self._prepared.parent),
            pid=there.pid if there is not None else None,
            host=clean(there.host) if there is not None else None,
            evaluated_on=None if self._last is None else self._last.n or None,
            time_shares=self.time.shares() if self.time.seconds else None,
            epochs=training.epochs,
            lr=training.lr,
            recipe=None if finetune is None else finetune.recipe,
            optimizer=training.optimizer,
            schedule=training.schedule,
            batch_size=training.batch_size,
            seed=training.seed,
            took=round(self._clock.seconds, 3),
            size=size,
            tags=() if said is None else said.tags,
            note="" if said is None else said.note,
            provenance=self._provenance,
        )
        return found if hparams is None else msgspec.structs.replace(found, **_settings_told(hparams))


class Summariser:
    """Summarises a run whose journal may grow: each `read` goes on where the one before ended."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._reader = JournalReader(folder.journal)
        self._told = SummarySoFar()

    def read(self, there: Holder | None) -> RunSummary | None:
        """Return what the journal says by now; None while it does not even say how the run began.

        `there` has the run; it has to be asked for first: an engine that ends meanwhile has told so by the end of the
        journal. Raises `BadInput` when the journal cannot be read.
        """
        for event in _telling(self._reader, self._reader.glances(), self._told.time):
            self._told.hear(event)
        size, said = folder_size(self._folder), _notes(self._folder)
        found = self._told.summary(self._folder.name, self._folder.path, there, size, said)
        if found is None or found.state in ENDED or there is not None:
            return found
        return msgspec.structs.replace(found, state="crashed")  # it is silent


def _settings_told(hparams: Mapping[str, str | int | float | bool]) -> dict[str, Any]:
    """Return the settings of a summary as somebody else's loop tells of them; what it does not tell is absent."""

    short: dict[str, str | int | float | bool] = {}
    for name, value in hparams.items():  # of a table the settings are called by their own names: optimizer.lr
        short.setdefault(name.rpartition(".")[2], value)

    def told(*names: str, kind: type = str, absent: object = "") -> Any:
        values = [of[name] for of in (hparams, short) for name in names if isinstance(of.get(name), kind)]
        return next((value for value in values if not isinstance(value, float) or math.isfinite(value)), absent)

    number: Any = int | float
    return {
        "epochs": int(told("epochs", "max_epochs", "num_epochs", kind=number, absent=0)),
        "lr": told("lr", "learning_rate", "lr0", kind=number, absent=None),
        "optimizer": clean(told("optimizer", "opt")),
        "schedule": clean(told("schedule", "lr_scheduler", "sched")),
        "batch_size": int(told("batch_size", "batch size", "batch", kind=number, absent=0)),
        "seed": int(told("seed", kind=number, absent=0)),
        "model": clean(told("model", "arch")),
    }


def _notes(folder: RunFolder) -> RunNotes:
    try:
        return read_notes(folder)
    except BadInput as error:  # which no list of many runs should fail for
        return RunNotes(note=str(error))


def folder_size(folder: RunFolder) -> int:
    """Return the bytes that the files of a run take, each once: checkpoints may be one file under two names."""
    found: dict[tuple[int, int], int] = {}
    for path in folder.path.rglob("*"):
        with suppress(OSError):  # it has just been replaced
            about = path.lstat()
            if not S_ISDIR(about.st_mode):
                found[about.st_dev, about.st_ino] = about.st_size
    return sum(found.values())


def _local_time(seconds: float) -> str:
    """Return a time since 1970 as local time in ISO 8601; empty where a damaged journal tells none, or a wild year."""
    if seconds == 0:
        return ""
    try:
        return datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):
        return ""
