"""Whether a tensor has changed, without a copy of it."""

from collections.abc import Iterable, Sequence
from functools import lru_cache

import torch
from torch import Tensor

_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_BLOCK = 1 << 16  # elements that are summed together
_BLOCKS = 1 << 6  # of them at a time: 32 MiB as int64


def fingerprint(tensor: Tensor) -> Tensor:
    """Return a number for the bits of `tensor`, int64 `[]` on its device, which is not waited for.

    It is the sum of the elements' bits, read as whole numbers, times odd random weights (modulo 2^64). So a change of
    one element always gives another number, and changes of several do but by a chance that is next to none: a plain sum
    would not see two that cancel, as those of a bias of two classes do. Takes 64 MiB at most.
    """
    tensor = tensor.detach()
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor)
    bits = tensor.contiguous().view(-1).view(_BITS[tensor.element_size()])
    weights = _weights(tensor.device)
    sums = [_weighed(part, weights) for part in torch.split(bits, _BLOCK * _BLOCKS)]
    return _weighed(torch.stack(sums), weights) if len(sums) > 1 else sums[0]


def read(scalars: Sequence[Tensor]) -> list[float]:
    """Return the numbers of `scalars`; those of each device and dtype are read at once."""
    kinds: dict[tuple[torch.device, torch.dtype], list[int]] = {}
    for place, scalar in enumerate(scalars):
        kinds.setdefault((scalar.device, scalar.dtype), []).append(place)
    found: dict[int, float] = {}
    for places in kinds.values():
        values: Iterable[float] = torch.stack([scalars[place] for place in places]).tolist()
        found.update(zip(places, values, strict=True))
    return [found[place] for place in range(len(scalars))]


def _weighed(numbers: Tensor, weights: Tensor) -> Tensor:
    """Return one number for at most `_BLOCK` ** 2 of them."""
    numbers = numbers.to(torch.int64)
    if len(numbers) <= _BLOCK:
        return (numbers * weights[: len(numbers)]).sum()
    blocks = [(block * weights[: len(block)]).sum() for block in torch.split(numbers, _BLOCK)]
    return _weighed(torch.stack(blocks), weights)


@lru_cache(maxsize=16)
def _weights(device: torch.device) -> Tensor:
    own = torch.Generator().manual_seed(0x5EED)  # nobody else's numbers are drawn
    return (torch.randint(-(2**62), 2**62, (_BLOCK,), generator=own, device="cpu") * 2 + 1).to(device)
