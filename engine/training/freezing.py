"""Freezing layers, so that a frozen tensor stays the same bit for bit."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from torch import nn
from torch.optim import Optimizer

from finetui.engine.errors import BadInput
from finetui.engine.models import ModuleGroup, ModuleLayer
from finetui.engine.protocol.events import Layer, LayerGroup, NormMode
from finetui.engine.text import clean

_MOST_NAMES = 6


@dataclass(frozen=True)
class Claims:
    """What is said of a network, besides the `requires_grad` of its parameters.

    `frozen` are full names of parameters, or of modules with all that is in them. `evaluating` are the modules that
    are in evaluation mode while the network trains, so that their buffers stay as they are; None: nothing is said, but
    that those of `training` may be in training mode.
    """

    frozen: frozenset[str] = frozenset()
    evaluating: frozenset[str] | None = None
    training: frozenset[str] = frozenset()


class Freezer:
    """Knows which layers of a model are frozen, and keeps them so; whole groups can be named as well.

    Frozen means: `requires_grad` is False and `grad` is None (not zero: with a zero gradient, momentum and weight
    decay still move the tensor), there is no optimizer state, and the layer is in evaluation mode, so that a
    normalisation layer uses and keeps its running statistics. All modules of a wholly frozen group are in evaluation
    mode: dropout in it is off. With `norm_trains`, frozen normalisation layers go on using the batch's statistics and
    collecting running ones; their parameters stay as they are.

    What the model's owner froze (`requires_grad_(False)` before it came here) is frozen to begin with: `owner` are such
    layers, which can be thawed like any other. `held` are single parameters that the owner froze in layers that
    otherwise train, by their full names: they never train.
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
        self.owner, self.held = frozen_by_owner(model, groups)
        self.frozen: frozenset[str] = frozenset()
        self._set(self.bypassed | self.owner)

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
        if not self.leaves_any(after):
            raise BadInput("at least one layer with parameters must stay trainable")
        before = self.frozen
        self._set(after)
        return before ^ after

    def leaves_any(self, frozen: Collection[str]) -> bool:
        """Whether a parameter still trains when the layers `frozen` are frozen."""
        return any(self._trainable(layer) for name, layer in self._layers.items() if name not in frozen)

    def hold(self, parameters: Collection[str]) -> None:
        """Let the parameters with these full names be the ones that never train."""
        self.held = frozenset(parameters)
        self._set(self.frozen)

    def _set(self, frozen: frozenset[str]) -> None:
        self.frozen = frozen
        for name, layer in self._layers.items():
            for full_name, parameter in layer.parameters.items():
                trains = name not in frozen and full_name not in self.held and _can_train(parameter)
                parameter.requires_grad_(trains)
                if not trains:
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

    def claims(self) -> Claims:
        """Return what has to hold of the model while this keeps it frozen."""
        names = {id(module): name for name, module in self._model.named_modules()}
        layers = [self._layers[name] for name in self.frozen]
        collect = {id(layer.module) for layer in layers if layer.name not in self.bypassed and layer.normalises}
        modules = [module for group in self._groups if self._wholly_frozen(group) for module in group.modules]
        resting = {id(module) for module in (*modules, *(layer.module for layer in layers))}
        # A tensor that the model itself owns is a layer: that one is frozen says nothing of the others' buffers.
        resting -= {id(self._model)} | (collect if self.norm_trains else set())
        tensors = {name for layer in layers for name in layer.parameters} | self.held
        tensors |= {layer.name for layer in layers if layer.module is self._model}
        return Claims(frozenset(tensors), frozenset(names[module] for module in resting))

    @property
    def fixed(self) -> frozenset[str]:
        """The layers that compute the same at every step: frozen, without statistics that go on being collected."""
        collect = self.norms if self.norm_trains else frozenset()
        return self.frozen - self.bypassed - collect

    def _wholly_frozen(self, group: ModuleGroup) -> bool:
        return all(layer.name in self.frozen for layer in group.layers)

    def trainable(self) -> int:
        """Return the number of parameters (scalars) that are not frozen."""
        return sum(self._trainable(layer) for name, layer in self._layers.items() if name not in self.frozen)

    def _trainable(self, layer: ModuleLayer) -> int:
        """Return the number of parameters (scalars) of `layer` that train while it is not frozen."""
        trains = (p for name, p in layer.parameters.items() if name not in self.held and _can_train(p))
        return sum(parameter.numel() for parameter in trains)

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
            trainable=sum(self._trainable(layer) for layer in group.layers if layer.name not in self.frozen),
            frozen=self._wholly_frozen(group),
            in_use=group.in_use,
            head=group.head,
            norm="batch" if "batch" in modes else "running" if modes else "",
            layers=layers,
        )


def frozen_by_owner(model: nn.Module, groups: Sequence[ModuleGroup]) -> tuple[frozenset[str], frozenset[str]]:
    """Return what of `model` has `requires_grad` False: whole layers, and single parameters of others, by their names.

    A layer without parameters (a normalisation without weights) is frozen with the module around it.
    """
    layers = [layer for group in groups if group.in_use for layer in group.layers]
    whole = frozenset(layer.name for layer in layers if _is_frozen(model, layer))
    rest = (layer for layer in layers if layer.name not in whole)
    held = (name for layer in rest for name, p in layer.parameters.items() if not p.requires_grad)
    return whole, frozenset(held)


def _is_frozen(model: nn.Module, layer: ModuleLayer) -> bool:
    parameters = list(layer.parameters.values())
    path = layer.name
    while not parameters and path:
        path = path.rpartition(".")[0]
        parameters = list(model.get_submodule(path).parameters()) if path else []
    return bool(parameters) and not any(parameter.requires_grad for parameter in parameters)


def owner_notice(model: nn.Module, groups: Sequence[ModuleGroup]) -> list[str]:
    """Return a sentence on what the owner of `model` froze, as a list of one; an empty one where that is nothing."""
    whole, held = frozen_by_owner(model, groups)
    if not whole and not held:
        return []
    names: list[str] = []
    for group in groups:
        own = [layer.name for layer in group.layers if layer.name in whole]
        names += [group.name] if len(own) == len(group.layers) else own
    names += sorted(held)
    shown = ", ".join(clean(name, 60) for name in names[:_MOST_NAMES])
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    sentence = f"frozen by the network's own code, and kept so: {shown}{more}"
    frozen = [layer for group in groups for layer in group.layers if layer.name in whole]
    if any(getattr(layer.module, "running_mean", None) is not None for layer in frozen):
        sentence += "; its normalization keeps its running statistics, which a plain training loop would keep changing"
    return [sentence]


def _can_train(parameter: nn.Parameter) -> bool:
    # Whole numbers have no gradient.
    return parameter.is_floating_point() or parameter.is_complex()


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
