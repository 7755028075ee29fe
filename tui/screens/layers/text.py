"""The words of the Layers screen. Knows no widget."""

from collections.abc import Sequence

from rich.cells import cell_len
from textual.content import Content

from finetui.engine.protocol.commands import DescribeModel
from finetui.engine.protocol.events import LayersMeasured, LayerView, ModelDescribed
from finetui.engine.protocol.paths import short as short_path
from finetui.engine.protocol.values import ModuleRow
from finetui.tui.keys import KEYS
from finetui.tui.state.empty import no_layers
from finetui.tui.state.layer_tree import Node, layer_tree, numbers
from finetui.tui.state.numbers import in_bytes, short
from finetui.tui.state.view import View

_FLOAT_BYTES = 4  # parameters are float32
_UPDATES_FROM = 98  # columns; below, there is no room for the updates
_LOOKS = {"filters": "filters", "feature-maps": "feature maps", "weights": "weights", "activations": "activations"}


def shape(sizes: tuple[int, ...]) -> str:
    """Return a tensor's shape as text: 16×8×8."""
    return "×".join(map(str, sizes))


def tree_of(view: View, modules: Sequence[ModuleRow]) -> tuple[Node, ...]:
    """Return the rows of the tree; none for a run that tells of no layers."""
    if not modules and not view.layers and no_layers(view):
        return ()
    return layer_tree(view.layers, tuple(modules), short_path(view.config.model.name))


def title(view: View) -> Content:
    """Return one line: how much of the network trains, and what the latest change of layers did to the speed."""
    trainable = sum(group.trainable for group in view.layers)
    share = f"  {trainable:,} of {view.parameters:,} parameters trainable" if view.layers or not no_layers(view) else ""
    effect = view.effect
    speed = f"  ·  {effect.speed_before:,.0f} → {effect.speed_after:,.0f} img/s" if effect is not None else ""
    return Content.assemble(
        (" Layers", "bold $accent"),
        share,
        (speed, "$muted"),
    )


def fitting(parts: Sequence[str], width: int, between: str = "  ·  ") -> str:
    """Return as many of `parts`, from the first on, as fit into `width` cells."""
    line = ""
    for part in parts:
        longer = f"{line}{between}{part}" if line else part
        if line and cell_len(longer) > width:
            break
        line = longer
    return line


def totals(view: View, described: ModelDescribed | None, problem: str, width: int) -> Content:
    """Return one line: what one image costs, and what the parameters do; or why that is not known."""
    if not view.layers and no_layers(view):
        return Content("")
    memory = f"{in_bytes(_FLOAT_BYTES * view.parameters)} of parameters"
    if described is not None and described.modules:
        root = described.modules[0]
        costs = [f"{short(root.flops)} FLOPs"] if root.flops is not None else []
        costs += [f"{1000 * described.seconds:,.2f} ms"] if described.seconds is not None else []
        image = [f"{' and '.join(costs)} per image"] if costs else []
        parts = [*image, memory, f"input {shape(described.input)}"]
    elif problem:
        return Content.styled(f" {problem}", "$muted" if view.never(DescribeModel) else "$warning")
    elif view.state == "preparing" or view.phase is not None:
        parts = [memory, f"{view.phase.name if view.phase is not None else 'the engine is getting ready'}…"]
    else:
        parts = [memory, "Loading…"]
    return Content.styled(f" {fitting(parts, width - 1)}", "$muted")


def notes(view: View, width: int, said: str) -> Content:
    """Return one line: what was just `said`, or what the numbers in the columns mean."""
    if said:
        return Content.styled(f" {said}", "$warning")
    parts = []
    if width >= _UPDATES_FROM and view.layers:
        parts.append("update: about 1e-3 is healthy, ↑ above 1e-2, ↓ below 1e-5")
    if any(group.norm for group in view.layers):
        does, key = "update" if view.norm_trains else "keep", KEYS["norm"].shown
        parts.append(f"frozen norm layers {does} their running statistics ({key})")
    return Content.styled(f" {fitting(parts, width - 1)}", "$muted")


def title_of(node: Node, measured: LayersMeasured | None, width: int) -> Content:
    """Return one line: which module it is, what it is, and what the latest measured step did to it."""
    found = numbers(node, measured)
    name = Content(node.path or node.shown)
    while name.cell_length > max(width // 2, 12):
        # Its end tells more than its beginning.
        name = Content(f"…{name.plain.removeprefix('…')[1:]}")
    parts = [(f"  {node.summary}", "$muted")] if node.summary else []
    parts += [(f"  gradient {found.gradient}", "$muted")] if found.gradient else []
    update = f"  update {found.update} {found.mark}".rstrip()
    parts += [(update, "$warning" if found.mark else "$muted")] if found.update else []
    if node.module is not None and node.module.flops:
        parts.append((f"  {short(node.module.flops)} FLOPs", "$muted"))
    left = width - name.cell_length
    shown = []
    for text, style in parts:
        left -= cell_len(text)
        if left >= 0:
            shown.append((text, style))
    return Content.assemble(name.stylize("bold"), *shown)


def not_to_be_seen(node: Node, view: str) -> str:
    """Return why the module does not have the `view`."""
    name = node.path or node.shown
    if view in ("feature-maps", "activations"):
        return f"{name} has no {_LOOKS[view]}: the forward pass does not call it, or it returns no tensor"
    inside = "; choose a layer inside it" if node.is_parent else ""
    if view == "filters" and node.module is not None and node.module.own:
        return f"the weights of {name} are one-dimensional: there are no filters to draw"
    return f"{name} has no weights of its own{inside}"


def statistics(view: LayerView, width: int) -> Content:
    """Return one line of at most `width` cells about the tensor that was looked at."""
    odd = f"{view.not_finite:,} not finite"
    parts = [shape(view.shape) or "1 value"]
    parts += [f"{view.minimum:.3g} to {view.maximum:.3g}", f"mean {view.mean:.3g}", f"zeros {view.zeros:.1%}"]
    parts += [odd] if not view.not_finite else []
    parts += [f"step {view.step:,}"] if view.step else []
    warning = f"! {odd}  " if view.not_finite else ""
    return Content.assemble((warning, "$error bold"), (fitting(parts, width - cell_len(warning), "  "), "$muted"))
