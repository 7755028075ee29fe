"""The forward pass of training steps through `torch.compile`, for those who ask for it."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from finetui.engine.data import Split, epoch_order
from finetui.engine.errors import BadInput
from finetui.engine.models.device import preserved_rng
from finetui.engine.protocol.config import TrainingConfig
from finetui.engine.protocol.values import FastPath
from finetui.engine.text import clean
from finetui.engine.training.fast_paths import laid_out
from finetui.engine.training.precision import forward

Network = Callable[[Tensor], Tensor]

NOTICE = "compile: training steps by torch.compile, with different last digits; evaluation is unchanged"
_GRAPHS = ("reduce-overhead", "max-autotune")  # modes that record CUDA graphs
_COMPILERS = ("torch._dynamo.", "torch._inductor.", "torch._functorch.", "triton.")


class CompiledNetwork:
    """Calls `model` through `torch.compile` in `mode`, which is one of torch's own, or `off` for `model` as it is.

    Each size of a batch and each set of frozen layers has code of its own, made when it is first met: code for sizes in
    general would depend on the order in which they came, so that a continued run computed other digits. Torch gives up
    after eight recompilations, so that everything is compiled anew where other layers, or their statistics, are frozen.
    """

    def __init__(self, model: nn.Module, mode: str) -> None:
        self._model = model
        self._mode = mode
        self._made_for: tuple[frozenset[str], bool] | None = None
        self._network: Network = model
        # A CUDA graph writes what it returns to the same place in each step.
        self.overwrites = mode in _GRAPHS and next(model.parameters()).is_cuda

    def network(self, frozen: frozenset[str], norm_trains: bool) -> Network:
        """Return what computes logits while the layers `frozen` are frozen; `norm_trains`: not their statistics."""
        if self._mode != "off" and (frozen, norm_trains) != self._made_for:
            torch.compiler.reset()
            self._network = torch.compile(self._model, mode=self._mode, dynamic=False)
            self._made_for = frozen, norm_trains
        if self.overwrites:
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        return self._network


def check(model: nn.Module, data: Split, training: TrainingConfig, path: FastPath) -> None:
    """Compile a copy of `model`, for a batch of `data`, and raise `BadInput` where torch cannot; which takes a while.

    Other errors, of a model that cannot be copied or called, are left to the training itself.
    """
    device = next(model.parameters()).device
    try:
        with preserved_rng(device):
            network = CompiledNetwork(copy.deepcopy(model).train(), training.compile).network(frozenset(), False)
            order = epoch_order(len(data), training.seed, 0)[: training.batch_size]
            for images, labels in data.batches(order, training.batch_size):
                logits = forward(network, laid_out(images, path), training.precision)
                F.cross_entropy(logits, labels).backward()  # type: ignore[no-untyped-call]
    except Exception as error:
        if not _by_compiler(error):
            return
        why = clean(str(error).partition("\n\n")[0], 500)  # what follows is for whoever develops torch
        raise BadInput(
            f"training.compile (--compile): torch cannot compile this network here ({why}); use --compile off"
        ) from error


def _by_compiler(error: BaseException | None) -> bool:
    return error is not None and (f"{type(error).__module__}.".startswith(_COMPILERS) or _by_compiler(error.__cause__))
