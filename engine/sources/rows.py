"""Rows of numbers: one by itself, and many as columns, which a long file tells without an object for each number."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def sorted_order(keys: Ints, most: int) -> Ints:
    """Return the stable order of `keys`, from 0 to `most`: few different ones are sorted by their bytes, in no time."""
    return np.argsort(keys.astype(np.uint16) if most < 1 << 16 else keys, kind="stable")


class Row(NamedTuple):
    """The numbers that were told together at `step`; `time` in Unix seconds (0: not told), `epoch` as it was told."""

    step: int
    time: float
    epoch: float | None
    values: Mapping[str, float]


class Rows(NamedTuple):
    """`r` rows with `n` numbers in all.

    `steps` int64, `times` (Unix seconds, 0: not told) and `epochs` (NaN: not told) float64, `[r]`, are those of the
    rows. Number `i` of `n` is `values[i]`, float64, called `names[name[i]]`, in row `row[i]`: int64 `[n]`, both. The
    numbers are in the order of their rows; no name comes twice in one, and no row is without a number.
    """

    names: Sequence[str]
    steps: Ints
    times: Floats
    epochs: Floats
    row: Ints
    name: Ints
    values: Floats

    def one_by_one(self) -> Iterator[Row]:
        """Yield each row by itself."""
        epochs = [None if epoch != epoch else epoch for epoch in self.epochs.tolist()]
        ends = np.searchsorted(self.row, np.arange(len(self.steps)), side="right").tolist()
        name, values, start = self.name.tolist(), self.values.tolist(), 0
        for step, time, epoch, end in zip(self.steps.tolist(), self.times.tolist(), epochs, ends, strict=True):
            told = {self.names[name[at]]: values[at] for at in range(start, end)}
            yield Row(step, time, epoch, told)
            start = end

    def part(self, start: int, stop: int) -> "Rows":
        """Return the rows from `start` to before `stop`."""
        first, last = np.searchsorted(self.row, [start, stop]).tolist()
        return Rows(
            self.names, self.steps[start:stop], self.times[start:stop], self.epochs[start:stop],
            self.row[first:last] - start, self.name[first:last], self.values[first:last],
        )  # fmt: skip


def joined(parts: Sequence[Rows], keys: Sequence[Floats]) -> Rows:
    """Return the rows of all `parts` in the order of `keys`, one array `[r]` for each of them; equal ones stay so."""
    if len(parts) == 1:
        return parts[0]
    numbers: dict[str, int] = {}
    name = [
        np.array([numbers.setdefault(one, len(numbers)) for one in part.names], np.int64)[part.name] for part in parts
    ]
    order = np.argsort(np.concatenate(keys), kind="stable")
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    offsets = np.cumsum([0, *(len(part.steps) for part in parts)])
    row = place[np.concatenate([part.row + offset for part, offset in zip(parts, offsets[:-1], strict=True)])]
    sort = np.argsort(row, kind="stable")
    return Rows(
        list(numbers),
        np.concatenate([part.steps for part in parts])[order],
        np.concatenate([part.times for part in parts])[order],
        np.concatenate([part.epochs for part in parts])[order],
        row[sort],
        np.concatenate(name)[sort],
        np.concatenate([part.values for part in parts])[sort],
    )
