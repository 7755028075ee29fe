"""Evaluations that all ranks share: every batch is computed by one of them, as a single device computes it."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from finetui.engine.data import Split
from finetui.engine.distributed.averaging import averaged_buffers
from finetui.engine.distributed.ranks import Ranks
from finetui.engine.inspection.evaluation import Report, ScoredBatch, Scores, network_scores

_NONE = torch.empty(0, dtype=torch.int64)


class SharedScores:
    """Computes what `network_scores` does of `model` on `data`: on rank 0 all batches, in their order.

    Whole batches go from rank to rank, and none is padded, so that each is computed of the same images as on a single
    device, whose last digits depend on that. On the other ranks all batches are empty. `stopped` answers the same on
    all; where it is True the batches end with an empty one, and `cut_short` says so.
    """

    def __init__(self, ranks: Ranks, model: nn.Module, data: Split, stopped: Callable[[], bool]) -> None:
        self.cut_short = False
        self._ranks = ranks
        self._model = model
        self._data = data
        self._stopped = stopped

    def __call__(self, order: Tensor, batch_size: int) -> Iterator[ScoredBatch]:
        """Yield what the network says of the images `order` (int64 `[N]`) of the data, in batches."""
        world, device = self._ranks.world, next(self._model.parameters()).device
        batches = torch.split(order, batch_size)
        own = batches[self._ranks.rank :: world]
        computed = self._own(torch.cat(own) if own else order[:0], batch_size)
        for first in range(0, len(batches), world):
            if self._stopped():
                self.cut_short = True
                yield [], _NONE, _NONE.float
                return
            found = self._ranks.gather_first(next(computed, None))
            for number in range(min(world, len(batches) - first)):
                indices, labels, logits = (found and found[number]) or ([], _NONE, _NONE)
                yield indices, labels.to(device), partial(logits.to, device)

    def _own(self, order: Tensor, batch_size: int) -> Iterator[Any]:
        """Yield indices, labels and logits of this rank's batches, on the CPU."""
        for indices, labels, compute in network_scores(self._model, self._data, order, batch_size):
            yield indices, labels.cpu(), compute().cpu() if len(labels) else _NONE


def shared_report(
    ranks: Ranks,
    model: nn.Module,
    data: Split,
    batch_size: int,
    stopped: Callable[[], bool],
    evaluate: Callable[[Scores, Callable[[], bool]], Report | None],
) -> Report | None:
    """Return what `evaluate(scores, stopped)` returns on rank 0, on all; None where `stopped` answered True.

    It is called on rank 0, with what all of them compute. Running statistics are the means of all ranks' meanwhile.
    Raises `BadInput` as `evaluate` does.
    """
    scores = SharedScores(ranks, model, data, stopped)
    with averaged_buffers(ranks, model):
        if not ranks.is_first:
            model.eval()
            order = torch.nonzero(data.labels >= 0)[:, 0]
            with torch.inference_mode():
                for _ in scores(order, batch_size):
                    pass
        return ranks.share(lambda: evaluate(scores, lambda: scores.cut_short))
