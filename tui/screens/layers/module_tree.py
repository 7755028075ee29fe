"""The module tree of a network: a line for each module, with its numbers and whether it trains."""

from collections.abc import Sequence
from typing import ClassVar

from rich.cells import cell_len
from textual import events
from textual.binding import BindingType
from textual.content import Content
from textual.message import Message

from finetui.tui.keys import bind, move
from finetui.tui.screens.layers.columns import CURSOR_WIDTH, STATE_WIDTH, Column, Figures, cell, columns
from finetui.tui.screens.layers.text import shape
from finetui.tui.state.layer_tree import Node, beside
from finetui.tui.widgets.freeze_tree import FreezeRows, FreezeTree
from finetui.tui.widgets.styled_line import StyledLine

_OPEN_AT_FIRST = 40  # modules; of more, only the upper levels are unfolded


class ModuleRows(FreezeRows[Node]):
    """The lines, which fold at every level."""

    UNFOCUSED = "on $panel"
    BINDINGS: ClassVar[list[BindingType]] = [
        move("left", "fold", "Fold"),
        move("right", "unfold", "Unfold"),
        bind("fold_all", show=False),
    ]

    def __init__(self) -> None:
        super().__init__(id="module-rows")
        self._figures = Figures()
        self._columns: tuple[Column, ...] = ()

    # -- what is shown ------------------------------------------------------------------------------------

    def first_chosen(self, rows: Sequence[Node]) -> str:
        """Return the key of the first module that can be frozen and has none in it."""
        return next((node.key for node in rows if node.layers and not node.is_parent), "")

    def folded_at_first(self, rows: Sequence[Node]) -> set[str]:
        """Return the keys of the lower levels, where there are more modules than there were."""
        # The description may tell of more modules than the layer table did.
        large = len(self._all) <= _OPEN_AT_FIRST < len(rows)
        return {node.key for node in rows if large and node.is_parent and node.depth >= 2}

    def show_figures(self, figures: Figures) -> None:
        """Show `figures` beside the modules."""
        self._figures = figures
        before, self._columns = self._columns, self.layout_columns()
        if self._columns == before:
            self.repaint()
        else:
            self.refresh()
            self.post_message(self.LaidOut())

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns as they are laid out now."""
        return self._columns

    def layout_columns(self) -> tuple[Column, ...]:
        """Return the columns for the width that there is."""
        if not self.scrollable_content_region.width:
            return self._columns  # out of sight; it comes back as it was
        # Those of what is folded count as well, so that nothing moves when it is unfolded.
        name = max((2 * node.depth + 2 + cell_len(node.shown) for node in self._all), default=0)
        output = max((len(shape(node.module.output)) for node in self._all if node.module), default=0)
        factors = self._figures.factors.values()
        return columns(
            self.scrollable_content_region.width,
            name,
            output,
            norm=self._figures.states.has_norms,
            rate=any(factor != 1 for factor in factors),
        )

    def show(self, rows: Sequence[Node]) -> None:
        """Show `rows` from now on."""
        before, self._columns = self._columns, self.layout_columns()
        super().show(rows)
        if self._columns != before:
            self.refresh()
        self._reveal()

    def on_resize(self) -> None:
        """Lay the columns out anew."""
        self._columns = self.layout_columns()
        self._reveal()

    def line_of(self, row: Node, width: int) -> Content:
        """Return the module's line."""
        cells = [Content("› " if row.key == self._cursor else "  ")]
        cells += [cell(row, column, self._figures, self._folded) for column in self._columns]
        return Content("").join(cells)

    def heading(self) -> str:
        """Return the line above the modules."""
        if not self._rows:
            return ""
        line = " " * CURSOR_WIDTH
        for column in self._columns:
            name = {"module": "  module", "state": "  state", "kind": "layer type", "share": ""}.get(
                column.name, column.name
            )
            name = f"{name} " if column.name == "update" else name
            line += name.rjust(column.width) if column.right else name.ljust(column.width)
        return line

    # -- folding and freezing -----------------------------------------------------------------------------

    def hit(self, row: Node, x: int) -> str:
        """Return what of the module's line is in column `x`."""
        state = CURSOR_WIDTH + sum(column.width for column in self._columns[:3])
        if row.is_parent and x - CURSOR_WIDTH - 2 * row.depth in (0, 1):
            return "mark"
        return "state" if state < x < state + STATE_WIDTH else ""

    def action_unfold(self) -> None:
        """Unfold the module, or go into it."""
        node = self.chosen
        if node is not None and node.key in self._folded:
            self.turn(node)
        elif node is not None and node.is_parent:
            self.action_move(1)

    def action_fold(self) -> None:
        """Fold the module, or go to the one that it is in."""
        node, index = self.chosen, self._index()
        if node is not None and node.is_parent and node.depth and node.key not in self._folded:
            self.turn(node)
        elif node is not None:
            above = range(index - 1, -1, -1)
            self._go_to(next((at for at in above if self._rows[at].depth < node.depth), index))

    def action_fold_all(self) -> None:
        """Fold everything below the upper level, or unfold all."""
        parents = {node.key for node in self._all if node.is_parent and node.depth}
        self._folded = set() if self._folded else parents
        self._update_rows()

    def action_open(self) -> None:
        """Fold or unfold the module, or look into it where there is none in it."""
        node = self.chosen
        if node is not None and node.is_parent and node.depth:
            self.turn(node)
        elif node is not None and not node.is_parent:
            self.post_message(ModuleTree.Opened())

    def action_freeze(self) -> None:
        """Freeze or unfreeze the module."""
        if self.chosen is not None:
            self.post_message(ModuleTree.Toggled(self.chosen.layers))

    def action_freeze_side(self, side: int) -> None:
        """Freeze everything above or below the module; unfreeze it where all of it is frozen."""
        if self.chosen is not None:
            self.post_message(ModuleTree.Toggled(beside(self._all, self._all.index(self.chosen), side)))


class ModuleTree(FreezeTree):
    """A heading above the modules. Space or a click on the state asks for freezing, Enter opens, ← and → fold."""

    class Opened(Message):
        """Somebody wants to see more of the module under the cursor."""

    class Toggled(Message):
        """Somebody wants `layers` to be frozen, or all trained where all are frozen."""

        def __init__(self, layers: tuple[str, ...]) -> None:
            super().__init__()
            self.layers = layers

    def __init__(self) -> None:
        self.rows = ModuleRows()
        super().__init__(self.rows, id="layers-tree")

    def show_tree(self, nodes: tuple[Node, ...]) -> None:
        """Show `nodes`, in no more lines than they have when all are unfolded."""
        self.styles.height = len(nodes) + 1
        self.rows.show_tree(nodes)

    def on_click(self, event: events.Click) -> None:
        """A click on the heading does what the key for all does; those on lines are theirs."""
        if isinstance(event.widget, StyledLine):
            self.rows.action_fold_all()
