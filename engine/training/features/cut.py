"""Where a network divides into a frozen first part, whose output for an image never changes, and the rest."""

import copy
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.node import map_arg

from finetui.engine.errors import describe
from finetui.engine.models.device import preserved_rng, rng_states
from finetui.engine.models.outputs import outputs_of
from finetui.engine.protocol.values import FastPath
from finetui.engine.training.fast_paths import laid_out
from finetui.engine.training.features.graph import FixedLayers, NoCut, assemble, trace
from finetui.engine.training.features.store import Spec
from finetui.engine.training.precision import autocast

Value = Any
_SCALES = (1.0, 3.0, 0.2)  # of the noise that a cut is tried on: one image of each
_AGREES = {torch.float64: 1e-10, torch.float32: 1e-5}  # the rest of a network with itself, relative to its outputs
_ALONE = {torch.float64: 1e-8, torch.float32: 1e-3}  # an image in a batch, and alone: other kernels compute it
_ROUGHLY = 0.05  # in bfloat16


@dataclass(frozen=True)
class Cut:
    """A network in two parts: `first` takes images `[B, C, H, W]` and returns a tuple of tensors `[B, ...]`, which
    `rest` takes and returns what the network does.

    `specs` says how these lie in memory, `layers` are the layers in the first part, `last` names what computes its last
    output, for people. Both parts hold the network's own modules; `modes` are those modules whose mode (`training`) is
    part of the parts' code.
    """

    first: fx.GraphModule
    rest: fx.GraphModule
    specs: tuple[Spec, ...]
    layers: frozenset[str]
    last: str
    modes: tuple[tuple[nn.Module, bool], ...]

    @property
    def stale(self) -> bool:
        """Whether a module is in another mode than the one that the parts compute by."""
        return any(module.training != mode for module, mode in self.modes)


def find_cut(
    model: nn.Module,
    layers: Collection[str],
    shape: Sequence[int],
    *,
    path: FastPath = FastPath(),  # noqa: B008  # immutable
    precision: str = "fp32",
) -> Cut:
    """Return the cut of `model`, in its present mode, where all that depends on no layer but `layers` comes first.

    `shape` is that of an image, `[C, H, W]`. What is random, keeps a state or mixes the images of a batch is found by
    trying the operations on noise, and is left to the rest; both parts together are compared with the network, with its
    gradients, on a copy. Raises `NoCut` where there is nothing to compute apart, or that is not the same.
    """
    fixed = FixedLayers(model, layers)
    mixed = fixed.mixed()
    graph, constants = trace(model, mixed)
    try:
        copied = copy.deepcopy(model)
    except Exception as error:  # a person's own network
        raise NoCut(f"it cannot be copied: {describe(error)}") from error
    tensor = next(model.parameters())
    noise = torch.randn((len(_SCALES), *shape), generator=torch.Generator().manual_seed(0))
    noise *= torch.tensor(_SCALES).view(-1, *(1 for _ in shape))
    images = laid_out(noise.to(tensor.device), path)
    try:
        with preserved_rng(tensor.device):
            values = _Trial(copied, graph, constants, fixed, precision).run(images)
            parts = _Parts(graph, values)
            tried, wanted = (assemble(part, copied, constants) for part in parts.graphs)
            _check(copied, tried, wanted, images, precision)
    except NoCut:
        raise
    except Exception as error:
        raise NoCut(f"its parts cannot be computed: {describe(error)}") from error
    used = frozenset(_layers_of(parts.kept, fixed))
    if not used:
        raise NoCut("its first layer trains")
    first, rest = (assemble(part, model, constants) for part in parts.graphs)
    return Cut(
        first=first,
        rest=rest,
        specs=tuple(Spec.of(values[node][0]) for node in parts.boundary),
        layers=used,
        last=_name(parts.boundary[-1]),
        modes=tuple((model.get_submodule(path), model.get_submodule(path).training) for path in ("", *sorted(mixed))),
    )


def _name(node: fx.Node) -> str:
    """Return the module that computes the value of `node`, or else the operation."""
    while node.op != "call_module" and node.all_input_nodes:
        node = node.all_input_nodes[0]
    return str(node.target) if node.op == "call_module" else node.name


def _layers_of(nodes: Collection[fx.Node], fixed: FixedLayers) -> Iterator[str]:
    for node in nodes:
        if node.op == "call_module":
            yield from fixed.owners(str(node.target))[0]
        elif node.op == "get_attr" and any(user in nodes for user in node.users):
            name = str(node.target)
            yield name if name in fixed.names else name.rpartition(".")[0]


