"""Gradients and running statistics of all ranks, as one."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from finetui.engine.distributed.ranks import Ranks


def average_gradients(ranks: Ranks, parameters: Sequence[nn.Parameter]) -> None:
    """Give each of `parameters` the mean of all ranks' gradients; a rank without one counts as zero.

    One that no rank has a gradient of keeps none. The ranks' order of summing depends on nothing but the parameters.
    """
    has = torch.tensor([parameter.grad is not None for parameter in parameters], dtype=torch.int64)
    used = [parameter for parameter, some in zip(parameters, ranks.all_reduce(has).tolist(), strict=True) if some]
    if not used:
        return
    own = [p.grad if p.grad is not None else torch.zeros_like(p) for p in used]
    flat = torch.cat([gradient.reshape(-1).float() for gradient in own]) / ranks.world
    ranks.all_reduce(flat)
    for parameter, mean in zip(used, torch.split(flat, [p.numel() for p in used]), strict=True):
        parameter.grad = torch.empty_like(parameter).copy_(mean.view(parameter.shape))


@contextmanager
def averaged_buffers(ranks: Ranks, model: nn.Module) -> Iterator[None]:
    """Let `model` have the means of all ranks' buffers (running statistics) for a while, and then its own again.

    So an evaluation, whenever it comes, changes nothing of the training. What is the same on all ranks stays the same
    bit for bit.
    """
    buffers = [buffer for buffer in model.buffers() if buffer.is_floating_point() and buffer.numel()]
    if ranks.world == 1 or not buffers:
        yield
        return
    own = [buffer.clone() for buffer in buffers]
    _average(ranks, buffers)
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, kept in zip(buffers, own, strict=True):
                buffer.copy_(kept)


@torch.no_grad()
def _average(ranks: Ranks, buffers: Sequence[Tensor]) -> None:
    flat = torch.cat([buffer.reshape(-1).double().cpu() for buffer in buffers])
    # Of N equal numbers the mean may be another one.
    extremes = torch.cat([flat, -flat])
    same = torch.eq(*ranks.largest(extremes).mul_(torch.tensor([1.0, -1.0]).repeat_interleave(len(flat))).chunk(2))
    mean = torch.where(same, flat, ranks.all_reduce(flat.clone()) / ranks.world)
    for buffer, values in zip(buffers, torch.split(mean, [buffer.numel() for buffer in buffers]), strict=True):
        buffer.copy_(values.view(buffer.shape))
