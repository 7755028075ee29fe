"""Whether all ranks have the same parameters: a number for each tensor, exact in any order of addition."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_DIGITS = 6  # bytes of a digest: a whole number that float64 holds as well


def checksums(tensors: Mapping[str, Tensor]) -> list[int]:
    """Return for each of `tensors` the sum of its elements' bits, read as whole numbers (int64, modulo 2^64).

    It is computed on the tensors' device, and waited for once. What differs in one bit has another sum.
    """
    sums = [_as_numbers(tensor).sum(dtype=torch.int64) for tensor in tensors.values()]
    return torch.stack(sums).tolist() if sums else []


def _as_numbers(tensor: Tensor) -> Tensor:
    tensor = tensor.detach()
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor)
    return tensor.contiguous().view(_BITS[tensor.element_size()])


def combined(sums: Sequence[int]) -> int:
    """Return one number from 1 to 2^48 for all of `sums`: the same on all ranks where these are."""
    digest = hashlib.sha256(repr(list(sums)).encode()).digest()
    return int.from_bytes(digest[:_DIGITS], "big") + 1


def differing(names: Sequence[str], of_ranks: Sequence[Sequence[int]]) -> dict[str, list[int]]:
    """Return the tensors that are not the same on all ranks, each with the ranks that differ from most of them.

    `of_ranks` are the checksums of each rank. Of two ranks, and of as many on both sides, the later ones differ.
    """
    found = {}
    for name, *sums in zip(names, *of_ranks, strict=True):
        most, count = Counter(sums).most_common(1)[0]  # the first of them in a tie
        if count < len(sums):
            found[name] = [rank for rank, value in enumerate(sums) if value != most]
    return found
