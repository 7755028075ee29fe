"""The columns of the module tree: which of them fit, and what stands in them."""

from collections.abc import Collection, Mapping
from typing import NamedTuple

from textual.content import Content

from finetui.engine.protocol.events import LayersMeasured
from finetui.tui.screens.layers.text import shape
from finetui.tui.state.layer_tree import LayerStates, Node, Numbers, numbers
from finetui.tui.state.numbers import short
from finetui.tui.widgets.freeze_tree import SIGNS

CURSOR_WIDTH, STATE_WIDTH = 2, 12
_MIN_NAME, _ENOUGH_OF_NAME, _MAX_NAME = 12, 28, 40
_MAX_KIND = 48
_MIN_OUTPUT, _MAX_OUTPUT = 8, 16


class Figures(NamedTuple):
    """What the lines show beside the tree itself; `factors` are those of the layers' learning rates, `wrong` the
    paths of modules that an audit found something wrong in.
    """

    states: LayerStates = LayerStates()
    measured: LayersMeasured | None = None
    factors: Mapping[str, float] = {}
    wrong: Collection[str] = ()


class Column(NamedTuple):
    """A column: its heading, its width in cells, and whether it is aligned to the right."""

    name: str
    width: int
    right: bool = True


def columns(width: int, name: int, output: int, *, norm: bool, rate: bool) -> tuple[Column, ...]:
    """Return the columns that fit into `width` cells beside the names, those that matter most if not all do.

    `name` and `output` are the widths that would show all; `norm` and `rate` tell whether these have anything to show.
    """
    name = min(max(name + 1, _MIN_NAME), _MAX_NAME)
    first = [Column("output", min(max(output + 2, _MIN_OUTPUT), _MAX_OUTPUT)), Column("params", 9)]
    first.append(Column("state", STATE_WIDTH, False))
    steps = [Column("FLOPs", 8), Column("gradient", 10), Column("update", 11)]
    details = [*([Column("norm", 9)] if norm else []), *([Column("rate", 7)] if rate else [])]
    time, share, kind = Column("time", 8), Column("share", 11, False), Column("kind", 16, False)
    choices = [[*first, *steps, *details, time, share, kind], [*first, *steps, *details, time]]
    choices += [[*first, *steps, time], [*first, time]]
    for chosen in choices:
        left = width - CURSOR_WIDTH - sum(column.width for column in chosen)
        if left >= min(name, _ENOUGH_OF_NAME):
            break
    named = min(name, max(left, 1))
    if chosen[-1] == kind:
        chosen[-1] = kind._replace(width=min(kind.width + left - named, _MAX_KIND))
    return (Column("module", named, False), *chosen)


def cell(row: Node, column: Column, figures: Figures, folded: Collection[str]) -> Content:
    """Return what stands in `column` of the module's line, as wide as the column."""
    text, style = _text(row, column, figures, folded)
    cut = Content.styled(text, style).truncate(column.width - column.right, ellipsis=True)
    gap = " " * (column.width - cut.cell_length)
    return Content.assemble(gap, cut) if column.right else Content.assemble(cut, gap)


def _text(row: Node, column: Column, figures: Figures, folded: Collection[str]) -> tuple[str, str]:
    """Return what stands in a column, and its style."""
    module = row.module
    match column.name:
        case "module":
            mark = "▸ " if row.key in folded else "▾ " if row.is_parent else "  "
            return "  " * row.depth + mark + row.shown, ""
        case "output" if module is not None:
            return shape(module.output) or "–", "" if module.output else "$muted"
        case "params":
            return (short(row.parameters), "") if row.parameters else ("–", "$muted")
        case "state":
            sign, word, style = SIGNS[figures.states.of(row)]
            if row.path in figures.wrong:
                return f"  ✗ {word}", "$error bold"
            return f"  {sign} {word}", style
        case "FLOPs" if module is not None:
            return ("–", "$muted") if module.flops is None else (short(module.flops), "")
        case "gradient" | "update":
            return _measure(numbers(row, figures.measured), column.name)
        case "norm":
            return figures.states.norm(row), "$muted"
        case "rate":
            factors = {figures.factors[name] for name in row.layers if name in figures.factors}
            return (f"×{factors.pop():.3g}" if len(factors) == 1 else ""), "$muted"
        case "time" if module is not None:
            return ("–", "$muted") if module.time is None else (f"{module.time:.1%}", "")
        case "share" if module is not None and module.time is not None:
            full = round(min(max(module.time, 0.0), 1.0) * (column.width - 2))
            return " " + "━" * full, "$bar"
        case "kind":
            return row.summary, "$muted"
    return "", ""


def _measure(found: Numbers, name: str) -> tuple[str, str]:
    if name == "gradient":
        return found.gradient, ""
    return f"{found.update} {found.mark or ' '}" if found.update or found.mark else "", "$warning" if found.mark else ""
