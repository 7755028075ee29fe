"""A network as a graph of operations, traced by torch.fx as far as the line between frozen and training needs it."""

import copy
import inspect
import itertools
import math
import sys
from collections.abc import Collection, Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn

from finetui.engine.errors import describe
from finetui.engine.models.device import preserved_rng, rng_states


class NoCut(Exception):
    """A network's frozen part cannot be computed apart from the rest; the message says why in a few words."""


class FixedLayers:
    """Tells what of `model` stays the same for as long as the layers `names` are frozen."""

    def __init__(self, model: nn.Module, names: Collection[str]) -> None:
        self.names = frozenset(names)
        self._owners = {
            path: [name for name, _ in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))]
            for path, module in model.named_modules()
        }

    def tensor(self, path: str) -> bool:
        """Whether the parameter or buffer with this full name stays."""
        return path in self.names or path.rpartition(".")[0] in self.names

    def owners(self, path: str) -> tuple[list[str], list[str]]:
        """Return the layers in the module `path` that stay, and those that do not; modules without tensors are none."""
        inside = [
            owner
            for owner, tensors in self._owners.items()
            if tensors and (not path or owner == path or owner.startswith(f"{path}."))
        ]
        stay = [owner for owner in inside if self._stays(owner)]
        return stay, [owner for owner in inside if owner not in stay]

    def _stays(self, owner: str) -> bool:
        return all(self.tensor(f"{owner}.{name}" if owner else name) for name in self._owners[owner])

    def mixed(self) -> frozenset[str]:
        """Return the modules in which something stays and something does not: the line is somewhere within."""
        return frozenset(path for path in self._owners if path and all(self.owners(path)))


class _Tracer(fx.Tracer):
    """Looks into the modules `mixed` alone: all others are one operation, whatever their own code is like."""

    proxy_buffer_attributes = True  # else their values of this moment would become part of the graph

    def __init__(self, mixed: Collection[str]) -> None:
        wrapped: Any = (math,)  # torch.fx declares a tuple of one
        if "torchvision" in sys.modules:
            wrapped = math, sys.modules["torchvision"].ops  # whose functions take no symbols
        super().__init__(autowrap_modules=wrapped)
        self._mixed = mixed

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return module_qualified_name not in self._mixed or super().is_leaf_module(m, module_qualified_name)


def trace(model: nn.Module, mixed: Collection[str]) -> tuple[fx.Graph, dict[str, Any]]:
    """Return the graph of `model` in its present mode, and by its name what it refers to: modules, tensors.

    Of Python code that depends on more than its inputs a graph would keep one moment: so it is traced twice, and must
    be the same, without drawing a random number. Raises `NoCut`.
    """
    if isinstance(model, torch.jit.ScriptModule):
        raise NoCut("it is TorchScript")
    _check_hooks(model)
    if any("forward" in vars(model.get_submodule(path)) for path in ("", *mixed)):
        raise NoCut("its forward pass was replaced")
    device = next(model.parameters()).device
    try:
        with preserved_rng(device):
            before = rng_states(device)
            structure = _structure(model)
            (graph, constants), (again, others) = (_traced(structure, model, mixed) for _ in range(2))
            moved = any(not torch.equal(state, before[kind]) for kind, state in rng_states(device).items())
    except Exception as error:  # a person's own code raises what it likes, and torch.fx many things
        raise NoCut(f"it cannot be traced: {describe(error)}") from error
    same = constants.keys() == others.keys() and all(_equal(value, others[name]) for name, value in constants.items())
    if moved or not same or str(graph) != str(again):
        raise NoCut("its forward pass changes from call to call")
    return graph, constants


def _structure(model: nn.Module) -> nn.Module:
    """Return a copy with the same tensors: what its code assigns to itself while it is traced is no tensor."""
    return copy.deepcopy(model, {id(tensor): tensor for tensor in itertools.chain(model.parameters(), model.buffers())})


def _traced(structure: nn.Module, model: nn.Module, mixed: Collection[str]) -> tuple[fx.Graph, dict[str, Any]]:
    """Return the graph of `structure`, and the tensors in it that `model` has not: made while it was traced."""
    graph = _Tracer(mixed).trace(structure, concrete_args=_defaults(structure))
    constants = {name: value for name, value in _targets(graph, structure) if not _has(model, name)}
    for name in constants:
        delattr(structure, name)  # another trace would number its own from there
    return graph, constants


def _defaults(model: nn.Module) -> dict[str, Any] | None:
    """Return what `forward` takes besides its first argument: the defaults, as for any call with images alone."""
    _, *others = inspect.signature(type(model).forward).parameters.values()
    given = {one.name: one.default for one in others[1:] if one.default is not inspect.Parameter.empty}
    return given or None


def _targets(graph: fx.Graph, root: nn.Module) -> Iterator[tuple[str, Any]]:
    for node in graph.nodes:
        if node.op in ("call_module", "get_attr"):
            yield node.target, _get(root, node.target)


def _get(root: nn.Module, path: str) -> Any:
    found: Any = root
    for name in path.split("."):
        found = getattr(found, name)
    return found


def _has(root: nn.Module, path: str) -> bool:
    try:
        _get(root, path)
    except AttributeError:
        return False
    return True


def _equal(one: Any, other: Any) -> bool:
    return torch.equal(one, other) if isinstance(one, Tensor) and isinstance(other, Tensor) else bool(one == other)


def _check_hooks(model: nn.Module) -> None:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    everywhere = nn.modules.module
    if any(getattr(module, kind) for module in model.modules() for kind in kinds) or any(
        getattr(everywhere, f"_global{kind}", None) for kind in kinds
    ):
        raise NoCut("it has hooks")


def assemble(graph: fx.Graph, root: nn.Module, constants: dict[str, Any]) -> fx.GraphModule:
    """Return a module that computes `graph` with the modules and tensors of `root` themselves, not copies."""
    names = {node.target for node in graph.nodes if node.op in ("call_module", "get_attr")}
    found = {name: constants[name] if name in constants else _get(root, name) for name in names}
    return fx.GraphModule(found, graph)
