"""Freezing in somebody else's loop: with finetui's own meaning, and touching nothing that nobody asked to touch."""

import weakref
from collections.abc import Collection, Sequence
from typing import Any

from torch import Tensor, nn
from torch.compiler import is_compiling

from finetui.engine.errors import BadInput
from finetui.engine.models import ModuleGroup, ModuleLayer
from finetui.engine.training.freezing import Claims, Freezer, frozen_by_owner
from finetui.engine.watching.optimizers import Optimizers

NO_OPTIMIZER = "no optimizer is known yet: pass it to finetui.watch, or let it take a step"


class WatchedLayers(Freezer):
    """The layers of a network that a person's loop trains; frozen as `Freezer` says, but for what the loop has to say.

    Nothing is changed before somebody freezes or unfreezes a layer, and then only that layer. What is frozen here stays
    in evaluation mode whatever mode the loop puts the network in; what the loop itself freezes, it alone decides on.
    `trained` are the parameters, by their `id`, that were seen to get a gradient. `why_not` says, where it cannot be
    done, why layers are neither frozen nor unfrozen.
    """

    def __init__(
        self, model: nn.Module, groups: Sequence[ModuleGroup], optimizers: Optimizers, why_not: str = ""
    ) -> None:
        self._optimizers = optimizers
        self._why_not = why_not
        self._modes: dict[nn.Module, bool] = {}  # of what was frozen here: whether it was in training mode before
        self._seen = False
        self._never: set[str] = set()  # parameters of what was frozen here that had not trained before either
        self.trained: set[int] = set()
        self.by_hand: frozenset[str] = frozenset()
        super().__init__(model, groups, None)  # type: ignore[arg-type]  # `_set` below asks `optimizers`
        self._parameters = tuple(model.parameters())
        self._noted: Any = None  # what the parameters, `frozen` and `held` were like when that was last looked at
        self._hooks: dict[nn.Module, Any] = {}

    def regroup(self, groups: Sequence[ModuleGroup]) -> None:
        """Have `groups`, of a network that the loop has changed; what was frozen here is left as it is."""
        self._seen = False
        super().__init__(self._model, groups, None, self.norm_trains)  # type: ignore[arg-type]
        self.by_hand &= self._layers.keys()
        self._parameters, self._noted = tuple(self._model.parameters()), None

    def refresh(self) -> bool:
        """Take note of what the loop has frozen and thawed itself; return whether the table has changed."""
        trains = [parameter.requires_grad for parameter in self._parameters]
        if self._noted == (trains, self.frozen, self.held):
            return False
        whole, held = frozen_by_owner(self._model, self._groups)
        # What has no parameters cannot be thawed by them.
        whole |= {name for name in self.by_hand if not self._layers[name].parameters}
        known = self.bypassed | whole
        changed = known != self.frozen or held != self.held
        self.frozen, self.held = known, held
        self._noted = trains, known, held
        thawed = self.by_hand - whole
        if thawed:
            self._let_go(thawed)
        return changed

    def saw_gradients(self) -> None:
        """Note which parameters have a gradient now."""
        for layer in self._layers.values():
            self.trained.update(id(p) for p in layer.parameters.values() if p.grad is not None)

    def leaves_any(self, frozen: Collection[str]) -> bool:
        """Whether a parameter still trains when the layers `frozen` are frozen: one that was seen to, if any was."""
        if not self.trained:
            return super().leaves_any(frozen)
        rest = (layer for name, layer in self._layers.items() if name not in frozen)
        return any(id(p) in self.trained for layer in rest for p in layer.parameters.values())

    def set(self, layers: Collection[str], frozen: bool) -> frozenset[str]:
        """Freeze or unfreeze `layers`; return the names of those that changed. Raises `BadInput` as `Freezer` does.

        So it does for layers to unfreeze that no optimizer has: they would not be trained.
        """
        if self._why_not:
            raise BadInput(f"layers cannot be frozen or unfrozen here: {self._why_not}")
        if not self._optimizers.there:  # a loop that updates by hand needs each gradient
            raise BadInput(NO_OPTIMIZER)
        self.refresh()
        if not frozen:
            self._check_optimized(frozenset(layers) & self.frozen)
        elif type(self._model).forward is nn.Module.forward:
            self._check_networks(self.frozen | frozenset(layers))
        return super().set(layers, frozen)

    def _check_networks(self, frozen: Collection[str]) -> None:
        """Raise `BadInput` where nothing of a network with an optimizer of its own trains any more.

        Of several networks in one, each such has a loss of its own, which would have no gradient.
        """
        optimizers = self._optimizers.there
        for network, module in self._model.named_children():
            inside = {id(parameter) for parameter in module.parameters()}
            alone = any(
                all(id(p) in inside for group in one.param_groups for p in group["params"]) for one in optimizers
            )
            own = {name for name, layer in self._layers.items() if inside & set(map(id, layer.parameters.values()))}
            train = {name for name in own - self.frozen if self._trainable(self._layers[name])}
            if alone and train and train <= frozenset(frozen):
                raise BadInput(f"at least one layer of {network} must stay trainable: it has an optimizer of its own")

    def _check_optimized(self, layers: Collection[str]) -> None:
        known = self._optimizers.rates()
        for name in sorted(layers):
            parameters = list(self._layers[name].parameters.values())
            if known and parameters and not any(id(parameter) in known for parameter in parameters):
                raise BadInput(f"{name} cannot be trained: no optimizer has its parameters")

    def _set(self, frozen: frozenset[str]) -> None:
        if not self._seen:  # at the beginning: what is frozen already is so by the loop
            self._seen, self.frozen = True, frozen
            return
        before, self.frozen = self.frozen, frozen
        for name in before - frozen:
            for full_name, parameter in self._layers[name].parameters.items():
                if full_name not in self._never:
                    parameter.requires_grad_(parameter.is_floating_point() or parameter.is_complex())
                self._never.discard(full_name)
        for name in frozen - before:
            for full_name, parameter in self._layers[name].parameters.items():
                if not parameter.requires_grad:
                    self._never.add(full_name)
                parameter.requires_grad_(False)
                parameter.grad = None
                for optimizer in self._optimizers.there:
                    optimizer.state.pop(parameter, None)
        self._let_go(before - frozen)
        self._hold(frozen - before)

    def _hold(self, layers: frozenset[str]) -> None:
        """Keep the modules of `layers` in evaluation mode from here on, and those of groups that are wholly frozen."""
        self.by_hand |= layers
        for _, module in self._evaluating():
            self._modes.setdefault(module, module.training)
        # On each of them, too: a loop may call parts of its network alone, as those of an `nn.ModuleDict`.
        norms = {id(self._layers[name].module) for name in self.norms}
        for module in (self._model, *self._modes) if self._modes else ():
            if module not in self._hooks:
                hook = _Modes(self, kept=module is not self._model, normalises=id(module) in norms)
                self._hooks[module] = module.register_forward_pre_hook(hook)
        self.train_mode()

    def _let_go(self, layers: frozenset[str]) -> None:
        """Give modules that are not to be kept any more the mode that they had."""
        self.by_hand -= layers
        kept = {module for _, module in self._evaluating()}
        for module in set(self._modes) - kept:
            module.training = self._modes.pop(module)
            self._hooks.pop(module).remove()

    def _evaluating(self) -> list[tuple[str, nn.Module]]:
        """Return the modules that are kept in evaluation mode, by their paths."""
        whole = {m for group in self._groups if self._by_hand(group) for m in group.modules}
        alone = {self._layers[name].module for name in self.by_hand if name not in self._layers[name].parameters}
        return [(path, module) for path, module in self._model.named_modules() if path and module in whole | alone]

    def claims(self) -> Claims:
        """Return what has to hold of what was frozen here; what the loop itself has frozen says so by itself."""
        kept = {path for path, _ in self._evaluating()}
        touched = {m for group in self._groups if self._has_any(group) for m in group.modules}
        free = {path for path, module in self._model.named_modules() if module in touched} - kept
        return Claims(training=frozenset(free | (kept & self.norms if self.norm_trains else set())))

    def _has_any(self, group: ModuleGroup) -> bool:
        return any(layer.name in self.by_hand for layer in group.layers)

    def _by_hand(self, group: ModuleGroup) -> bool:
        return all(layer.name in self.frozen for layer in group.layers) and any(
            layer.name in self.by_hand for layer in group.layers
        )

    def train_mode(self, only: nn.Module | None = None) -> None:
        """Put what was frozen here, or `only` that module of it, into evaluation mode; all else is the loop's."""
        if not self._modes:
            return
        norms = {id(self._layers[name].module) for name in self.norms} if self.norm_trains else set()
        for module in self._modes if only is None else (only,):
            module.training = id(module) in norms and self._model.training

    def close(self) -> None:
        """Leave everything as it is, and look after it no more."""
        while self._hooks:
            self._hooks.popitem()[1].remove()

    def layer(self, name: str) -> ModuleLayer:
        """Return the layer of this name."""
        return self._layers[name]


class _Modes:
    """A hook before each forward pass, for a loop may put the network into training mode anywhere.

    A copy of the network, or one that is read from a file, has a hook that does nothing.
    """

    def __init__(self, layers: WatchedLayers, *, kept: bool, normalises: bool) -> None:
        self._layers = weakref.ref(layers)
        self._kept = kept
        self._normalises = normalises

    def __call__(self, module: nn.Module, _args: tuple[Tensor, ...]) -> None:
        layers = self._layers()
        if layers is None:
            return
        if not is_compiling():
            layers.train_mode(module if self._kept else None)
        elif self._kept and not (self._normalises and layers.norm_trains):
            # It is compiled with the module, and that must not reach any other one: those have hooks of their own.
            module.training = False

    def __reduce__(self) -> tuple[Any, ...]:
        # The arguments are returned as they came; a file with the network needs no finetui to be read.
        return getattr, ({}, "get")
