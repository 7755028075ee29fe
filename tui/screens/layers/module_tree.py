"""The module tree of a network: a line for each module, with its numbers and whether it trains."""

from collections.abc import Sequence
from typing import ClassVar

from rich.cells import cell_len
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.geometry import Region
from textual.message import Message

from finetui.tui.screens.layers.columns import CURSOR_WIDTH, STATE_WIDTH, Column, Figures, cell, columns
from finetui.tui.screens.layers.text import shape
from finetui.tui.state.layer_tree import Node, beside, visible
from finetui.tui.widgets.lines_view import LinesView
from finetui.tui.widgets.styled_line import StyledLine

_OPEN_AT_FIRST = 40  # modules; of more, only the upper levels are unfolded


class ModuleRows(LinesView[Node]):
    """The lines and the cursor in them."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space,enter", "freeze", "Freeze", key_display="␣"),
        Binding("a", "freeze_side(-1)", "All above"),
        Binding("b", "freeze_side(1)", "All below"),
        Binding("right", "unfold", "Fold", key_display="←→"),
        Binding("left", "fold", "Fold", show=False),
        Binding("z", "fold_all", "Fold all", show=False),
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("pageup", "page(-1)", "Page up", show=False),
        Binding("pagedown", "page(1)", "Page down", show=False),
        Binding("home", "move(-100000)", "First", show=False),
        Binding("end", "move(100000)", "Last", show=False),
    ]

    def __init__(self) -> None:
        super().__init__(id="module-rows")
        self._modules: tuple[Node, ...] = ()
        self._folded: set[str] = set()
        self._figures = Figures()
        self._cursor = ""
        self._columns: tuple[Column, ...] = ()

    # -- what is shown ------------------------------------------------------------------------------------

    @property
    def chosen(self) -> Node | None:
        """The module under the cursor."""
        index = self._index()
        return self._rows[index] if index < len(self._rows) else None

    def show_tree(self, nodes: tuple[Node, ...]) -> None:
        """Show `nodes`; what is folded, and the cursor, stay where the same modules are still there."""
        if not {node.key for node in nodes} & {node.key for node in self._modules if node.key}:
            large = len(nodes) > _OPEN_AT_FIRST
            self._folded = {node.key for node in nodes if large and node.is_parent and node.depth >= 2}
            self._cursor = next((node.key for node in nodes if node.layers and not node.is_parent), "")
        elif len(self._modules) <= _OPEN_AT_FIRST < len(nodes):
            # The description tells of more modules than the layer table did.
            self._folded |= {node.key for node in nodes if node.is_parent and node.depth >= 2}
        self._modules = nodes
        self._update_rows()

    def show_figures(self, figures: Figures) -> None:
        """Show `figures` beside the modules."""
        self._figures = figures
        before, self._columns = self._columns, self.layout_columns()
        if self._columns == before:
            self.repaint()
        else:
            self.refresh()
            self.post_message(ModuleTree.LaidOut())

    def _update_rows(self) -> None:
        rows = visible(self._modules, self._folded)
        keys = {node.key for node in rows}
        while self._cursor and self._cursor not in keys:
            self._cursor = self._cursor.rstrip(".").rpartition(".")[0]
        self.show(rows)
        self._reveal()
        self.post_message(ModuleTree.Highlighted())

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns as they are laid out now."""
        return self._columns

    def layout_columns(self) -> tuple[Column, ...]:
        """Return the columns for the width that there is."""
        if not self.scrollable_content_region.width:
            return self._columns  # out of sight; it comes back as it was
        # Those of what is folded count as well, so that nothing moves when it is unfolded.
        name = max((2 * node.depth + 2 + cell_len(node.shown) for node in self._modules), default=0)
        output = max((len(shape(node.module.output)) for node in self._modules if node.module), default=0)
        factors = self._figures.factors.values()
        return columns(
            self.scrollable_content_region.width,
            name,
            output,
            norm=self._figures.states.has_norms,
            rate=any(factor != 1 for factor in factors),
        )

    # -- painting -----------------------------------------------------------------------------------------

    def show(self, rows: Sequence[Node]) -> None:
        """Show `rows` from now on."""
        before, self._columns = self._columns, self.layout_columns()
        super().show(rows)
        if self._columns != before:
            self.refresh()
        self.post_message(ModuleTree.LaidOut())

    def on_resize(self) -> None:
        """Lay the columns out anew."""
        self._columns = self.layout_columns()
        self.refresh()
        self._reveal()
        self.post_message(ModuleTree.LaidOut())

    def content_of(self, row: Node, width: int) -> Content:
        """Return the module's line."""
        here = row.key == self._cursor
        cells = [Content("› " if here else "  ")]
        cells += [cell(row, column, self._figures, self._folded) for column in self._columns]
        content = Content("").join(cells)
        if here:
            content = content.truncate(width, pad=True)
            return content.stylize("on $accent 30%").stylize("bold") if self.has_focus else content.stylize("on $panel")
        return content

    # -- the cursor ---------------------------------------------------------------------------------------

    def on_focus(self) -> None:
        """Show that keys go here."""
        self.refresh_line(self._index())

    def on_blur(self) -> None:
        """Show that keys go elsewhere."""
        self.refresh_line(self._index())

    def _index(self) -> int:
        return next((index for index, node in enumerate(self._rows) if node.key == self._cursor), 0)

    def _reveal(self) -> None:
        if self._rows and self.size.height:
            self.scroll_to_region(Region(0, self._index(), 1, 1), animate=False, force=True)

    def _go_to(self, index: int) -> None:
        before = self._index()
        self._cursor = self._rows[index].key
        if index != before:
            self.refresh_line(before)
            self.refresh_line(index)
            self.post_message(ModuleTree.Highlighted())
        self._reveal()

    def action_move(self, by: int) -> None:
        """Move the cursor."""
        if self._rows:
            self._go_to(min(max(self._index() + by, 0), len(self._rows) - 1))

    def action_page(self, by: int) -> None:
        """Move the cursor by what is in sight."""
        self.action_move(by * max(self.size.height - 1, 1))

    def on_click(self, event: events.Click) -> None:
        """Move the cursor; on the mark also fold or unfold, on the state also freeze or unfreeze."""
        index = event.y + self.scroll_offset.y
        if not 0 <= index < len(self._rows):
            return
        event.stop()
        self._go_to(index)
        node = self._rows[index]
        state = CURSOR_WIDTH + sum(column.width for column in self._columns[:3])
        if node.is_parent and event.x - CURSOR_WIDTH - 2 * node.depth in (0, 1):
            self._turn(node)
        elif state < event.x < state + STATE_WIDTH:
            self.action_freeze()

    # -- folding ------------------------------------------------------------------------------------------

    def _turn(self, node: Node) -> None:
        self._folded ^= {node.key}
        self._update_rows()

    def action_unfold(self) -> None:
        """Unfold the module, or go into it."""
        node = self.chosen
        if node is not None and node.key in self._folded:
            self._turn(node)
        elif node is not None and node.is_parent:
            self.action_move(1)

    def action_fold(self) -> None:
        """Fold the module, or go to the one that it is in."""
        node, index = self.chosen, self._index()
        if node is not None and node.is_parent and node.depth and node.key not in self._folded:
            self._turn(node)
        elif node is not None:
            above = range(index - 1, -1, -1)
            self._go_to(next((at for at in above if self._rows[at].depth < node.depth), index))

    def action_fold_all(self) -> None:
        """Fold everything below the upper level, or unfold all."""
        parents = {node.key for node in self._modules if node.is_parent and node.depth}
        self._folded = set() if self._folded else parents
        self._update_rows()

    # -- freezing -----------------------------------------------------------------------------------------

    def action_freeze(self) -> None:
        """Freeze or unfreeze the module."""
        if self.chosen is not None:
            self.post_message(ModuleTree.Toggled(self.chosen.layers))

    def action_freeze_side(self, side: int) -> None:
        """Freeze everything above or below the module; unfreeze it where all of it is frozen."""
        if self.chosen is not None:
            self.post_message(ModuleTree.Toggled(beside(self._modules, self._modules.index(self.chosen), side)))


