"""The files that `--log csv` of finetui's own writes, as the one run that they are of."""

import csv
import heapq
import math
from collections.abc import Collection, Iterator
from itertools import chain
from pathlib import Path

from finetui.engine.sources.rows import Row
from finetui.engine.sources.source import Anew, Ended, Hparams, Item
from finetui.engine.sources.table import CsvRun

_TRAIN, _SCORES, _SETTINGS, _CHANGES = "train.csv", "evaluations.csv", "settings.csv", "changes.csv"
_NO_FIGURES = ("step_in_epoch", "images", "figure", "best")  # what they say is known otherwise


def is_log(folder: Path, names: Collection[str]) -> bool:
    """Whether `folder`, in which there are these `names`, is one that finetui has logged a run into."""
    files = {_TRAIN, _SCORES, _SETTINGS, _CHANGES}
    return files <= set(names) and all((folder / name).is_file() for name in files)


class CsvLogRun:
    """The run whose logs lie in the folder `path`."""

    kind = "CSV"

    def __init__(self, path: Path) -> None:
        self._path = path
        self._begin()

    def _begin(self) -> None:
        self._tables = (CsvRun(self._path / _TRAIN), CsvRun(self._path / _SCORES))
        self._told_settings = False

    def read(self) -> Iterator[Item]:
        """Yield what is new, in the order in which it was written. Raises OSError."""
        found = [table.read() for table in self._tables]
        first = [next(items, None) for items in found]
        for item in first:
            if isinstance(item, Anew):  # finetui went back: all of its files are written anew
                self._begin()
                yield item
                found = [table.read() for table in self._tables]
                first = [next(items, None) for items in found]
                break
        if not self._told_settings:
            yield from self._settings()
        lists = [_rows(one, items) for one, items in zip(first, found, strict=True)]
        yield from heapq.merge(*lists, key=lambda item: item.time if isinstance(item, Row) else math.inf)
        if self._has_finished():
            yield Ended()

    def _settings(self) -> Iterator[Hparams]:
        with (self._path / _SETTINGS).open(encoding="utf-8", newline="") as file:
            rows = [row for row in csv.reader(file) if len(row) == 2]
        self._told_settings = True
        yield Hparams({name: _plain(value) for name, value in rows[1:]})

    def _has_finished(self) -> bool:
        with (self._path / _CHANGES).open(encoding="utf-8", newline="") as file:
            last = [row[-1] for row in csv.reader(file) if row][-1:]
        return last == ["finished"]

    def changed(self) -> float:
        """Return when one of the files last changed, in Unix seconds."""
        return max(table.changed() for table in self._tables)

    def unread(self) -> int:
        """Return how many bytes are still to be read."""
        return sum(table.unread() for table in self._tables)


def _rows(first: Item | None, items: Iterator[Item]) -> Iterator[Item]:
    """Yield `first` and `items`, without what is no figure of the training."""
    for item in chain(() if first is None else (first,), items):
        if isinstance(item, Row):
            kept = {name: value for name, value in item.values.items() if name.rpartition("/")[2] not in _NO_FIGURES}
            yield item._replace(values=kept)
        else:
            yield item


def _plain(text: str) -> str | int | float | bool:
    """Return the setting that was written as `text`."""
    if text in ("True", "False"):
        return text == "True"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
