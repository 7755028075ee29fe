"""The module tree that the Layers screen lists, and which layers of it are frozen. Knows no widget."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple, Protocol, TypeVar

from finetui.engine.protocol.commands import AnyCommand, SetFrozen
from finetui.engine.protocol.events import LayerGroup, LayersMeasured, ModuleRow

HEALTHY = (1e-5, 1e-2)  # updates over weights outside of these deserve a look

Freeze = Literal["", "trains", "partly", "frozen", "bypassed", "freezing", "thawing"]


class TreeRow(Protocol):
    """A line of a tree: what is in it follows it, with a greater depth."""

    @property
    def key(self) -> str: ...  # noqa: D102

    @property
    def depth(self) -> int: ...  # noqa: D102


Row = TypeVar("Row", bound=TreeRow)


class Node(NamedTuple):
    """One line of the tree, `depth` 0 for the model itself.

    `path` is the module's; `key` tells it from the line of the parameters that a container owns itself, which bears
    the same path. `layers` names the layers of the layer table at and below it; `module` is None while it has not been
    described.
    """

    key: str
    path: str
    shown: str
    depth: int
    is_parent: bool
    layers: tuple[str, ...]
    parameters: int
    summary: str
    module: ModuleRow | None

    @property
    def views(self) -> tuple[str, ...] | None:
        """What of it can be looked at; None while nobody knows."""
        return None if self.module is None else self.module.views


def layer_tree(groups: Sequence[LayerGroup], modules: Sequence[ModuleRow], model: str) -> tuple[Node, ...]:
    """Return the tree of the network called `model`, parents before what is in them.

    It is that of `modules`; without a description, what the names in the layer table tell.
    """
    counts = {layer.name: layer.parameters for group in groups for layer in group.layers}
    summaries = {layer.name: layer.summary for group in groups for layer in group.layers}
    within = _within(counts)
    rows = {module.name: module for module in modules}
    paths = list(rows) or ["", *_implied(counts)]
    known = set(paths)
    # Tensors that the model itself owns are layers, but no modules.
    tensors = [name for name in counts if name not in known]
    paths[1:1] = tensors
    parents = {path.rpartition(".")[0] for path in paths if path}
    nodes: list[Node] = []
    for path in paths:
        row = rows.get(path)
        depth = 0 if not path else 1 if path in tensors else path.count(".") + 1
        layers = within.get(path, ())
        summary = row.summary or row.kind if row is not None else summaries.get(path, "")
        node = Node(
            key=path,
            path=path,
            shown=(path if path in tensors else path.rpartition(".")[2]) or model,
            depth=depth,
            is_parent=path in parents and len(paths) > 1,
            layers=layers,
            parameters=row.parameters if row is not None else sum(counts[name] for name in layers),
            summary=summary,
            module=row,
        )
        nodes.append(node)
        if node.is_parent and path in counts:
            own = node._replace(
                key=f"{path}.", shown="its own", depth=depth + 1, is_parent=False, layers=(path,), summary="parameters"
            )
            nodes.append(own._replace(parameters=counts[path], module=_without_numbers(row)))
    return tuple(nodes)


def layer_names(groups: Sequence[LayerGroup]) -> list[str]:
    """Return the names of all layers of the layer table."""
    return [layer.name for group in groups for layer in group.layers]


def _without_numbers(row: ModuleRow | None) -> ModuleRow | None:
    """Return what can be asked about a container's own parameters: the container's numbers are not theirs."""
    if row is None:
        return None
    views = tuple(view for view in row.views if view in ("filters", "weights"))
    return ModuleRow(name=row.name, depth=row.depth, kind=row.kind, summary=row.summary, own=row.own, views=views)


def _within(names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return the layers at and below every path, the model's (empty) included."""
    found: dict[str, list[str]] = {"": []}
    for name in names:
        found[""].append(name)
        pieces = name.split(".")
        for count in range(1, len(pieces) + 1):
            found.setdefault(".".join(pieces[:count]), []).append(name)
    return {path: tuple(layers) for path, layers in found.items()}


def _implied(names: Iterable[str]) -> list[str]:
    """Return the paths of the layers `names` and of all modules that they are in, parents first, in the same order."""
    first: dict[tuple[str, ...], int] = {}
    for name in names:
        pieces = tuple(name.split("."))
        for count in range(1, len(pieces) + 1):
            first.setdefault(pieces[:count], len(first))
    ordered = sorted(first, key=lambda pieces: [first[pieces[:count]] for count in range(1, len(pieces) + 1)])
    return [".".join(pieces) for pieces in ordered]


def visible(nodes: Sequence[Row], folded: Collection[str]) -> list[Row]:
    """Return `nodes` without what is in those that `folded` names by their keys."""
    found: list[Row] = []
    hidden_below: int | None = None
    for node in nodes:
        if hidden_below is not None and node.depth > hidden_below:
            continue
        hidden_below = node.depth if node.key in folded else None
        found.append(node)
    return found


def end_of(nodes: Sequence[Node], index: int) -> int:
    """Return the index after the last of what is in the node at `index`."""
    depth = nodes[index].depth
    return next((at for at in range(index + 1, len(nodes)) if nodes[at].depth <= depth), len(nodes))


