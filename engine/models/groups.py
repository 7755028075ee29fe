"""The layer groups of a model: what freezes as a whole, from the stem up to the head."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.utils.parametrize import is_parametrized

_FEWEST_GROUPS = 4
_LARGEST_SHARE = 0.8
_NORMALISATIONS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


@dataclass(frozen=True, eq=False)
class ModuleLayer:
    """A module that itself owns parameters or buffers. `name` is its path, such as "layer1.0.bn1".

    `parameters` maps the full names, as in the state dict, of its own parameters to them; a parameter that several
    modules share belongs to the first. Tensors that the model itself owns are a layer each, by the tensor's name.
    """

    name: str
    module: nn.Module
    parameters: dict[str, nn.Parameter]

    @property
    def normalises(self) -> bool:
        """Whether it is a normalisation layer."""
        return _normalises(self.module)

    @property
    def summary(self) -> str:
        """What it is, in a few words."""
        tensor = self.parameters.get(self.name)
        return f"parameter {_by(tensor.shape)}" if tensor is not None else _summary(self.module)


@dataclass(frozen=True, eq=False)
class ModuleGroup:
    """A named part of a model. `name` is the path of its main module.

    `modules` are all modules of the group, containers and such without parameters included. `in_use` is False for what
    the forward pass does not reach, `head` True for the layer that produces the logits.
    """

    name: str
    layers: tuple[ModuleLayer, ...]
    modules: tuple[nn.Module, ...]
    in_use: bool
    head: bool
    summary: str

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """The parameters of all its layers by their full names."""
        return {name: parameter for layer in self.layers for name, parameter in layer.parameters.items()}


@dataclass(frozen=True, eq=False)
class _Part:
    """A subtree of the model that becomes a group, or is merged into one."""

    name: str
    module: nn.Module
    beside: tuple[nn.Module, ...] = ()  # modules without tensors that come just before it
    size: int = 0
    head: bool = False

    @property
    def joins(self) -> bool:
        """Whether there is nothing in it that would be worth a group of its own."""
        owners = [module for module in self.module.modules() if _owns(module)]
        return self.size == 0 or all(_normalises(module) for module in owners)


def module_groups(model: nn.Module, head: Sequence[str] = ()) -> tuple[ModuleGroup, ...]:
    """Return the groups of `model` from the stem up to the head, in the order of definition.

    They are the model's children, where one that holds nearly all parameters, or one of very few, is divided into its
    own children; `head` names the layers that are groups of their own and come last (see `find_head`), by default the
    last group; a network may name more as its attribute `other_heads`. Normalisation layers belong to the group before
    them, tensors that a divided module owns to the first, but for a head that is a parameter of the model's own. Every
    parameter and buffer is in exactly one layer of one group.
    """
    head = tuple(dict.fromkeys((*head, *getattr(model, "other_heads", ()))))
    parts = _expand(model, head)
    parts = [*(part for part in parts if not part.head), *(part for part in parts if part.head)]
    layers = _layers_by_part(model, parts)
    merged = _merge(parts)
    bypassed: Collection[str] = getattr(model, "bypassed", ())
    groups = []
    for members in merged:
        main = next((part for part in members if not part.joins), members[0])
        modules = (module for part in members for module in (*part.beside, *part.module.modules()))
        own = tuple(layer for part in members for layer in layers[part.name])
        groups.append(
            ModuleGroup(
                name=main.name or type(model).__name__,
                layers=own,
                modules=tuple(dict.fromkeys(modules)),
                in_use=not any(main.name == name or main.name.startswith(f"{name}.") for name in bypassed),
                head=main.head,
                summary=_summary(main.module),
            )
        )
    groups = _with_own_heads(groups, head)
    if not any(group.head for group in groups):
        last = max((i for i, group in enumerate(groups) if group.in_use), default=None)
        groups = [replace(group, head=index == last) for index, group in enumerate(groups)]
    return tuple(groups)


def _with_own_heads(groups: list[ModuleGroup], head: Sequence[str]) -> list[ModuleGroup]:
    """Return `groups` with each layer that is a tensor of the model's own, and a head, as a group of its own."""
    own = [layer for group in groups for layer in group.layers if layer.name in head and layer.name in layer.parameters]
    if not own:
        return groups
    rest = [replace(group, layers=tuple(layer for layer in group.layers if layer not in own)) for group in groups]
    heads = [ModuleGroup(layer.name, (layer,), (), in_use=True, head=True, summary=layer.summary) for layer in own]
    return [*(group for group in rest if group.layers), *heads]


def _expand(model: nn.Module, head: tuple[str, ...]) -> list[_Part]:
    """Divide the model until there are enough parts, none holds nearly everything, and each head is one of them."""
    parts = _children(_Part("", model), head)
    while True:
        around = [part for part in parts if any(name.startswith(f"{part.name}.") for name in head)]
        chosen = next(iter(around), None) or _largest_to_divide(parts)
        if chosen is None:
            return parts
        index = parts.index(chosen)
        parts[index : index + 1] = _children(chosen, head)


