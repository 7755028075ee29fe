"""finetui's events out of what a source tells: what is a figure of finetui's, and what is the run's own number.

A long history is thinned on the way: of many rows in a row the least, the greatest and the mean of each number remain.
"""

import math
import time
from collections import deque
from collections.abc import Iterator, Mapping
from itertools import chain, pairwise

import msgspec
import numpy as np

from finetui.engine.protocol import events
from finetui.engine.protocol.capabilities import Capabilities
from finetui.engine.protocol.config import ModelConfig, RunConfig
from finetui.engine.protocol.values import DataSummary, Part
from finetui.engine.sources.bucket import Bucket
from finetui.engine.sources.few_evaluations import PARTS, Evaluation, FewEvaluations, Place
from finetui.engine.sources.names import meaning, setting_name
from finetui.engine.sources.pace import Pace
from finetui.engine.sources.row_buckets import buckets_of, epochs_of, evaluations, sorted_out, summed
from finetui.engine.sources.rows import Row, Rows
from finetui.engine.sources.source import Anew, Back, Changes, Ended, Hparams, Item, Note, Setting, Source
from finetui.engine.text import clean

_LOOKED_AT = 2000  # rows, before anything is told of the run
_LONG = 32 << 20  # bytes, of which it is told how many are read
_FEW = 16  # rows, or rows of a bucket, below which they are not worth being taken together
_ROW_BYTES = 150  # about, of a row in a file
_BUCKETS = 4000  # that a history is thinned to, about
_MOST_SETTINGS = 200


