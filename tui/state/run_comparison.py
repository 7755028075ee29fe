"""Several runs side by side: their histories, the settings that differ, their scores, McNemar's test of each pair.

All of it is read from their folders: a dashboard does it in a thread.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from finetui.engine.errors import BadInput, describe, reason_of
from finetui.engine.predictions.comparison import McNemar, compare
from finetui.engine.predictions.file import Predictions, load_predictions
from finetui.engine.predictions.interval import wilson
from finetui.engine.protocol.config import RunConfig
from finetui.engine.protocol.events import DataSeen
from finetui.engine.protocol.values import Part
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.journal import JournalReader
from finetui.engine.runs.thinning import thinned
from finetui.engine.sources.recognise import Found
from finetui.engine.sources.watched_runs import WatchedRuns, events_of
from finetui.engine.text import clean
from finetui.tui.state.store import Store

# What is another in each run, and says nothing of how it trained.
_OWN = frozenset({"run.name", "run.runs_dir", "run.linger_minutes"})


class History:
    """What the journal of the run in `folder` tells, as far as it has grown; each `read` goes on."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.store = Store()
        self._reader = JournalReader(folder.journal)

    def read(self) -> bool:
        """Take in what the journal says by now; return whether that is more than before.

        Raises `BadInput` when it cannot be read, or its beginning is lost.
        """
        is_first, heard = self.store.view.data is None, 0  # what is added later is little
        size = self.folder.journal.stat().st_size if is_first and self.folder.journal.is_file() else 0
        for event in thinned(self._reader, self._reader.glances(), size):
            self.store.fold([event])
            heard += 1
        if self.store.view.data is None:
            raise BadInput(f"the journal of the run {self.folder.name} has lost its beginning")
        return heard > 0

    @property
    def config(self) -> RunConfig:
        """The configuration that holds by now."""
        return self.store.view.config


class WatchedHistory:
    """What the files of somebody else's run tell, as far as they have grown; each `read` goes on."""

    def __init__(self, found: Found) -> None:
        self.folder = RunFolder(Path(found.name))
        self.store = Store()
        self._events = events_of(found)

    def read(self) -> bool:
        """Take in what the files say by now; return whether that is more than before. Raises `BadInput`."""
        heard = 0
        try:
            for event in self._events.read():
                self.store.fold([event])
                heard += not isinstance(event, DataSeen)
        except OSError as error:
            raise BadInput(f"the files of the run {self.folder.name} cannot be read: {reason_of(error)}") from error
        except Exception as error:  # others write them, and the other runs are still to be compared
            words = f"the files of the run {self.folder.name} cannot be parsed: {describe(error)}"
            raise BadInput(words) from error
        return heard > 0

    @property
    def config(self) -> RunConfig:
        """Defaults, that say nothing of this run."""
        return self.store.view.config


AnyHistory = History | WatchedHistory


def history_of(path: Path, watched: WatchedRuns | None) -> AnyHistory:
    """Return the history of the run at `path`, one of those that are `watched` if any are."""
    found = None if watched is None else watched.named(str(path))
    return History(RunFolder(path)) if found is None or found.is_own else WatchedHistory(found)


class Setting(msgspec.Struct, frozen=True):
    """A setting by its section and name, and what it is in each run, in their order; None where a run has none."""

    name: str
    values: tuple[Any, ...]


def differing_settings(
    configs: Sequence[RunConfig], hparams: Sequence[Mapping[str, Any] | None] = ()
) -> tuple[list[Setting], int]:
    """Return the settings that are not the same in all of `configs`, and how many others are.

    Of a run with `hparams` (not None), these are its settings instead.
    """
    told = hparams or [None] * len(configs)
    flat = [
        flat_settings(msgspec.to_builtins(config) if own is None else own)
        for config, own in zip(configs, told, strict=True)
    ]
    names = dict.fromkeys(name for one in flat for name in one if name not in _OWN)
    rows = [Setting(name, tuple(one.get(name) for one in flat)) for name in names]
    found = [row for row in rows if any(value != row.values[0] for value in row.values)]
    return found, len(rows) - len(found)


def in_words(value: object) -> str:
    """Return the value of a setting as it is shown."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return clean(", ".join(map(str, value)) or "-")
    return f"{value:g}" if isinstance(value, float) else clean(str(value)) or "-"


def flat_settings(table: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Return the settings in `table`, a configuration as plain types, by section and name; none that are empty."""
    found: dict[str, Any] = {}
    for name, value in table.items():
        if isinstance(value, Mapping):
            found |= flat_settings(value, f"{before}{name}.")
        elif value not in (None, "", (), []):
            found[before + name] = value
    return found


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """The score of a run's best evaluation (`predictions`), else its last: shares of 1 of `n` images of `part`.

    All is None where no predictions were kept; `low` to `high` is the 95 % interval of the accuracy.
    """

    run: str
    predictions: str | None = None
    data: str | None = None
    part: Part | None = None
    step: int | None = None
    n: int | None = None
    accuracy: float | None = None
    low: float | None = None
    high: float | None = None
    loss: float | None = None


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """Two runs on the same images: `test` is McNemar's, in which the `run` is the later one; or why there is none.

    `p_holm` is its p after Holm's correction for all pairs that were tested.
    """

    run: str
    other: str
    test: McNemar | None = None
    p_holm: float | None = None
    why_not: str = ""


