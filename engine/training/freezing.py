"""Freezing layer groups, so that a frozen tensor stays the same bit for bit."""

from collections.abc import Collection, Sequence

from torch import nn
from torch.optim import Optimizer

from engine.errors import BadInput
from engine.models import ModuleGroup


class Freezer:
    """Knows which layer groups of a model are frozen, and keeps them so.

    Frozen means: `requires_grad` is False and `grad` is None (not zero: with a zero gradient, momentum and weight
    decay still move the tensor), there is no optimizer state, and the modules are in `eval()` mode, so that
    normalisation layers use and keep their running statistics and dropout is off.
    """

    def __init__(self, model: nn.Module, groups: Sequence[ModuleGroup], optimizer: Optimizer) -> None:
        self._model = model
        self._groups = {group.name: group for group in groups}
        self._optimizer = optimizer
        bypassed = {group.name for group in groups if not group.in_use}
        self.frozen: frozenset[str] = frozenset()
        self._set(frozenset(bypassed))

    def check(self, names: Collection[str], frozen: bool) -> None:
        """Raise `BadInput` when the groups `names` cannot be frozen or unfrozen."""
        unknown = sorted(set(names) - set(self._groups))
        if unknown:
            raise BadInput(f"there is no layer group {unknown[0]!r}; there are: {', '.join(self._groups)}")
        bypassed = [name for name in names if not self._groups[name].in_use]
        if bypassed and not frozen:
            raise BadInput(f"{bypassed[0]} cannot be trained: the forward pass bypasses it, so it gets no gradient")
        if frozen and set(self._groups) <= self.frozen | set(names):
            raise BadInput("at least one layer group must stay trainable")

    def set(self, names: Collection[str], frozen: bool) -> frozenset[str]:
        """Freeze or unfreeze the groups `names`; return the names of those that changed.

        Raises `BadInput`, having changed nothing, when that cannot be done.
        """
        self.check(names, frozen)
        before = self.frozen
        self._set(before | frozenset(names) if frozen else before - frozenset(names))
        return before ^ self.frozen

    def _set(self, frozen: frozenset[str]) -> None:
        self.frozen = frozen
        for name, group in self._groups.items():
            for parameter in group.parameters.values():
                parameter.requires_grad_(name not in frozen)
                if name in frozen:
                    parameter.grad = None
                    self._optimizer.state.pop(parameter, None)
        self.train_mode()

    def train_mode(self) -> None:
        """Put the model into training mode, and what is frozen into evaluation mode. Call after every `eval()`."""
        self._model.train()
        for name in self.frozen:
            self._groups[name].module.eval()