class RunEvents:
    """Reads `source`, whose run is called `name` and lies at `path`."""

    def __init__(self, source: Source, name: str, path: str) -> None:
        self._source = source
        self._name, self._path = name, path
        self._seq = 0
        self._state: events.State = "preparing"
        self._rewritten = ""  # why all is told again, until that was said
        self._begin()

    def _begin(self) -> None:
        self._prepared = self._ended = False
        self._settings: dict[str, Setting] = {}
        self._watched: Part = "val"
        self._steps_per_epoch = 0
        self._step = self._epoch = self._latest = 0
        self._rows_told = self._trained_row = 0  # how many rows there were, and the last one with train numbers
        self._evaluations = FewEvaluations()
        self._pace = Pace()
        self._best: float | None = None
        self._since = 0  # the step of the last point

    def read(self) -> Iterator[events.AnyEvent]:
        """Yield the events that are new. Raises OSError where the files cannot be read just now."""
        self._unread, self._read_share = self._source.unread(), 0.0
        self._bucket = Bucket(max(self._unread // (_ROW_BYTES * _BUCKETS), 1))
        self._changed = self._source.changed()
        try:
            yield from map(self._numbered, self._told(self._source.read()))
        except Exception:
            yield from map(self._numbered, self._flushed())
            raise
        yield from map(self._numbered, self._flushed())
        self._pace.changed([self._changed])
        if self._prepared:
            yield from map(self._numbered, self._state_now(self._changed))
            yield events.DataSeen(changed=self._changed)

    def _told(self, items: Iterator[Item]) -> Iterator[events.AnyEvent]:
        """Yield the events of `items`; those after a file that was written anew are of another run."""
        if not self._prepared:
            items = self._looked_at(items)
        for number, item in enumerate(items):
            yield from self._events(item)
            if self._unread > _LONG and self._prepared and (isinstance(item, Rows) or number % _LOOKED_AT == 0):
                yield from self._progress()
            if isinstance(item, Anew):
                yield from self._told(items)
                return

    def _progress(self) -> Iterator[events.DataSeen]:
        """Tell how much of a long file is read, at each percent."""
        share = 1 - min(self._source.unread() / self._unread, 1.0)
        if int(self._read_share * 100) < int(share * 100) < 100:
            self._read_share = share
            yield events.DataSeen(changed=self._changed, share=share)

    def _numbered(self, event: events.AnyEvent) -> events.AnyEvent:
        if not isinstance(event, events.TRANSIENT):
            event = msgspec.structs.replace(event, seq=self._seq)
            self._seq += 1
        return event

    # -- how it began -----------------------------------------------------------------------------------

    def _looked_at(self, items: Iterator[Item]) -> Iterator[Item]:
        """Return `items`, after a look at the first of them: whether there are epochs, and what is evaluated.

        Where they fail on the way, what came before is told before that.
        """
        first: list[Item] = []
        rows: list[Row] = []
        try:
            for item in items:
                if isinstance(item, Anew):
                    first.clear()
                    rows.clear()
                first.append(item)
                if isinstance(item, Row):
                    rows.append(item)
                elif isinstance(item, Rows):
                    rows += item.part(0, _LOOKED_AT - len(rows)).one_by_one()
                if len(rows) >= _LOOKED_AT:
                    break
        except Exception as error:  # noqa: BLE001  # it is raised once that is told
            items = _failing(error)
        for item in first:
            if isinstance(item, Hparams):
                list(self._hear_settings(item.values))
        parts = {meaning(name).kind for row in rows for name in row.values}
        self._watched = "test" if "test" in parts and "val" not in parts else "val"
        self._steps_per_epoch = _steps_per_epoch(rows) or _planned(self._settings)
        return chain(first, items)

    def _prepare(self, at: float) -> Iterator[events.AnyEvent]:
        """Tell how the run began, at the time `at`."""
        self._prepared = True
        kind = self._source.kind
        yield events.RunPrepared(
            time=at,
            config=RunConfig(model=ModelConfig(name="none")),
            data=DataSummary(
                name=kind,
                requested=kind,
                location=self._path,
                classes=(),
                train_size=0,
                test_size=0,
                channels=0,
                height=0,
                width=0,
            ),
            layers=(),
            device="",
            parameters=0,
            steps_per_epoch=self._steps_per_epoch,
            capabilities=Capabilities(why_no_others=f"it is only watched, through its files ({kind})"),
            hparams=dict(self._settings),
        )
        yield events.RunStarted(time=at, name=clean(self._name), path=self._path)
        yield events.StateChanged(time=at, state="running")
        self._state = "running"
        if self._rewritten:
            yield events.Log(
                time=at, level="warning", message=f"its files were read again from the start: {clean(self._rewritten)}"
            )
            self._rewritten = ""

    def _state_now(self, changed: float) -> Iterator[events.AnyEvent]:
        """Tell of another state: that the source says so, or that nothing has come for too long.

        Then the training is over, or stuck: no file says which.
        """
        silent = time.time() - changed
        if self._ended:
            state, reason = "finished", ""
        elif silent > self._pace.patience:
            state = "stopped"
            reason = f"nothing has been added to its files for {silent / 60:,.0f} minutes: it has ended or is stuck"
        else:
            state, reason = "running", ""
        if state != self._state:
            self._state = state  # type: ignore[assignment]  # each is one
            yield events.StateChanged(time=changed, step=self._latest, state=self._state, reason=reason)

    # -- what is told -----------------------------------------------------------------------------------

    def _events(self, item: Item) -> Iterator[events.AnyEvent]:
        match item:
            case Row():
                yield from self._row(item)
            case Rows() if min(len(item.steps), self._bucket.size) < _FEW:
                for row in item.one_by_one():
                    yield from self._row(row)
            case Rows():
                yield from self._rows(item)
            case Back(step):
                yield from self._back(step)
            case Hparams(values):
                yield from self._flushed()
                yield from self._hear_settings(values)
            case Anew(why):
                self._bucket.clear()
                self._rewritten = why if self._prepared else self._rewritten
                self._begin()
            case Note(message):
                yield from self._flushed()
                yield events.Log(time=self._changed, step=self._latest, level="warning", message=clean(message))
            case Changes(times):
                self._pace.changed(times)
            case Ended():
                self._ended = True

    def _hear_settings(self, values: Mapping[str, Setting]) -> Iterator[events.AnyEvent]:
        room = _MOST_SETTINGS - len(self._settings)
        new = {clean(setting_name(name), 60): _short(value) for name, value in list(values.items())[: max(room, 0)]}
        if self._prepared and new.items() - self._settings.items():
            yield events.SettingsTold(time=self._changed, step=self._latest, settings=new)
        self._settings |= new

    def _row(self, row: Row) -> Iterator[events.AnyEvent]:
        if not self._prepared:
            yield from self._prepare(row.time)
        self._ended = False
        self._pace.row(row.time)
        trained: dict[str, float] = {}
        evaluated: dict[str, dict[str, float]] = {part: {} for part in PARTS}
        others: dict[str, float] = {}
        for name, value in row.values.items():
            kind, figure, factor = meaning(name)
            place = trained if kind == "train" else evaluated.get(kind)
            value *= factor
            if kind == "epoch":
                row = row._replace(epoch=value)
            elif place is None or figure in place or (figure == "accuracy" and value > 1):
                if kind not in ("step", "time"):
                    others[name] = value
            else:
                place[figure] = value
        self._step, self._epoch = max(row.step, 0), self._epoch_of(row)
        self._latest = max(self._latest, self._step)
        self._rows_told += 1
        at = Place(self._step, row.time, self._epoch)
        if trained or others:
            self._bucket.add(self._step, row.time, self._epoch, trained, others)
            self._trained_row = self._rows_told
        for part in PARTS:
            if evaluated[part]:
                self._evaluations.add(Evaluation(self._rows_told, at, part, evaluated[part]))
        self._bucket.beside += not (trained or others) and any(evaluated.values())
        if self._bucket.is_full:
            yield from self._flushed()

    def _rows(self, rows: Rows) -> Iterator[events.AnyEvent]:
        """Tell of all `rows` what `_row` does of each."""
        if not self._prepared:
            yield from self._prepare(float(rows.times[0]))
        self._ended = False
        self._pace.rows(rows.times)
        told = sorted_out(rows)
        per_epoch, before = self._steps_per_epoch, self._rows_told + 1
        epochs = -(-rows.steps // per_epoch) if per_epoch else epochs_of(told, self._epoch)
        buckets, counts = buckets_of(told, self._bucket.rows + self._bucket.beside, self._bucket.size)
        evaluated = evaluations(told, buckets)
        sums = dict(summed(told, rows.names, buckets, self._bucket))

        def place(row: int) -> Place:
            return Place(max(int(rows.steps[row]), 0), float(rows.times[row]), int(epochs[row]))

        ends = [*(np.flatnonzero(np.diff(buckets)) + 1).tolist(), len(buckets)]
        waiting = sorted(evaluated, reverse=True)
        for start, end in zip([0, *ends], ends, strict=False):
            while waiting and waiting[-1] < end:
                row = waiting.pop()
                for part in PARTS:
                    if part in evaluated[row]:
                        self._evaluations.add(Evaluation(before + row, place(row), part, evaluated[row][part]))
            some = sums.get(int(buckets[start]))
            if some is not None:
                self._bucket.join(place(some.last), some.rows, some.figures, some.others)
                self._trained_row = before + some.last
            self._bucket.beside += int(counts[start:end].sum()) - (0 if some is None else some.rows)
            if self._bucket.is_full:
                yield from self._flushed()
        self._step, _, self._epoch = place(len(rows.steps) - 1)
        self._latest = max(self._latest, int(rows.steps.max()))
        self._rows_told += len(rows.steps)

    def _epoch_of(self, row: Row) -> int:
        """Return the epoch, counted from 1, that `row` is in; 0 where that is not known."""
        if self._steps_per_epoch:
            return -(-row.step // self._steps_per_epoch)
        return int(row.epoch) if row.epoch is not None and math.isfinite(row.epoch) else self._epoch

    def _evaluated(self, one: Evaluation) -> events.Evaluated:
        watched, accuracy = one.part == self._watched, one.figures.get("accuracy")
        comparable = watched and accuracy is not None and math.isfinite(accuracy)
        best = comparable and (self._best is None or (accuracy is not None and accuracy > self._best))
        if best:
            self._best = accuracy
        return events.Evaluated(
            time=one.place.time, step=one.place.step, epoch=one.place.epoch, loss=one.figures.get("loss"),
            accuracy=accuracy, n=0, per_class=(), confusion=(), best=best, seconds=0.0, part=one.part, watched=watched,
        )  # fmt: skip

    def _flushed(self) -> Iterator[events.TrainPoint | events.Evaluated]:
        """Yield the points and evaluations that the rows since the last ones make, in the order of time."""
        evaluations = deque(self._evaluations.taken())
        while evaluations and evaluations[0].row < self._trained_row:
            yield self._evaluated(evaluations.popleft())
        for point in self._bucket.points(self._since):
            self._since = point.step
            yield point
        yield from map(self._evaluated, evaluations)

    def _back(self, step: int) -> Iterator[events.AnyEvent]:
        """Tell that what was said of `step` and later ones is void."""
        yield from self._flushed()
        if step <= 0:
            self._best, self._since, self._latest = None, 0, 0
            if self._prepared:
                yield from self._prepare(time.time())
            return
        if not self._prepared:
            return
        undone = max(self._latest - step + 1, 0)
        self._step = self._latest = self._since = step - 1
        yield events.Rewound(
            step=step - 1, cause="resume", file="", at=-1, epoch=self._epoch, undone=undone, learning_rate=0.0,
            layers=(), best_accuracy=self._best, reason=f"its files start again at step {step:,}",
        )  # fmt: skip


def _failing(error: Exception) -> Iterator[Item]:
    raise error
    yield


def _steps_per_epoch(rows: list[Row]) -> int:
    """Return how many steps an epoch of the run with the first `rows` has; 0 where they do not tell."""
    placed, evaluated = [], []
    for row in rows:
        epochs = [value for name, value in row.values.items() if meaning(name).kind == "epoch"]
        epoch = epochs[0] if epochs else row.epoch
        if epoch is not None and 0 < epoch < math.inf and row.step > 0:
            placed.append((row.step, epoch))
            if any(meaning(name).kind in PARTS for name in row.values):
                evaluated.append((row.step, epoch))
    # Where each epoch is evaluated once, that is at its end: other rows may be some steps apart.
    if len(evaluated) > 1 and all(now[0] > before[0] and now[1] > before[1] for before, now in pairwise(evaluated)):
        placed = evaluated
    if not placed:
        return 0
    if any(epoch % 1 for _, epoch in placed):  # Hugging Face: to a fraction
        return _whole(*placed[-1])
    first = placed[0]
    turns = [now for before, now in pairwise(placed) if now[1] > before[1]]
    if not turns:
        return 0
    last = turns[-1]
    beginning = first if len(turns) == 1 and first[1] else turns[0]
    if last[1] > beginning[1]:
        return max(_whole(last[0] - beginning[0], last[1] - beginning[1]), 1)
    return 0


def _whole(steps: float, epochs: float) -> int:
    """Return how many steps one of so many epochs has; 0 where these are next to none."""
    found = steps / epochs
    return round(found) if math.isfinite(found) else 0


def _planned(settings: Mapping[str, Setting]) -> int:
    """Return how many steps an epoch has by the plan of the whole training; 0 where it is not told."""
    steps, epochs = settings.get("max_steps"), settings.get("epochs")
    if not isinstance(steps, int) or not isinstance(epochs, int | float) or steps <= 0 or not 0 < epochs < math.inf:
        return 0
    return max(_whole(steps, epochs), 1)


def _short(value: Setting) -> Setting:
    return clean(value) if isinstance(value, str) else value
