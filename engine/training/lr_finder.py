"""The learning-rate finder (Smith, "Cyclical learning rates for training neural networks", 2017), on a copy."""

import copy
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from finetui.engine.errors import BadInput
from finetui.engine.models.device import preserved_rng
from finetui.engine.training.layer_decay import layer_factors
from finetui.engine.training.optimizer import ParameterGroups, build_optimizer
from finetui.engine.training.trainer import Batch, Trainer

LOWEST, HIGHEST, STEPS = 1e-7, 10.0, 100
_MEMORY = 0.9  # of the smoothed loss
_SETTLING = 10  # steps until the smoothed loss is more than the noise of a few batches
_CLEAR = 4.0  # standard errors: the lowest of so many places falls by as much in 1 of 50 flat curves
_DIVERGED = 4.0  # times the best smoothed loss: it only gets worse from there


def find_learning_rate(
    trainer: Trainer, *, progress: Callable[[int, int], None], stopped: Callable[[], bool]
) -> tuple[list[float], list[float]]:
    """Return learning rates that rise geometrically, and the smoothed training loss after a step at each.

    `trainer` is not touched: a copy takes the steps, with a fresh optimizer, on the batches that come next, and the
    random generators are put back. `progress(done, total)` counts steps; `stopped` True ends the search early.
    """
    with preserved_rng(trainer.device):
        return _try_rates(trainer, progress, stopped)


def _try_rates(
    trainer: Trainer, progress: Callable[[int, int], None], stopped: Callable[[], bool]
) -> tuple[list[float], list[float]]:
    if any(isinstance(module, torch.jit.ScriptModule) for module in trainer.model.modules()):
        raise BadInput("rates are tried on a copy of the network, and TorchScript cannot be copied for training")
    model, groups = copy.deepcopy((trainer.model, trainer.groups))
    optimizer = build_optimizer(groups, trainer.training, fused=trainer.path.fused)
    rated = ParameterGroups(optimizer)
    factors = layer_factors(groups, trainer.training.layer_decay)
    trial = partial(_computed, trainer, model, [p for group in groups for p in group.parameters.values()])
    batches = _endless(trainer)
    rates: list[float] = []
    losses: list[float] = []
    mean = 0.0
    for index in range(STEPS):
        inputs, labels = next(batches)
        rate = LOWEST * (HIGHEST / LOWEST) ** (index / (STEPS - 1))
        rated.set_rates(rate, lambda layer: factors.get(layer, 1.0)) if factors else rated.set_rate(rate)
        optimizer.zero_grad(set_to_none=True)
        value = trial(inputs, labels)
        mean = _MEMORY * mean + (1 - _MEMORY) * value
        smooth = mean / (1 - _MEMORY ** (index + 1))
        diverged = index > _SETTLING and smooth > _DIVERGED * min(losses[_SETTLING:])
        if not math.isfinite(value) or diverged or stopped():
            break
        rates.append(rate)
        losses.append(smooth)
        optimizer.step()
        progress(index + 1, STEPS)
    return rates, losses


def _computed(
    trainer: Trainer, model: nn.Module, parameters: Sequence[nn.Parameter], inputs: Any, labels: Tensor
) -> float:
    """Leave the gradients of a batch in the `parameters` of the copy `model`; return its loss."""
    if trainer.divided is not None:
        trains = [parameter for parameter in parameters if parameter.requires_grad]
        return trainer.divided.alone(model, trains, inputs, labels)
    loss, _ = trainer.forward.loss_and_logits(model, inputs, labels)
    loss.backward()  # type: ignore[no-untyped-call]
    return float(loss.detach())


def _endless(trainer: Trainer) -> Iterator[Batch]:
    while True:
        yield from (batch for batch in trainer.batches(trainer.epoch, 0) if trainer.trains_on(batch[1]))


def suggest(rates: list[float], losses: list[float]) -> float | None:
    """Return the rate where the smoothed loss falls most steeply (over the logarithm of the rate), to two digits.

    Only what comes before the lowest loss counts. None where the loss never falls, or by less than `_CLEAR` standard
    errors of what the noise of the batches does to a smoothed loss: on a flat curve a steepest place means nothing.
    """
    settled = range(min(_SETTLING, len(losses) // 4), len(losses))
    lowest = min(settled, key=losses.__getitem__, default=0)
    # Central differences over a few steps: single ones follow the noise of the batches.
    reach = 3
    slopes = {
        index: losses[index + reach] - losses[index - reach]
        for index in range(settled.start + reach, min(lowest, len(losses) - reach))
    }
    if not slopes:
        return None
    steepest = min(slopes, key=slopes.__getitem__)
    fell = losses[settled.start] - losses[lowest]
    clear = slopes[steepest] < 0 and fell > _CLEAR * _standard_error(losses, settled.start, lowest)
    return float(f"{rates[steepest]:.1e}") if clear else None


def _standard_error(losses: list[float], first: int, last: int) -> float:
    """Return the standard error of the difference between two smoothed losses, from those at `first` to `last`.

    The variance of single batches is half their mean square successive difference, which a trend hardly touches
    (von Neumann et al., "The mean square successive difference", 1941); of it an exponential mean with memory m keeps
    (1 - m) / (1 + m).
    """
    sums = [loss * (1 - _MEMORY ** (index + 1)) for index, loss in enumerate(losses)]
    batches = [(now - _MEMORY * before) / (1 - _MEMORY) for before, now in itertools.pairwise(sums[first : last + 1])]
    jumps = [(now - before) ** 2 for before, now in itertools.pairwise(batches)]
    variance = math.fsum(jumps) / (2 * len(jumps)) if jumps else 0.0
    return math.sqrt(2 * variance * (1 - _MEMORY) / (1 + _MEMORY))