def _largest_to_divide(parts: list[_Part]) -> _Part | None:
    divisible = [part for part in parts if not part.head and not part.joins and _divisible(part.module)]
    largest = max(divisible, key=lambda part: part.size, default=None)
    total = sum(part.size for part in parts)
    if largest is None or (len(_merge(parts)) >= _FEWEST_GROUPS and largest.size <= _LARGEST_SHARE * total):
        return None
    return largest


def _children(part: _Part, head: tuple[str, ...]) -> list[_Part]:
    """Return the parts that `part` is divided into: its children that hold tensors.

    Children without any (dropout, activations, pooling) go with the next one, whose input they prepare.
    """
    parts: list[_Part] = []
    waiting = list(part.beside)
    for child_name, child in part.module.named_children():
        if not _holds_tensors(child):
            waiting += child.modules()
            continue
        name = f"{part.name}.{child_name}" if part.name else child_name
        parts.append(_Part(name, child, tuple(waiting), _size(child), head=name in head))
        waiting = []
    if waiting and parts:
        parts[-1] = replace(parts[-1], beside=(*parts[-1].beside, *waiting))
    # Without children of its own the model is one part: all of its tensors are its own.
    return parts or [replace(part, beside=(), size=_size(part.module))]


def _merge(parts: list[_Part]) -> list[list[_Part]]:
    """Return the parts of each group: what only normalises joins the one before it, or else the one after."""
    groups: list[list[_Part]] = []
    early: list[_Part] = []
    for part in parts:
        if part.head or not part.joins:
            groups.append([part] if part.head else [*early, part])
            early = early if part.head else []
        elif groups and not groups[-1][-1].head:
            groups[-1].append(part)
        else:
            early.append(part)
    return [early, *groups] if early else groups


def _layers_by_part(model: nn.Module, parts: list[_Part]) -> dict[str, list[ModuleLayer]]:
    """Return the layers of each part; what belongs to a divided module goes to the first."""
    found: dict[str, list[ModuleLayer]] = {part.name: [] for part in parts}
    first = next(iter(found))
    owners = {module: part.name for part in reversed(parts) for module in part.module.modules()}
    for layer in _layers(model):
        found[owners.get(layer.module, first)].append(layer)
    return found


def _layers(model: nn.Module) -> Iterator[ModuleLayer]:
    seen: set[int] = set()
    for path, module in model.named_modules():
        own: dict[str, nn.Parameter] = {}
        for name, parameter in module.named_parameters(recurse=False):
            if id(parameter) not in seen:
                seen.add(id(parameter))
                own[f"{path}.{name}" if path else name] = parameter
        buffers = [name for name, _ in module.named_buffers(recurse=False)]
        if path and (own or buffers):
            yield ModuleLayer(path, module, own)
        elif not path:
            for name, parameter in own.items():
                yield ModuleLayer(name, module, {name: parameter})
            for name in buffers:
                yield ModuleLayer(name, module, {})


def _divisible(module: nn.Module) -> bool:
    # The parts of an attention layer make no sense alone; forward passes read its projection without calling it.
    # A parametrized layer (spectral norm, weight norm) is one layer with what its weight is computed of.
    return (
        not isinstance(module, nn.MultiheadAttention)
        and not is_parametrized(module)
        and any(_size(child) for child in module.children())
    )


def _normalises(module: nn.Module) -> bool:
    # Also a person's own, and FrozenBatchNorm2d; but not a container such as PreNorm.
    named_so = type(module).__name__.rstrip("123d").endswith("Norm")
    return isinstance(module, _NORMALISATIONS) or (named_so and next(module.children(), None) is None)


def _owns(module: nn.Module) -> bool:
    return any(True for _ in module.parameters(recurse=False)) or any(True for _ in module.buffers(recurse=False))


def _holds_tensors(module: nn.Module) -> bool:
    return any(_owns(inner) for inner in module.modules())


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _by(sizes: Sequence[int]) -> str:
    return "×".join(map(str, sizes))


def _summary(module: nn.Module) -> str:
    match module:
        case nn.modules.conv._ConvNd():
            return f"conv {module.in_channels}→{module.out_channels}, {_by(module.kernel_size)}"
        case nn.Linear():
            return f"linear {module.in_features}→{module.out_features}"
        case _NormBase():
            return f"batch norm {module.num_features}" if "Batch" in type(module).__name__ else type(module).__name__
        case nn.Sequential() | nn.ModuleList() if type(module) in (nn.Sequential, nn.ModuleList):
            return _contents(module)
        case _:
            return type(module).__name__


def _contents(container: nn.Module) -> str:
    """Return what a plain container mostly consists of, such as "2 × BasicBlock"."""
    children = [child for child in container.children() if _size(child)]
    children = [child for child in children if not _normalises(child)] or children
    if len(children) == 1:
        return _summary(children[0])
    kinds = Counter(type(child).__name__ for child in children)
    return " × ".join(map(str, reversed(kinds.most_common(1)[0]))) if kinds else type(container).__name__