class Scores(msgspec.Struct, frozen=True, kw_only=True):
    """The scores of runs, and each pair of them."""

    scores: tuple[Score, ...]
    pairs: tuple[Pair, ...]


def predictions_file(folder: RunFolder) -> Path | None:
    """Return the file with the predictions of a run's best evaluation, else of its last; None where none were kept."""
    return next((file for file in (folder.best_predictions, folder.last_predictions) if file.is_file()), None)


def scores_of(folders: Sequence[RunFolder]) -> Scores:
    """Return the scores of the runs in `folders`, and McNemar's test of each pair on the same images."""
    opened = [_opened(folder) for folder in folders]
    scores = tuple(_score(folder, found) for folder, found in zip(folders, opened, strict=True))
    named = [(folder.name, found) for folder, found in zip(folders, opened, strict=True)]
    pairs = [_pair(*one, *other) for one, other in itertools.combinations(named, 2)]
    return Scores(scores=scores, pairs=tuple(_corrected(pairs)))


def _opened(folder: RunFolder) -> Predictions | str:
    file = predictions_file(folder)
    if file is None:
        return f"{folder.name} has no predictions yet"
    try:
        return load_predictions(file)
    except BadInput as error:
        return str(error)


def _score(folder: RunFolder, found: Predictions | str) -> Score:
    file = predictions_file(folder)
    if isinstance(found, str) or file is None or not len(found):
        return Score(run=folder.name)
    accuracy = 1 - float(found.wrong.mean())
    low, high = wilson(accuracy, len(found))
    return Score(
        run=folder.name,
        predictions=file.name,
        data=found.origin.data,
        part=found.origin.part,
        step=found.origin.step,
        n=len(found),
        accuracy=accuracy,
        low=low,
        high=high,
        loss=float(np.asarray(found.loss, dtype=np.float64).mean()),
    )


def _pair(run: str, found: Predictions | str, other: str, before: Predictions | str) -> Pair:
    if isinstance(found, str) or isinstance(before, str):
        why_not = found if isinstance(found, str) else str(before)
        return Pair(run=run, other=other, why_not=why_not)
    try:
        compared = compare(found, before)
    except BadInput as error:
        return Pair(run=run, other=other, why_not=str(error))
    return Pair(run=run, other=other, test=compared.mcnemar(found))


def _corrected(pairs: Sequence[Pair]) -> Iterable[Pair]:
    """Return `pairs` with their corrected p.

    After Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6 (1979).
    """
    tested = sorted((pair.test.p, at) for at, pair in enumerate(pairs) if pair.test is not None)
    corrected: dict[int, float] = {}
    highest = 0.0
    for rank, (p, at) in enumerate(tested):
        highest = max(highest, min(1.0, p * (len(tested) - rank)))
        corrected[at] = highest
    return [msgspec.structs.replace(pair, p_holm=corrected.get(at)) for at, pair in enumerate(pairs)]


Rows = list[list[str]]


def score_rows(scores: Scores) -> tuple[Rows, frozenset[int]]:
    """Return the scores as rows of a table, heading included, and which of its columns are right-aligned."""
    rows = [["run", "accuracy", "95% CI", "loss", "images", "evaluation", "step", "data"]]
    for one in scores.scores:
        if one.accuracy is None or one.low is None or one.high is None or one.predictions is None:
            rows.append([one.run, *["-"] * (len(rows[0]) - 1)])
            continue
        interval = f"{100 * one.low:.2f}-{one.high:.2%}"
        images = f"{one.n:,} {one.part}"
        evaluation = Path(one.predictions).stem
        loss = f"{one.loss:.4f}"
        rows.append(
            [one.run, f"{one.accuracy:.2%}", interval, loss, images, evaluation, str(one.step), one.data or "-"]
        )
    return rows, frozenset({1, 2, 3, 4, 6})


def pair_rows(scores: Scores) -> tuple[Rows, frozenset[int], list[str]]:
    """Return the pairs as rows of a table, as `score_rows` does, and sentences on those that cannot be compared."""
    rows = [["run A", "run B", "only A correct", "only B correct", "images", "McNemar p", "Holm p"]]
    not_compared = []
    for pair in scores.pairs:
        if pair.test is None:
            not_compared.append(f"{pair.run} and {pair.other}: {pair.why_not}")
            continue
        test = pair.test
        counts = f"{test.fixed:,}", f"{test.broken:,}", f"{test.n:,}"
        rows.append([pair.run, pair.other, *counts, probability(test.p), probability(pair.p_holm)])
    return rows, frozenset({2, 3, 4, 5, 6}), not_compared


def probability(p: float | None) -> str:
    """Return a probability in few characters."""
    if p is None:
        return "-"
    return f"{p:.3f}" if p >= 0.001 else f"{p:.1e}"