class _Trial:
    """Computes what may be cached node by node, and finds out what may not."""

    def __init__(
        self, model: nn.Module, graph: fx.Graph, constants: Mapping[str, Any], fixed: FixedLayers, precision: str
    ) -> None:
        self._model = model
        self._graph = graph
        self._constants = constants
        self._fixed = fixed
        self._precision = precision
        self._module = assemble(graph, model, dict(constants))
        placeholders = [node for node in graph.nodes if node.op == "placeholder"]
        self._images = placeholders[0]

    def run(self, images: Tensor) -> dict[fx.Node, tuple[Value, Value]]:
        """Return the values of what can be cached, for `images` and for the last and the first of them."""
        candidates: Collection[fx.Node] = self._candidates()
        fewer = images[[len(images) - 1, 0]]
        # Again without what may not be cached: it may have worked in place on what may.
        while len(values := self._compute(images, candidates)) < len(candidates):
            candidates = list(values)
        again = self._compute(fewer, values)
        good: dict[fx.Node, tuple[Value, Value]] = {}
        for node in values:
            known = node in again and all(other in good for other in node.all_input_nodes)
            if known and _of_each_image(values[node], again[node], len(images)):
                good[node] = values[node], again[node]
        return good

    def _candidates(self) -> list[fx.Node]:
        """Return the nodes that depend on images and on what is fixed, in their order."""
        found: dict[fx.Node, None] = {}
        for node in self._graph.nodes:
            stays = node is self._images or node.op in ("call_function", "call_method")
            if node.op == "get_attr":
                stays = node.target in self._constants or self._fixed.tensor(str(node.target))
            elif node.op == "call_module":
                stays = not self._fixed.owners(str(node.target))[1]
            if stays and all(other in found for other in node.all_input_nodes):
                found[node] = None
        return list(found)

    def _compute(self, images: Tensor, nodes: Collection[fx.Node]) -> dict[fx.Node, Value]:
        """Return the values of `nodes`, without those that draw random numbers or change a buffer, and what follows."""
        interpreter = fx.Interpreter(self._module, garbage_collect_values=False)
        interpreter.args_iter = iter([images.clone()])
        found: dict[fx.Node, Value] = interpreter.env
        with torch.no_grad(), autocast(self._precision, images.device):
            for node in nodes:
                if any(other not in found for other in node.all_input_nodes):
                    continue
                before = self._state(images.device)
                found[node] = interpreter.run_node(node)
                if self._state(images.device) != before:
                    del found[node]
        return dict(found)

    def _state(self, device: torch.device) -> tuple[object, ...]:
        drawn = (state.numpy().tobytes() for state in rng_states(device).values())
        return *drawn, *(buffer._version for buffer in self._model.buffers())


def _of_each_image(value: Value, again: Value, count: int) -> bool:
    """Whether `value`, of `count` images, says of each what `again` does, of the last and the first of them."""
    if isinstance(value, (tuple, list)) and type(value) is type(again) and len(value) == len(again):
        return all(_of_each_image(one, other, count) for one, other in zip(value, again, strict=True))
    if not isinstance(value, Tensor) or not isinstance(again, Tensor) or value.shape == again.shape:
        return True  # numbers are looked at where they are needed, and so is what has no batch
    places = [place for place, sizes in enumerate(zip(value.shape, again.shape, strict=False)) if sizes == (count, 2)]
    if len(places) != 1 or value.ndim != again.ndim:
        return True
    wanted = value.index_select(places[0], torch.tensor([count - 1, 0], device=value.device))
    return _close(again, wanted, _ALONE.get(value.dtype, _ROUGHLY))


