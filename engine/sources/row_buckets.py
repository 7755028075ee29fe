"""Many rows put into buckets at once: what `Bucket.add` does row by row, by columns."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from finetui.engine.protocol.values import Part
from finetui.engine.sources.bucket import Bucket
from finetui.engine.sources.few_evaluations import FIGURES, PARTS, may_remain
from finetui.engine.sources.names import meaning
from finetui.engine.sources.rows import Floats, Ints, Rows, sorted_order

_TRAINED = ("loss", "accuracy", "lr", "grad_norm", "speed")
_FIGURES = (*(("train", figure) for figure in _TRAINED), *((part, name) for part in PARTS for name in FIGURES))
_SLOTS: Mapping[tuple[str, str], int] = {figure: slot for slot, figure in enumerate(_FIGURES)}
_MANY = 100  # figures of evaluations, of which those that remain are found together
_OWN, _EPOCH, _PLACE = -1, -2, -3  # a number of the run's own; an epoch; a step or a time, which say nothing here


class SortedOut(NamedTuple):
    """Numbers of rows by what they are: number `i` of `n` is `values[i]`, of row `row[i]`.

    `key[i]` tells which: up to `len(_TRAINED)` the figures of the training, above these the run's own, by their names.
    `evaluated` are the figures of evaluations likewise, by `_FIGURES`; `epochs`, `[r]`, NaN where none was told.
    """

    row: Ints
    key: Ints
    values: Floats
    evaluated: tuple[Ints, Ints, Floats]
    epochs: Floats


def sorted_out(rows: Rows) -> SortedOut:
    """Return what the numbers of `rows` are: of two that are the same figure of a row the second is the run's own."""
    meanings = [meaning(name) for name in rows.names]
    kinds = {"epoch": _EPOCH, "step": _PLACE, "time": _PLACE}
    slots = np.array([kinds.get(kind, _SLOTS.get((kind, figure), _OWN)) for kind, figure, _ in meanings], np.int64)
    slot = slots[rows.name]
    values = rows.values * np.array([factor for _, _, factor in meanings])[rows.name]
    accuracies = [_SLOTS[part, "accuracy"] for part in ("train", *PARTS)]
    slot[np.isin(slot, accuracies) & (values > 1)] = _OWN
    several = [one for one, count in zip(*np.unique(slots, return_counts=True), strict=True) if one >= 0 and count > 1]
    for one in several:
        same = np.flatnonzero(slot == one)
        slot[same[1:][rows.row[same[1:]] == rows.row[same[:-1]]]] = _OWN
    epochs = rows.epochs.copy()
    epochs[rows.row[slot == _EPOCH]] = values[slot == _EPOCH]
    counted = (slot == _OWN) | (slot >= 0) & (slot < len(_TRAINED))
    key = np.where(slot == _OWN, rows.name + len(_TRAINED), slot)[counted]
    which = np.flatnonzero(slot >= len(_TRAINED))
    evaluated = rows.row[which], slot[which], values[which]
    return SortedOut(rows.row[counted], key, values[counted], evaluated, epochs)


def evaluations(told: SortedOut, buckets: Ints) -> dict[int, dict[Part, dict[str, float]]]:
    """Return the figures of evaluations by row and part, but for those of which a bucket has too many."""
    row, slot, values = told.evaluated
    part, figure = np.divmod(slot - len(_TRAINED), len(FIGURES))
    if len(row) > _MANY:
        pair = row * len(PARTS) + part
        order = np.argsort(pair, kind="stable")
        row, part, figure, values, pair = row[order], part[order], figure[order], values[order], pair[order]
        kept = np.isin(pair, pair[may_remain(buckets[row], part, figure, values)])
        row, part, figure, values = row[kept], part[kept], figure[kept], values[kept]
    found: dict[int, dict[Part, dict[str, float]]] = {}
    for at, of, which, value in zip(row.tolist(), part.tolist(), figure.tolist(), values.tolist(), strict=True):
        found.setdefault(at, {}).setdefault(PARTS[of], {})[FIGURES[which]] = value
    return found


class Summed(NamedTuple):
    """What a bucket gets of some rows: how many, the last of them, and [least, greatest, last, sum, count] of each."""

    rows: int
    last: int
    figures: dict[str, list[float]]
    others: dict[str, list[float]]


class Buckets(NamedTuple):
    """The bucket of each of `r` rows, int64 `[r]`, ascending, and which rows count: those with numbers."""

    of: Ints
    counts: "np.typing.NDArray[np.bool_]"


def buckets_of(told: SortedOut, filled: int, size: int) -> Buckets:
    """Return the buckets of rows: each ends with `size` of those that count; bucket 0 has `filled` of them already."""
    counts = np.zeros(len(told.epochs), bool)
    counts[told.row] = True
    counts[told.evaluated[0]] = True
    return Buckets(np.maximum(np.cumsum(counts) + filled - 1, 0) // size, counts)


def epochs_of(told: SortedOut, before: int) -> Ints:
    """Return the epoch of each row by what was told, that of the row before where nothing was: `before` the first."""
    good = np.isfinite(told.epochs)
    last = np.maximum.accumulate(np.where(good, np.arange(len(good)), -1))
    epochs = np.clip(np.where(good, told.epochs, 0), -(2.0**62), 2.0**62).astype(np.int64)
    return np.where(last >= 0, epochs[last], before)


def summed(told: SortedOut, names: Sequence[str], buckets: Ints, first: Bucket) -> Iterator[tuple[int, Summed]]:
    """Yield what each bucket gets that gets any; `buckets`, `[r]`, is that of each row; `first` is 0, as it is so far.

    What is no finite number counts only where it is the first of its bucket.
    """
    if not len(told.row):
        return
    of, keys = buckets[told.row], len(_TRAINED) + len(names)
    known = np.array([*(first.knows(name) for name in _TRAINED), *(first.knows("", name) for name in names)])
    group = of * keys + told.key
    order = sorted_order(group, int(group.max()))
    group, values = group[order], told.values[order]
    begins = np.ones(len(group), bool)
    begins[1:] = group[1:] != group[:-1]
    has = np.isfinite(values) | begins & ~((group < keys) & known[group % keys])
    group, values = group[has], values[has]
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    ends = np.append(starts, len(group))[1:]  # there may be none
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
    for number, (bucket, count, last) in enumerate(zip(there.tolist(), counts.tolist(), lasts, strict=True)):
        mine = range(cuts[number], cuts[number + 1])
        yield bucket, Summed(
            count, last,
            {_TRAINED[key[at]]: list(figures[at]) for at in mine if key[at] < len(_TRAINED)},
            {names[key[at] - len(_TRAINED)]: list(figures[at]) for at in mine if key[at] >= len(_TRAINED)},
        )  # fmt: skip