def beside(nodes: Sequence[Node], index: int, side: int) -> tuple[str, ...]:
    """Return the layers above (`side` -1) or below (1) the node at `index`, which is not among them itself."""
    # A container would name the layers of its lines once more, and those of the node as well.
    part = nodes[:index] if side < 0 else nodes[end_of(nodes, index) :]
    return tuple(name for node in part if not node.is_parent for name in node.layers)


class LayerStates:
    """Which layers are frozen, or will be once `pending` commands are obeyed."""

    def __init__(self, groups: Sequence[LayerGroup] = (), pending: Iterable[AnyCommand] = ()) -> None:
        self._groups = groups
        self._frozen = {layer.name: layer.frozen for group in groups for layer in group.layers}
        self._bypassed = {layer.name for group in groups if not group.in_use for layer in group.layers}
        self._norms = {layer.name: layer.norm for group in groups for layer in group.layers if layer.norm}
        members = {group.name: tuple(layer.name for layer in group.layers) for group in groups}
        self._waiting: dict[str, bool] = {}
        for command in pending:
            if isinstance(command, SetFrozen):
                names = [name for group in command.groups for name in members.get(group, ())]
                self._waiting |= dict.fromkeys((*names, *command.layers), command.frozen)

    def of(self, node: Node) -> Freeze:
        """Return what holds for all layers of `node`; nothing where it has none."""
        layers = [name for name in node.layers if name not in self._bypassed]
        if not layers:
            return "bypassed" if node.layers else ""
        waiting = {self._waiting.get(name) for name in layers}
        if waiting in ({True}, {False}):
            return "freezing" if True in waiting else "thawing"
        frozen = {self._frozen.get(name, False) for name in layers}
        return "partly" if len(frozen) > 1 else "frozen" if True in frozen else "trains"

    @property
    def has_norms(self) -> bool:
        """Whether any layer is a normalisation with running statistics."""
        return bool(self._norms)

    def norm(self, node: Node) -> str:
        """Return which statistics the normalisation within `node` uses: "batch", "running", both ("mixed") or ""."""
        modes = {self._norms[name] for name in node.layers if name in self._norms}
        return "mixed" if len(modes) > 1 else next(iter(modes), "")

    def toggled(self, layers: Iterable[str]) -> SetFrozen | None:
        """Return the command that freezes `layers`, or unfreezes them where all are frozen; None if none can be.

        Whole groups go by their names.
        """
        names = [name for name in layers if name not in self._bypassed and name in self._frozen]
        if not names:
            return None
        wanted = set(names)
        whole = [group for group in self._groups if wanted.issuperset(layer.name for layer in group.layers)]
        covered = {layer.name for group in whole for layer in group.layers}
        return SetFrozen(
            groups=tuple(group.name for group in whole),
            layers=tuple(name for name in names if name not in covered),
            frozen=not all(self._frozen[name] for name in names),
        )


class Numbers(NamedTuple):
    """What one training step did to a line of the tree, as text; `mark` says what is wrong with the update."""

    gradient: str = ""
    update: str = ""
    mark: str = ""


def numbers(node: Node, measured: LayersMeasured | None) -> Numbers:
    """Return the gradient's norm over all layers of `node`, and the update of a single layer.

    Updates of several layers do not add up: of these the one that most deserves a mark is shown, if any does.
    """
    if measured is None:
        return Numbers()
    gradients = [measured.gradients[name] for name in node.layers if name in measured.gradients]
    updates = [measured.updates[name] for name in node.layers if name in measured.updates]
    gradient = scientific(math.hypot(*gradients)) if gradients else ""
    if not updates:
        return Numbers(gradient)
    worst = max(updates, key=_concern)
    mark = update_mark(worst)
    return Numbers(gradient, scientific(worst) if mark or len(node.layers) == 1 else "", mark)


def _concern(ratio: float) -> tuple[int, float]:
    """Return how much an update deserves a mark: no number most, then one too large, then one too small."""
    mark = update_mark(ratio)
    return ("", "↓", "↑", "!").index(mark), -ratio if mark == "↓" else ratio if mark == "↑" else 0.0


def update_mark(ratio: float) -> str:
    """Return ↑ for an update that is too large for its weights, ↓ for one too small, ! for one that is no number."""
    low, high = HEALTHY
    return "!" if math.isnan(ratio) else "↑" if ratio > high else "↓" if ratio < low else ""


def scientific(value: float) -> str:
    """Return `value` in two digits, with a short exponent where it is small or large: 3.9, 0.46, 1.2e-3."""
    if 0.1 <= value < 99.5:
        return f"{value:#.2g}".removesuffix(".")
    mantissa, _, exponent = f"{value:.1e}".partition("e")
    return f"{mantissa}e{int(exponent)}" if exponent and value else mantissa


def rate_factors(groups: Sequence[LayerGroup], factors: Sequence[float]) -> Mapping[str, float]:
    """Return the factor of the learning rate for each layer that trains; `factors` has one for each group, or none."""
    by_group = zip(groups, factors, strict=False) if factors else ((group, 1.0) for group in groups)
    return {layer.name: factor for group, factor in by_group for layer in group.layers if not layer.frozen}
