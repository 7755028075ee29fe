"""Datasets that draw random numbers when an item is read, as the usual augmentation does: the same draws again."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

_TRIED = 16  # items, spread evenly
_DRAWS = 4  # of each: of something that happens to one image in ten, 1 in 1 000 sets shows nothing
_GOLDEN = 0x9E3779B97F4A7C15  # spreads seeds that differ by 1 over all bits (Steele et al., "SplitMix", 2014)

Draws = Literal["none", "seeded", "own"]


@contextmanager
def preserved_generators() -> Iterator[None]:
    """Put the global generators of Python, numpy and torch (of the CPU) back to where they were."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # people use it
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the global generators of Python, numpy and torch (of the CPU) for the time being."""
    with preserved_generators():
        mixed = (seed + 1) * _GOLDEN % 2**63
        random.seed(mixed)
        np.random.seed(mixed % 2**32)
        torch.default_generator.manual_seed(mixed)
        yield


def draws_of(read: Callable[[int], npt.NDArray[Any] | None], count: int) -> Draws:
    """Return whether `read(index)`, for an index below `count`, draws random numbers: `none` where it does not.

    `seeded` where the global generators decide, `own` where something else does. What cannot be read is None.
    """
    tried = np.unique(np.linspace(0, count - 1, min(_TRIED, count)).astype(int)).tolist()

    def found(index: int, seed: int) -> bytes:
        with seeded(seed):
            image = read(index)
        return b"" if image is None else image.tobytes()

    differ = [index for index in tried if len({found(index, seed) for seed in range(_DRAWS)}) > 1]
    if not differ:
        return "none"
    return "seeded" if all(found(index, 0) == found(index, 0) for index in differ) else "own"
