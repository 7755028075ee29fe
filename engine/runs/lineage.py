"""Which events of a journal still hold: a run that goes back to a checkpoint undoes what came after it."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence

from finetui.engine.protocol.events import AnyEvent, Rewound


def effective(events: Iterable[AnyEvent]) -> list[AnyEvent]:
    """Return those of a journal's `events` that lead to the last one, in order; `Rewound` events are among them.

    What came before a `Rewound` is what came before the checkpoint that it went back to: also where that checkpoint
    was written on a line that had been undone by then.
    """
    found = list(events)
    before = _predecessors(found)
    line: list[AnyEvent] = []
    index = len(found) - 1
    while index >= 0:
        line.append(found[index])
        index = before[index]
    line.reverse()
    return line


def _predecessors(events: Sequence[AnyEvent]) -> list[int]:
    """Return for each event the index of the one that came before it on its own line; -1 for none."""
    numbers = [event.seq for event in events]
    return [
        bisect_left(numbers, event.at, 0, index) - 1 if isinstance(event, Rewound) else index - 1
        for index, event in enumerate(events)
    ]
