"""What the ranks of a run tell of themselves: the processes that train it together, one a device."""

import statistics
from collections.abc import Sequence

import msgspec

MOST_ROWS = 64  # that an event has: of more ranks, the first one and the slowest
_MARKED = 1.2  # times as long as the others at work: who is slower than that keeps them waiting


class RankRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The rank number `rank`, on the machine `node` and its `device`, when it last told of itself.

    That was at `heard` (Unix seconds, by rank 0's clock), after `step` steps of the run. Since the point before, it saw
    `samples_per_second` images, and spent these shares (0 to 1) of the time `waiting` for images and copying them,
    `computing`, and `communicating`: exchanging gradients and messages, and waiting for the other ranks. `memory` is
    what is taken of the device's memory (on a CPU what the process has taken), in bytes, and `memory_total` what there
    is; None: not known.
    """

    rank: int
    node: str = ""
    device: str = ""
    step: int = 0
    heard: float = 0.0
    samples_per_second: float = 0.0
    waiting: float = 0.0
    computing: float = 0.0
    communicating: float = 0.0
    memory: int | None = None
    memory_total: int | None = None

    @property
    def at_work(self) -> float:
        """The share of the time that it worked: who does so longest in a step is waited for by all others."""
        return self.waiting + self.computing


def slowest(rows: Sequence[RankRow]) -> RankRow | None:
    """Return the rank that the others wait for; None where all are about as fast.

    All take the same steps in the same time, so a slow one shows by working, reading images included, while others
    wait for it.
    """
    if len(rows) < 2:
        return None
    found = max(rows, key=lambda row: row.at_work)
    others = statistics.median(row.at_work for row in rows if row is not found)
    return found if found.at_work > _MARKED * others + 0.02 else None


def worth_a_row(rows: Sequence[RankRow]) -> tuple[RankRow, ...]:
    """Return the rows that an event has, by rank: all, or the first and the slowest."""
    if len(rows) <= MOST_ROWS:
        return tuple(rows)
    slow = sorted(rows[1:], key=lambda row: -row.at_work)[: MOST_ROWS - 1]
    return tuple(sorted((rows[0], *slow), key=lambda row: row.rank))
