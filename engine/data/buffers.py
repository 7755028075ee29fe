"""Memory for batches, used again once nobody has a tensor in it any more."""

import math
import weakref
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

_MOST = 3  # the batch that is used, the one that is made meanwhile, and one that somebody keeps


class Buffers:
    """Up to three pieces of memory for tensors.

    A batch of 64 photographs as floats is more than the C library keeps for the next time (see `keep_freed`): from the
    kernel each time, page by page, it costs as much as computing what is in it.
    """

    def __init__(self) -> None:
        self._kept: list[tuple[Tensor, weakref.ref[Any]]] = []  # the memory, and what lives while it is used

    def empty(self, shape: Sequence[int]) -> Tensor:
        """Return a tensor as `torch.empty` does, float32 `shape` on the CPU."""
        size = math.prod(shape)
        self._kept = [each for each in self._kept if each[1]() is not None or each[0].numel() >= size]
        free = [at for at, (memory, user) in enumerate(self._kept) if user() is None and memory.numel() >= size]
        if not free and len(self._kept) == _MOST:
            return torch.empty(tuple(shape), dtype=torch.float32)
        memory = self._kept.pop(free[0])[0] if free else torch.empty(size, dtype=torch.float32)
        # A tensor from numpy keeps its array while any tensor shares its memory.
        array = memory.numpy()[:size].reshape(shape)
        self._kept.append((memory, weakref.ref(array)))
        return torch.from_numpy(array)
