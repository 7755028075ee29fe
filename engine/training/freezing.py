"""Freezing layers, so that a frozen tensor stays the same bit for bit."""

from collections.abc import Collection, Sequence

from torch import nn
from torch.optim import Optimizer

from finetui.engine.errors import BadInput
from finetui.engine.models import ModuleGroup, ModuleLayer
from finetui.engine.protocol.events import Layer, LayerGroup, NormMode
from finetui.engine.text import clean


class Freezer:
    """Knows which layers of a model are frozen, and keeps them so; whole groups can be named as well.

    Frozen means: `requires_grad` is False and `grad` is None (not zero: with a zero gradient, momentum and weight
    decay still move the tensor), there is no optimizer state, and the layer is in evaluation mode, so that a
    normalisation layer uses and keeps its running statistics. All modules of a wholly frozen group are in evaluation
    mode: dropout in it is off. With `norm_trains`, frozen normalisation layers go on using the batch's statistics and
    collecting running ones; their parameters stay as they are.
    """

    def __init__(
        self, model: nn.Module, groups: Sequence[ModuleGroup], optimizer: Optimizer, norm_trains: bool = False
    ) -> None:
        self._model = model
        self._groups = tuple(groups)
        self.optimizer = optimizer
        self._layers = {layer.name: layer for group in groups for layer in group.layers}
        self._members = _layers_by_path(self._layers)
        # A group has precedence over a module of the same name: ResNet's group conv1 holds bn1 as well.
        self._members |= {group.name: tuple(layer.name for layer in group.layers) for group in groups}
        self.bypassed = frozenset(layer.name for group in groups if not group.in_use for layer in group.layers)
        self.norms = frozenset(name for name, layer in self._layers.items() if layer.normalises)
        self.norm_trains = norm_trains
        self.frozen: frozenset[str] = frozenset()
        self._set(self.bypassed)

    def layers_of(self, names: Collection[str]) -> frozenset[str]:
        """Return the names of the layers that the groups, modules and layers `names` stand for. Raises `BadInput`."""
        unknown = sorted(set(names) - set(self._members))
        if unknown:
            groups = ", ".join(group.name for group in self._groups)
            raise BadInput(f"there is no layer group or layer {unknown[0]!r}; the groups are: {groups}")
        return frozenset(layer for name in names for layer in self._members[name])

    def set(self, layers: Collection[str], frozen: bool) -> frozenset[str]:
        """Freeze or unfreeze `layers`; return the names of those that changed.

        Raises `BadInput`, having changed nothing, when that cannot be done.
        """
        layers = frozenset(layers)
        if not layers <= self._layers.keys():
            raise BadInput(f"there is no layer {min(layers - self._layers.keys())!r}")
        bypassed = sorted(layers & self.bypassed)
        if bypassed and not frozen:
            raise BadInput(f"{bypassed[0]} cannot be trained: the forward pass bypasses it, so it gets no gradient")
        after = self.frozen | layers if frozen else self.frozen - layers
        if not any(layer.parameters for name, layer in self._layers.items() if name not in after):
            raise BadInput("at least one layer with parameters must stay trainable")
        before = self.frozen
        self._set(after)
        return before ^ after

    def _set(self, frozen: frozenset[str]) -> None:
        self.frozen = frozen
        for name, layer in self._layers.items():
            for parameter in layer.parameters.values():
                parameter.requires_grad_(name not in frozen)
                if name in frozen:
                    parameter.grad = None
                    self.optimizer.state.pop(parameter, None)
        self.train_mode()

    def set_norm_trains(self, trains: bool) -> bool:
        """Set the switch `norm_trains`; return whether that changed anything."""
        changed = self.norm_trains != trains
        self.norm_trains = trains
        self.train_mode()
        return changed

    def train_mode(self) -> None:
        """Put the model into training mode, and what is frozen into evaluation mode. Call after every `eval()`."""
        self._model.train()
        # The flag is set on each module by itself: `eval()` would reach into layers that are not frozen.
        for group in self._groups:
            if self._wholly_frozen(group):
                for module in group.modules:
                    module.training = False
        for name in self.frozen:
            layer = self._layers[name]
            layer.module.training = layer.normalises and self.norm_trains and name not in self.bypassed

    def _wholly_frozen(self, group: ModuleGroup) -> bool:
        return all(layer.name in self.frozen for layer in group.layers)

    def trainable(self) -> int:
        """Return the number of parameters (scalars) that are not frozen."""
        return sum(_count(layer) for name, layer in self._layers.items() if name not in self.frozen)

    def table(self) -> tuple[LayerGroup, ...]:
        """Return the layer table as the events show it."""
        return tuple(self._describe(group) for group in self._groups)

    def _describe(self, group: ModuleGroup) -> LayerGroup:
        layers = tuple(
            Layer(
                name=clean(layer.name),
                summary=clean(layer.summary, 40),
                parameters=_count(layer),
                frozen=layer.name in self.frozen,
                norm=_norm_mode(layer),
            )
            for layer in group.layers
        )
        modes = {layer.norm for layer in layers} - {""}
        return LayerGroup(
            name=clean(group.name),
            summary=clean(group.summary, 40),
            parameters=sum(layer.parameters for layer in layers),
            trainable=sum(layer.parameters for layer in layers if not layer.frozen),
            frozen=self._wholly_frozen(group),
            in_use=group.in_use,
            head=group.head,
            norm="batch" if "batch" in modes else "running" if modes else "",
            layers=layers,
        )


def _layers_by_path(layers: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Return the layers at and below every module path."""
    found: dict[str, list[str]] = {}
    for name in layers:
        pieces = name.split(".")
        for count in range(1, len(pieces) + 1):
            found.setdefault(".".join(pieces[:count]), []).append(name)
    return {path: tuple(names) for path, names in found.items()}


def _count(layer: ModuleLayer) -> int:
    return sum(parameter.numel() for parameter in layer.parameters.values())


def _norm_mode(layer: ModuleLayer) -> NormMode:
    # Layer and group normalisation have no running statistics: they always use the image's own.
    if not layer.normalises or getattr(layer.module, "running_mean", None) is None:
        return ""
    return "batch" if layer.module.training else "running"
