"""A training step that is computed in parts: by several ranks, or one part after the other on one device."""

import math
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from finetui.engine.data import Split
from finetui.engine.distributed.averaging import average_gradients
from finetui.engine.distributed.ranks import Ranks
from finetui.engine.distributed.synced_norm import apart
from finetui.engine.errors import BadInput
from finetui.engine.models.device import preserved_rng
from finetui.engine.protocol.config import TrainingConfig
from finetui.engine.training.dealt_batches import DealtBatches
from finetui.engine.training.forward import Forward
from finetui.engine.training.freezing import Freezer

_FEW = 2  # images that a network is tried with: batch normalisation needs two


class DividedStep:
    """Computes loss and gradients of a batch that is dealt to `ranks`, in `accumulate` parts each.

    The loss of a batch is the sum over all its images, on all ranks and in all parts, by the sum of their weights: so
    it does not matter how many of them a rank or a part has. `least` is the smallest part that can be computed.

    Gradients are averaged by DistributedDataParallel, which knows only what trained when it was made, so it is made
    anew where layers were frozen or thawed. A batch of which a rank has too few images is computed without it.
    """

    def __init__(
        self,
        forward: Forward,
        parameters: Collection[nn.Parameter],
        dealt: DealtBatches,
        ranks: Ranks,
        accumulate: int,
        least: int,
    ) -> None:
        self.dealt = dealt
        self._forward = forward
        self._parameters = tuple(parameters)
        self._ranks = ranks
        self._accumulate = accumulate
        self._least = least
        self.parallel: DistributedDataParallel | None = None
        self._made_for: tuple[frozenset[str], frozenset[str], bool] | None = None

    def compute(self, inputs: Any, labels: Tensor, freezer: Freezer) -> tuple[Tensor, Tensor]:
        """Leave the gradients of the batch dealt last in the parameters; `inputs` and `labels` are this rank's.

        Return this rank's share of the loss (a detached scalar) and its logits (detached). The shares of all ranks are
        added up when a point is due, as a device is waited for then: a message more in each step would be felt.
        """
        with apart(self.dealt.copied):
            return self._compute(inputs, labels, freezer)

    def _compute(self, inputs: Any, labels: Tensor, freezer: Freezer) -> tuple[Tensor, Tensor]:
        network = self._forward.network(freezer)
        parallel = None
        if self._ranks.world > 1 and min(self.dealt.now.sizes) >= self._least:
            parallel = self._wrapped(network, inputs, labels, freezer)
        if parallel is not None:
            return self._backward(parallel, inputs, labels, parallel.no_sync)
        found = self._backward(network, inputs, labels, nullcontext)
        if self._ranks.world > 1:
            average_gradients(self._ranks, [parameter for parameter in self._parameters if parameter.requires_grad])
        return found

    def alone(self, model: nn.Module, parameters: Sequence[nn.Parameter], inputs: Any, labels: Tensor) -> float:
        """Do the same with a copy of the model and its `parameters`; return the loss of the whole batch."""
        with apart(self.dealt.copied):
            share, _ = self._backward(model, inputs, labels, nullcontext)
        average_gradients(self._ranks, parameters)
        return math.fsum(loss for (loss,) in self._ranks.begin_gather((share.item(),))())

    def _backward(
        self, network: Callable[[Tensor], Any], inputs: Any, labels: Tensor, unsynced: Callable[[], Any]
    ) -> tuple[Tensor, Tensor]:
        sizes, weight = self.dealt.now.sizes, self.dealt.weight
        smallest = min(size for size in sizes if size)
        count = max(1, min(self._accumulate, smallest // self._least))
        enough = len(labels) >= self._least
        parts = list(zip(inputs.tensor_split(count), labels.tensor_split(count), strict=True)) if enough else []
        share, logits = torch.zeros((), device=labels.device), []
        for number, (images, its_labels) in enumerate(parts, start=1):
            with nullcontext() if number == len(parts) else unsynced():
                loss, found = self._forward.summed(network, images, its_labels)
                share = share + loss.detach() / weight
                logits.append(found)
                (loss * (self._ranks.world / weight)).backward()  # type: ignore[no-untyped-call]
        return share, torch.cat(logits) if logits else share.new_empty(0, 1)

    def _wrapped(
        self, network: nn.Module, inputs: Any, labels: Tensor, freezer: Freezer
    ) -> DistributedDataParallel | None:
        """Return what averages gradients for what trains now; None where nothing has any."""
        key = freezer.frozen, freezer.held, freezer.norm_trains
        if key != self._made_for:
            self._unwrap()
            with preserved_rng(inputs.device), _kept_buffers(network):
                self.parallel = self._wrap(network, inputs[:_FEW], labels[:_FEW])
            for parameter in self._parameters:
                parameter.grad = None
            self._made_for = key
        return self.parallel

    def _wrap(self, network: nn.Module, inputs: Any, labels: Tensor) -> DistributedDataParallel | None:
        """Wrap `network` without what takes no part in it, by what a step of a few images reaches."""
        self._forward.summed(network, inputs, labels)[0].backward()  # type: ignore[no-untyped-call]
        trains = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
        reached = self._ranks.gather([parameter.grad is not None for _, parameter in trains])
        unused = [name for (name, _), *some in zip(trains, *reached, strict=True) if not any(some)]
        if len(unused) == len(trains):
            return None
        # A parameter of the outermost module has two names there.
        ignored = [*unused, *(f".{name}" for name in unused if "." not in name)]
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(network, ignored)  # type: ignore[no-untyped-call]
        for _, parameter in trains:
            parameter.grad = None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of a name that the oldest torch in use does not know
            parallel = DistributedDataParallel(
                network, broadcast_buffers=False, init_sync=False, gradient_as_bucket_view=True
            )
        # With its second step it orders gradients as they came in the first: so that a run that goes on adds them up in
        # the same order as one without a break, the first is none of the training.
        self._forward.summed(parallel, inputs, labels)[0].backward()  # type: ignore[no-untyped-call]
        return parallel

    def _unwrap(self) -> None:
        parallel, self.parallel = self.parallel, None
        if parallel is not None:
            # What waits for each gradient goes with these two, and not when the garbage is collected some day.
            del parallel.reducer, parallel.logger


@contextmanager
def _kept_buffers(network: nn.Module) -> Iterator[None]:
    own = [(buffer, buffer.clone()) for buffer in network.buffers()]
    yield
    with torch.no_grad():
        for buffer, kept in own:
            buffer.copy_(kept)


def divided_step(
    forward: Forward,
    parameters: Collection[nn.Parameter],
    data: Split,
    class_weights: Tensor | None,
    training: TrainingConfig,
    ranks: Ranks,
) -> DividedStep | None:
    """Return what computes the steps of `training` in parts; None where each is computed as a whole.

    Raises `BadInput` where a batch is too small for so many parts.
    """
    device = next(iter(parameters)).device
    together = training.sync_bn and ranks.world > 1
    least = 2 if forward.normed and not together else 1
    parts = ranks.world * training.accumulate
    if parts == 1:
        return None
    if training.batch_size < least * parts:
        each = "2 images, which batch normalization needs" if least > 1 else "1 image"
        raise BadInput(
            f"training.batch_size (--batch-size): {training.batch_size} is for all {ranks.world} processes together, "
            f"and each computes it in {training.accumulate} parts of at least {each}; give {least * parts} or more"
        )
    dealt = DealtBatches(data, ranks, class_weights, least, device, together=together)
    return DividedStep(forward, parameters, dealt, ranks, training.accumulate, least)
