"""Many rows put into buckets at once: what `Bucket.add` does row by row, by columns."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from finetui.engine.sources.bucket import Bucket
from finetui.engine.sources.names import meaning
from finetui.engine.sources.rows import Floats, Ints, Rows

EVALUATED = ("val", "test")
_TRAINED = ("loss", "accuracy", "lr", "grad_norm", "speed")
_FIGURES = (*(("train", figure) for figure in _TRAINED), *((part, name) for part in EVALUATED for name in _TRAINED))
_SLOTS: Mapping[tuple[str, str], int] = {figure: slot for slot, figure in enumerate(_FIGURES)}
_OWN, _EPOCH, _PLACE = -1, -2, -3  # a number of the run's own; an epoch; a step or a time, which say nothing here


class SortedOut(NamedTuple):
    """Numbers of rows by what they are: number `i` of `n` is `values[i]`, of row `row[i]`.

    `key[i]` tells which: up to `len(_TRAINED)` the figures of the training, above these the run's own, by their names.
    `evaluated` are the figures of evaluations, by row and part; `epochs`, `[r]`, NaN where none was told.
    """

    row: Ints
    key: Ints
    values: Floats
    evaluated: dict[int, dict[str, dict[str, float]]]
    epochs: Floats


def sorted_out(rows: Rows) -> SortedOut:
    """Return what the numbers of `rows` are: of two that are the same figure of a row the second is the run's own."""
    meanings = [meaning(name) for name in rows.names]
    kinds = {"epoch": _EPOCH, "step": _PLACE, "time": _PLACE}
    slots = np.array([kinds.get(kind, _SLOTS.get((kind, figure), _OWN)) for kind, figure, _ in meanings], np.int64)
    slot = slots[rows.name]
    values = rows.values * np.array([factor for _, _, factor in meanings])[rows.name]
    accuracies = [_SLOTS[part, "accuracy"] for part in ("train", *EVALUATED)]
    slot[np.isin(slot, accuracies) & (values > 1)] = _OWN
    several = [one for one, count in zip(*np.unique(slots, return_counts=True), strict=True) if one >= 0 and count > 1]
    for one in several:
        same = np.flatnonzero(slot == one)
        slot[same[1:][rows.row[same[1:]] == rows.row[same[:-1]]]] = _OWN
    epochs = rows.epochs.copy()
    epochs[rows.row[slot == _EPOCH]] = values[slot == _EPOCH]
    counted = (slot == _OWN) | (slot >= 0) & (slot < len(_TRAINED))
    key = np.where(slot == _OWN, rows.name + len(_TRAINED), slot)[counted]
    evaluated: dict[int, dict[str, dict[str, float]]] = {}
    which = np.flatnonzero(slot >= len(_TRAINED))
    for row, one, value in zip(rows.row[which].tolist(), slot[which].tolist(), values[which].tolist(), strict=True):
        part, figure = _FIGURES[one]
        evaluated.setdefault(row, {}).setdefault(part, {})[figure] = value
    return SortedOut(rows.row[counted], key, values[counted], evaluated, epochs)


class Summed(NamedTuple):
    """What a bucket gets of some rows: how many, the last of them, and [least, greatest, last, sum, count] of each."""

    rows: int
    last: int
    figures: dict[str, list[float]]
    others: dict[str, list[float]]


def buckets_of(told: SortedOut, filled: int, size: int) -> Ints:
    """Return the bucket of each row: it ends with `size` rows (bucket 0 has `filled` of them) or an evaluation."""
    counts = np.zeros(len(told.epochs), np.int64)
    counts[told.row] = 1
    found = np.zeros(len(counts), np.int64)
    start = bucket = 0
    for stop in [*(row + 1 for row in sorted(told.evaluated)), len(counts)]:
        if stop > start:
            here = bucket + np.maximum(np.cumsum(counts[start:stop]) + filled - 1, 0) // size
            found[start:stop] = here
            start, bucket, filled = stop, int(here[-1]) + 1, 0
    return found


def epochs_of(told: SortedOut, before: int) -> Ints:
    """Return the epoch of each row by what was told, that of the row before where nothing was: `before` the first."""
    good = np.isfinite(told.epochs)
    last = np.maximum.accumulate(np.where(good, np.arange(len(good)), -1))
    epochs = np.clip(np.where(good, told.epochs, 0), -(2.0**62), 2.0**62).astype(np.int64)
    return np.where(last >= 0, epochs[last], before)


def summed(told: SortedOut, names: Sequence[str], buckets: Ints, first: Bucket) -> Iterator[Summed]:
    """Yield what each bucket gets; `buckets`, `[r]`, tells that of each row; `first` is bucket 0, as it is so far.

    What is no finite number counts only where it is the first of its bucket.
    """
    if not len(told.row):
        return
    of, keys = buckets[told.row], len(_TRAINED) + len(names)
    known = np.array([*(first.knows(name) for name in _TRAINED), *(first.knows("", name) for name in names)])
    group = of * keys + told.key
    order = np.argsort(group, kind="stable")
    group, values = group[order], told.values[order]
    begins = np.ones(len(group), bool)
    begins[1:] = group[1:] != group[:-1]
    has = np.isfinite(values) | begins & ~((group < keys) & known[group % keys])
    group, values = group[has], values[has]
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    ends = np.append(starts[1:], len(group))
    with np.errstate(invalid="ignore"):
        columns = (
            np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts), values[ends - 1],
            np.bincount(np.repeat(np.arange(len(starts)), ends - starts), values), ends - starts,
        )  # fmt: skip
    figures = list(zip(*(column.tolist() for column in columns), strict=True))
    places, numbers = np.divmod(group[starts], keys)
    rows = told.row[np.flatnonzero(np.diff(told.row, prepend=-1))]
    there, first_rows, counts = np.unique(buckets[rows], return_index=True, return_counts=True)
    cuts = [*np.searchsorted(places, there).tolist(), len(places)]
    key, lasts = numbers.tolist(), rows[first_rows + counts - 1].tolist()
    for number, (count, last) in enumerate(zip(counts.tolist(), lasts, strict=True)):
        mine = range(cuts[number], cuts[number + 1])
        yield Summed(
            count, last,
            {_TRAINED[key[at]]: list(figures[at]) for at in mine if key[at] < len(_TRAINED)},
            {names[key[at] - len(_TRAINED)]: list(figures[at]) for at in mine if key[at] >= len(_TRAINED)},
        )  # fmt: skip
