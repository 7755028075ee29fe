"""Batch normalisation by the statistics of all ranks' images, on any device; torch's own is for GPUs alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

_apart = False  # while every rank has all images of a batch


@contextmanager
def apart(when: bool) -> Iterator[None]:
    """Let each rank use the statistics of its own images for a while, if `when` is True."""
    global _apart
    before, _apart = _apart, when
    try:
        yield
    finally:
        _apart = before


class _Sum(torch.autograd.Function):
    """The sum over all ranks; its gradient is the sum of theirs."""

    @staticmethod
    def forward(_context: Any, own: Tensor) -> Tensor:
        total = own.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(_context: Any, *gradients: Any) -> Any:
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total


class _Synced(_BatchNorm):
    """Is mixed into the class of a layer, which keeps its name, its weights and its place."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # torch's name
        """Return what the layer makes of `input`, `[B, C, ...]`; a rank may have an empty batch.

        In training mean and biased variance are those of all ranks' images, the running variance is the unbiased one,
        as in torch.
        """
        if not self.training or _apart:
            return super().forward(input)
        self._check_input_dim(input)  # type: ignore[no-untyped-call]
        others = [dim for dim in range(input.ndim) if dim != 1]
        shape = [1, -1, *([1] * (input.ndim - 2))]
        values = input.float()
        own = values.new_tensor([input.numel() / input.shape[1]])
        sums = _Sum.apply(torch.cat([values.sum(others), own]))
        count, mean = sums[-1], sums[:-1] / sums[-1]
        centred = values - mean.view(shape)
        # In two passes: the mean square minus the squared mean would lose digits.
        variance = _Sum.apply(centred.square().sum(others)) / count
        self._follow(mean.detach(), variance.detach() * (count / (count - 1)).detach())
        result = centred * torch.rsqrt(variance + self.eps).view(shape)
        if self.affine:
            result = result * self.weight.view(shape) + self.bias.view(shape)
        found: Tensor = result.to(input.dtype)
        return found

    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        """Take mean and variance into the running statistics, where there are some."""
        if not self.track_running_stats or self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None, "it is there where running statistics are"
        self.num_batches_tracked.add_(1)
        share = 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        self.running_var.lerp_(variance.to(self.running_var.dtype), share)


def synchronise(model: nn.Module) -> None:
    """Let every batch normalisation of `model` that trains use the statistics of all ranks' images from here on.

    Its layers stay the same objects, so that whoever knows them goes on knowing them.
    """
    for module in model.modules():
        if isinstance(module, _BatchNorm) and not isinstance(module, _Synced):
            kind = type(module)
            module.__class__ = type(kind.__name__, (_Synced, kind), {"__module__": kind.__module__})
