"""Evaluations put together into few: of very many in a row those remain that a plot of all of them would show."""

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from finetui.engine.protocol.values import Part
from finetui.engine.sources.rows import Floats, Ints

FIGURES = ("loss", "accuracy")
PARTS: tuple[Part, ...] = ("val", "test")


class Place(NamedTuple):
    """Where in the training a row is; `time` in Unix seconds."""

    step: int
    time: float
    epoch: int


class Evaluation(NamedTuple):
    """The figures of an evaluation; `row` counts the rows of the run."""

    row: int
    place: Place
    part: Part
    figures: Mapping[str, float]


class FewEvaluations:
    """Of each part the first, the last, and those with the least and the greatest of each figure, the first of these.

    Of up to six all may remain.
    """

    def __init__(self) -> None:
        self._first: dict[str, Evaluation] = {}
        self._last: dict[str, Evaluation] = {}
        self._extreme: dict[tuple[str, str, int], Evaluation] = {}

    def add(self, one: Evaluation) -> None:
        """Add the next one."""
        self._first.setdefault(one.part, one)
        self._last[one.part] = one
        for figure, value in one.figures.items():
            for sign in (-1, 1) if math.isfinite(value) else ():
                key = one.part, figure, sign
                known = self._extreme.get(key)
                if known is None or sign * value > sign * known.figures[figure]:
                    self._extreme[key] = one

    def clear(self) -> None:
        """Forget them."""
        self._first.clear()
        self._last.clear()
        self._extreme.clear()

    def taken(self) -> Iterator[Evaluation]:
        """Yield those that remain, in their order, and forget them."""
        kept = {(one.row, one.part): one for of in (self._first, self._last, self._extreme) for one in of.values()}
        self.clear()
        yield from (kept[key] for key in sorted(kept, key=lambda key: (key[0], PARTS.index(key[1]))))


def may_remain(bucket: Ints, part: Ints, figure: Ints, values: Floats) -> "np.typing.NDArray[np.bool_]":
    """Return which of `n` figures are of evaluations that may remain of those of their bucket and part.

    They come in the order of their rows; those of one row and part are of one bucket.
    """
    kept = np.zeros(len(values), bool)
    group = bucket * len(PARTS) + part
    order = np.argsort(group, kind="stable")
    turns = np.flatnonzero(np.diff(group[order])) + 1
    kept[order[np.concatenate([[0], turns])]] = kept[order[np.concatenate([turns, [len(order)]]) - 1]] = True
    finite = np.flatnonzero(np.isfinite(values))
    of_figure = group[finite] * len(FIGURES) + figure[finite]
    for signed in (values[finite], -values[finite]):
        order = np.lexsort((signed, of_figure))
        begins = np.diff(of_figure[order], prepend=-1) != 0
        kept[finite[order[begins]]] = True
    return kept
