"""What several files tell side by side, in the order of time."""

import heapq
from collections.abc import Iterator, Sequence

import numpy as np

from finetui.engine.sources.rows import Floats, Row, Rows, joined
from finetui.engine.sources.source import Item


class _Head:
    """What comes next of `items`: `item` (None: nothing), of which `latest` is the latest time so far.

    A row of an earlier time than one before it is told with that one.
    """

    def __init__(self, items: Iterator[Item]) -> None:
        self._items = items
        self.latest = float("-inf")
        self.error: Exception | None = None
        self._keys: Floats = np.empty(0)
        self.forward()

    def forward(self) -> None:
        """Go on to the next item. Where there is none because reading fails, `error` says why."""
        try:
            self.item = next(self._items, None)
        except Exception as error:  # noqa: BLE001  # it is raised once all others have told what they have
            self.item, self.error = None, error
        if isinstance(self.item, Rows):
            self._keys = np.fmax(np.fmax.accumulate(self.item.times), self.latest)
            self.latest = float(self._keys[-1])
        elif isinstance(self.item, Row):
            self.latest = max(self.latest, self.item.time)

    def take(self, before: float, *, with_it: bool = True) -> tuple[Rows, Floats] | None:
        """Take the rows before that time off what comes next, `with_it` those of the time too; None: there is none."""
        assert isinstance(self.item, Rows), "a row by itself is taken whole"
        count = int(np.searchsorted(self._keys, before, side="right" if with_it else "left"))
        if not count:
            return None
        taken = self.item.part(0, count), self._keys[:count]
        self.item, self._keys = self.item.part(count, len(self._keys)), self._keys[count:]
        return taken


def in_order_of_time(sources: Sequence[Iterator[Item]]) -> Iterator[Item]:
    """Yield what all `sources` tell, always from the one that is at the earliest time: what has none comes at once.

    What one of them raises is raised in the end.
    """
    if len(sources) == 1:
        yield from sources[0]
        return
    heads = [_Head(source) for source in sources]
    waiting = [(head.latest, number) for number, head in enumerate(heads) if head.item is not None]
    heapq.heapify(waiting)
    many = {number for number, head in enumerate(heads) if isinstance(head.item, Rows)}
    while waiting:
        latest, first = heapq.heappop(waiting)
        head, item = heads[first], heads[first].item
        taken = [heads[number].take(latest, with_it=number <= first) for number in sorted(many)]
        parts = [part for part in taken if part is not None]
        if parts:
            yield joined([rows for rows, _ in parts], [keys for _, keys in parts])
        if item is not None and not isinstance(item, Rows):
            yield item
        many.discard(first)
        head.forward()
        if head.item is not None:
            heapq.heappush(waiting, (head.latest, first))
            if isinstance(head.item, Rows):
                many.add(first)
    for head in heads:
        if head.error is not None:
            raise head.error
