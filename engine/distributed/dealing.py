"""How a batch of all ranks is divided among them; nothing here loads torch."""

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple


class Dealt(NamedTuple):
    """The part of a batch of `total` images that each rank computes: `sizes[rank]` of them, from `starts[rank]` on."""

    total: int
    starts: tuple[int, ...]
    sizes: tuple[int, ...]


def deal(total: int, world: int, least: int = 1) -> Dealt:
    """Return how `total` images in order are dealt to `world` ranks, the first ones get one more where they must.

    A rank gets at least `least` (batch normalisation needs two), or none where there are not enough for all.
    """
    busy = max(1, min(world, total // least))
    share, rest = divmod(total, busy)
    sizes = [share + (rank < rest) if rank < busy else 0 for rank in range(world)]
    return _in_order(total, sizes)


def copied(total: int, world: int) -> Dealt:
    """Return that every one of `world` ranks computes all of a batch that is too small to be divided."""
    return Dealt(total, (0,) * world, (total,) * world)


def _in_order(total: int, sizes: Sequence[int]) -> Dealt:
    return Dealt(total, tuple(accumulate(sizes, initial=0))[:-1], tuple(sizes))