class ModuleTree(Vertical):
    """A heading above the modules. Space, Enter or a click on the state asks for freezing, ← and → fold."""

    DEFAULT_CSS = """
    ModuleTree {
        #module-heading { color: $muted; text-style: bold; }
    }
    """

    class Toggled(Message):
        """Somebody wants `layers` to be frozen, or all trained where all are frozen."""

        def __init__(self, layers: tuple[str, ...]) -> None:
            super().__init__()
            self.layers = layers

    class Highlighted(Message):
        """The cursor is on another module, or the modules are others."""

    class LaidOut(Message):
        """The columns are others, or have other widths."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)

    def compose(self) -> ComposeResult:
        """A heading and the lines."""
        yield StyledLine(id="module-heading")
        yield ModuleRows()

    @property
    def rows(self) -> ModuleRows:
        """The lines."""
        return self.query_one(ModuleRows)

    def show_tree(self, nodes: tuple[Node, ...]) -> None:
        """Show `nodes`, in no more lines than they have when all are unfolded."""
        self.styles.height = len(nodes) + 1
        self.rows.show_tree(nodes)

    def on_click(self, event: events.Click) -> None:
        """A click on the heading does what the key for all does; those on lines are theirs."""
        if isinstance(event.widget, StyledLine):
            self.rows.action_fold_all()

    def on_module_tree_laid_out(self, message: LaidOut) -> None:
        """Put the heading over its columns again."""
        message.stop()
        line = " " * CURSOR_WIDTH
        for column in self.rows.columns:
            name = {"module": "  module", "kind": "what it is", "share": ""}.get(column.name, column.name)
            name = f"{name} " if column.name == "update" else name
            line += name.rjust(column.width) if column.right else name.ljust(column.width)
        self.query_one("#module-heading", StyledLine).show(Content(line))