def _close(one: Tensor, other: Tensor, share: float) -> bool:
    """Whether two tensors differ by no more than `share` of the largest number in one of them."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    if not one.is_floating_point():
        return torch.equal(one, other)
    one, other = one.detach().double(), other.detach().double()
    largest = max(float(other.abs().max()), 1e-6) if other.numel() else 0.0
    return bool(((one - other).abs() <= share * largest).all())


class _Parts:
    """The two graphs, from the traced one and the values of what can be cached (`_Trial.run`)."""

    def __init__(self, graph: fx.Graph, values: Mapping[fx.Node, tuple[Value, Value]]) -> None:
        self._graph = graph
        self.kept = dict(values)
        self.boundary: list[fx.Node] = []
        self._numbers: dict[fx.Node, Value] = {}
        self._images = next(node for node in graph.nodes if node.op == "placeholder")
        # Of what the rest needs, and cannot be kept for each image, it computes the last operation itself.
        while demoted := self._find_boundary():
            for node in graph.nodes:
                if node in demoted or any(other not in self.kept for other in node.all_input_nodes):
                    self.kept.pop(node, None)
        if not self.boundary or self.boundary == [self._images]:
            raise NoCut("its first layer trains")
        self.graphs = self._first(), self._rest()

    def _find_boundary(self) -> list[fx.Node]:
        self.boundary, self._numbers, demoted = [], {}, []
        for node, (value, again) in self.kept.items():
            if node.op == "get_attr" or all(user in self.kept for user in node.users):
                continue
            if _has_batch(value, again):
                self.boundary.append(node)
            elif (number := _number(value, again)) is not None:
                self._numbers[node] = number
            else:
                demoted.append(node)
        return demoted

    def _first(self) -> fx.Graph:
        graph = fx.Graph()
        known: dict[fx.Node, fx.Node] = {}
        for node in self.kept:
            if node.op == "get_attr" and not any(user in self.kept for user in node.users):
                continue
            known[node] = graph.node_copy(node, known.__getitem__)
        graph.output(tuple(known[node] for node in self.boundary))
        return graph

    def _rest(self) -> fx.Graph:
        graph = fx.Graph()
        known: dict[fx.Node, Value] = {node: graph.placeholder(f"features_{i}") for i, node in enumerate(self.boundary)}
        if any(map(_is_size, self._numbers.values())):
            size = graph.call_method("size", (known[self.boundary[0]], 0))
            known |= {node: size for node, value in self._numbers.items() if _is_size(value)}
        known |= {node: value for node, value in self._numbers.items() if not _is_size(value)}
        for node in self._graph.nodes:
            if node.op == "output":
                graph.output(map_arg(node.args[0], known.__getitem__))
            elif node.op == "get_attr" or node not in self.kept:
                if node.op == "placeholder" or self._checks_defaults(node):
                    continue
                arguments, named = (map_arg(some, known.__getitem__) for some in (node.args, node.kwargs))
                known[node] = graph.create_node(node.op, node.target, arguments, named, node.name, node.type)
        for node in reversed(graph.nodes):
            if node.op == "get_attr" and not node.users:
                graph.erase_node(node)
        return graph

    def _checks_defaults(self, node: fx.Node) -> bool:
        """Whether torch.fx put `node` there to check an argument that has its default value."""
        found = node.all_input_nodes
        return bool(found) and all(
            (other.op == "placeholder" and other is not self._images) or self._checks_defaults(other) for other in found
        )


_SIZE = object()


def _is_size(value: Value) -> bool:
    return value is _SIZE


def _number(value: Value, again: Value) -> Value | None:
    """Return what is the same for every batch, `_SIZE` where it is the number of images, None where it is neither."""
    if isinstance(value, (int, float, bool, str, torch.dtype, torch.device)):
        if value == again:
            return value
        return _SIZE if (value, again) == (len(_SCALES), 2) else None
    return None


def _has_batch(value: Value, again: Value) -> bool:
    """Whether it is a tensor whose first dimension counts the images."""
    found = isinstance(value, Tensor) and isinstance(again, Tensor) and value.layout is torch.strided
    return found and (value.shape[:1], again.shape) == ((len(_SCALES),), (2, *value.shape[1:]))


def _check(model: nn.Module, first: fx.GraphModule, rest: fx.GraphModule, images: Tensor, precision: str) -> None:
    """Compare both parts with `model`: outputs, gradients, buffers, random numbers. Raises `NoCut` for a difference."""
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}

    def computed(parts: bool) -> list[tuple[str, Tensor]]:
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                buffer.copy_(buffers[name])
        model.zero_grad(set_to_none=True)
        torch.manual_seed(0)
        with autocast(precision, images.device):
            if parts:
                with torch.no_grad():
                    features = first(images.clone())
                returned = rest(*(feature.clone() for feature in features))
            else:
                returned = model(images.clone())
        found = outputs_of(returned)
        heads = [found.logits, *found.auxiliary]
        if any(head.requires_grad for head in heads):
            weighted = [(head * torch.linspace(-1, 1, head.shape[-1], device=head.device)).sum() for head in heads]
            torch.stack(weighted).sum().backward()  # type: ignore[no-untyped-call]
        gradients = [(f"the gradient of {name}", p.grad) for name, p in model.named_parameters() if p.grad is not None]
        state = [*model.named_buffers(), ("its random numbers", torch.get_rng_state())]
        return [("its output", head.detach()) for head in heads] + gradients + [(n, t.clone()) for n, t in state]

    whole, both = computed(False), computed(True)
    if [name for name, _ in whole] != [name for name, _ in both]:
        raise NoCut("its parts train other weights than the whole")
    for (name, one), (_, other) in zip(whole, both, strict=True):
        share = _ROUGHLY if precision != "fp32" else _AGREES.get(one.dtype, _ROUGHLY)
        if not _close(other, one, share):
            raise NoCut(f"its parts do not compute what the whole does ({name} differs)")
