"""Rows out of numbers that come one by one: those of one step that follow each other are told together."""

from collections.abc import Iterator, Sequence

import numpy as np

from finetui.engine.sources.rows import Floats, Ints, Row, Rows, sorted_order


class RowFormer:
    """Puts numbers together to rows. A row ends where another step comes, or a name that it has already."""

    def __init__(self) -> None:
        self._values: dict[str, float] = {}
        self._step, self._time = 0, 0.0

    def is_ended_by(self, step: int, told: Sequence[tuple[str, float]]) -> bool:
        """Whether the numbers `told` at `step` are of another row."""
        return step != self._step or any(name in self._values for name, _ in told)

    def add(self, step: int, time: float, told: Sequence[tuple[str, float]]) -> None:
        """Add numbers that were told together, by their names."""
        self._step, self._time = step, time
        self._values.update(told)

    def ended(self) -> Iterator[Row]:
        """Yield the row so far, if there is one."""
        if self._values:
            yield Row(self._step, self._time, None, self._values)
            self._values = {}

    def add_all(
        self, names: Sequence[str], name: Ints, step: Ints, time: Floats, value: Floats
    ) -> Iterator[Row | Rows]:
        """Add many numbers, `value[i]` called `names[name[i]]`; yield the rows that have ended by them."""
        goes_on = 0
        while self._values and goes_on < len(step) and step[goes_on] == self._step:
            if names[name[goes_on]] in self._values:
                break
            self._values[names[name[goes_on]]] = float(value[goes_on])
            self._time = float(time[goes_on])
            goes_on += 1
        if goes_on == len(step):
            return
        yield from self.ended()
        name, step, time, value = name[goes_on:], step[goes_on:], time[goes_on:], value[goes_on:]
        begins = _beginnings(name, step)
        starts = np.flatnonzero(begins)
        last = int(starts[-1])
        ends = starts[1:] - 1
        if len(ends):
            row = np.cumsum(begins[:last]) - 1
            none = np.full(len(ends), np.nan)
            yield Rows(names, step[ends], time[ends], none, row, name[:last], value[:last])
        self._step, self._time = int(step[-1]), float(time[-1])
        self._values = {names[key]: one for key, one in zip(name[last:].tolist(), value[last:].tolist(), strict=True)}


def _beginnings(name: Ints, step: Ints) -> "np.typing.NDArray[np.bool_]":
    """Return at which numbers a row begins."""
    begins = np.ones(len(step), bool)
    begins[1:] = step[1:] != step[:-1]
    first_of_step = np.maximum.accumulate(np.where(begins, np.arange(len(step)), 0))
    order = sorted_order(name, int(name.max(initial=0)))
    before = np.full(len(step), -1)  # where the same name came last
    same = name[order[1:]] == name[order[:-1]]
    before[order[1:][same]] = order[:-1][same]
    again = np.flatnonzero(before >= first_of_step)
    start = -1
    for at, last in zip(again.tolist(), before[again].tolist(), strict=True):
        if last >= start:
            begins[at] = True
            start = at
    return begins
