"""A tree of what can be frozen, as lines with a cursor: what both lists of layers have in common."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeVar

from textual import events
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.geometry import Region
from textual.message import Message

from finetui.tui.keys import bind, move
from finetui.tui.state.layer_tree import Freeze, TreeRow, visible
from finetui.tui.unavailable import SaysWhyNot
from finetui.tui.widgets.compound import Compound
from finetui.tui.widgets.lines_view import LinesView
from finetui.tui.widgets.styled_line import StyledLine

Row = TypeVar("Row", bound=TreeRow)

# Sign, word and style of what can be said about freezing.
SIGNS: Mapping[Freeze, tuple[str, str, str]] = {
    "": (" ", "", ""),
    "trains": ("□", "trains", "$accent"),
    "partly": ("◧", "partly", "$accent"),
    "frozen": ("■", "frozen", "$frozen"),
    "bypassed": ("·", "bypassed", "$muted"),
    "freezing": ("◌", "freezing", "$accent"),
    "thawing": ("◌", "thawing", "$accent"),
}


class FreezeRows(SaysWhyNot, LinesView[Row]):
    """The lines, the cursor in them, and which of them are folded; a subclass says how they look and are frozen."""

    CLICKS = True
    UNFOCUSED: ClassVar[str] = ""  # style of the cursor's line while keys go elsewhere
    BINDINGS: ClassVar[list[BindingType]] = [
        bind("toggle", "freeze", label="Freeze"),
        bind("confirm", "open", label="Open", show=False),
        bind("freeze_above", "freeze_side(-1)"),
        bind("freeze_below", "freeze_side(1)"),
        move("up,k", "move(-1)"),
        move("down,j", "move(1)"),
        move("pageup", "page(-1)"),
        move("pagedown", "page(1)"),
        move("home", "move(-100000)"),
        move("end", "move(100000)"),
    ]

    class Highlighted(Message):
        """The cursor is on another line, or the lines are others."""

    class LaidOut(Message):
        """The columns are others, or have other widths."""

    def __init__(self, *, id: str) -> None:  # noqa: A002
        super().__init__(id=id)
        self._all: Sequence[Row] = ()  # also what is folded away
        self._folded: set[str] = set()
        self._cursor = ""
        self.refusal = ""  # why nothing is frozen now, as a clause

    # -- what a subclass says ------------------------------------------------------------------------------

    def line_of(self, row: Row, width: int) -> Content:
        """Return how `row` looks where the cursor is not on it."""
        raise NotImplementedError

    def heading(self) -> str:
        """Return the line above the rows."""
        raise NotImplementedError

    def hit(self, row: Row, x: int) -> str:
        """Return what of `row` is in column `x`: the "mark" that folds it, the "state" that freezes it, or ""."""
        raise NotImplementedError

    def folded_at_first(self, rows: Sequence[Row]) -> set[str]:
        """Return the keys of those of `rows` that are folded when they replace the present ones."""
        raise NotImplementedError

    def first_chosen(self, rows: Sequence[Row]) -> str:
        """Return the key of the line where the cursor begins."""
        return rows[0].key if rows else ""

    def page_size(self) -> int:
        """Return by how many lines a page moves the cursor."""
        return max(self.size.height - 1, 1)

    # -- what is shown ------------------------------------------------------------------------------------

    @property
    def chosen(self) -> Row | None:
        """The row under the cursor."""
        index = self._index()
        return self._rows[index] if index < len(self._rows) else None

    def show_tree(self, rows: Sequence[Row]) -> None:
        """Show `rows`; what is folded, and the cursor, stay where the same ones are still there."""
        if not {row.key for row in rows} & {row.key for row in self._all if row.key}:
            self._all, self._folded, self._cursor = (), set(), self.first_chosen(rows)
        self._folded |= self.folded_at_first(rows)
        self._all = rows
        self._update_rows()

    def _update_rows(self) -> None:
        rows = visible(self._all, self._folded)
        keys = {row.key for row in rows}
        while self._cursor and self._cursor not in keys:
            self._cursor = self._cursor.rstrip(".").rpartition(".")[0]
        self.show(rows)
        self.post_message(self.LaidOut())
        self.post_message(self.Highlighted())

    def on_resize(self) -> None:
        """Lay the columns out anew."""
        self.refresh()
        self.post_message(self.LaidOut())

    def content_of(self, row: Row, width: int) -> Content:
        """Return the row's line, with the cursor if that is on it."""
        content = self.line_of(row, width)
        style = "$on-selection on $selection" if self.has_focus else self.UNFOCUSED
        if row.key != self._cursor or not style:
            return content
        content = content.truncate(width, pad=True).stylize(style)
        return content.stylize("bold") if self.has_focus else content

    # -- the cursor ---------------------------------------------------------------------------------------

    @property
    def cursor_line(self) -> int:
        """The line of the cursor among those in sight."""
        return self._index() - self.scroll_offset.y

    def on_focus(self) -> None:
        """Show that keys go here."""
        self.refresh_line(self._index())

    def on_blur(self) -> None:
        """Show that keys go elsewhere."""
        self.refresh_line(self._index())

    def _index(self) -> int:
        return next((index for index, row in enumerate(self._rows) if row.key == self._cursor), 0)

    def _reveal(self) -> None:
        if self._rows and self.size.height:
            self.scroll_to_region(Region(0, self._index(), 1, 1), animate=False, force=True)

    def _go_to(self, index: int) -> None:
        before, key = self._index(), self._cursor
        self._cursor = self._rows[index].key
        if self._cursor != key:
            self.refresh_line(before)
            self.refresh_line(index)
            self.post_message(self.Highlighted())
        self._reveal()

    def action_move(self, by: int) -> None:
        """Move the cursor."""
        if self._rows:
            self._go_to(min(max(self._index() + by, 0), len(self._rows) - 1))

    def action_page(self, by: int) -> None:
        """Move the cursor by pages."""
        self.action_move(by * self.page_size())

    def on_click(self, event: events.Click) -> None:
        """Move the cursor; on the mark also fold or unfold, on the state also freeze or unfreeze."""
        index = event.y + self.scroll_offset.y
        if not 0 <= index < len(self._rows):
            return
        event.stop()
        self._go_to(index)
        row = self._rows[index]
        match self.hit(row, event.x):
            case "mark":
                self.turn(row)
            case "state":
                self.action_freeze()

    def turn(self, row: Row) -> None:
        """Fold `row`, or unfold it."""
        self._folded ^= {row.key}
        self._update_rows()

    def action_open(self) -> None:
        """Show what is in the row under the cursor."""
        raise NotImplementedError

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """There is nothing to do where there are no rows."""
        return super().check_action(action, parameters) if self._rows else False

    def why_not(self, action: str, parameters: tuple[object, ...]) -> str:
        """Freezing may be refused; the cursor moves all the same."""
        freezes = self.refusal and action in ("freeze", "freeze_side")
        return f"freeze: {self.refusal}" if freezes else super().why_not(action, parameters)

    # -- freezing -----------------------------------------------------------------------------------------

    def action_freeze(self) -> None:
        """Freeze or unfreeze the row under the cursor."""
        raise NotImplementedError

    def action_freeze_side(self, side: int) -> None:
        """Freeze everything above (`side` -1) or below (1) the cursor; unfreeze it where all of it is frozen."""
        raise NotImplementedError


class FreezeTree(Compound, Vertical):
    """A heading above `rows`."""

    DEFAULT_CSS = """
    FreezeTree {
        #tree-heading { color: $muted; text-style: bold; }
    }
    """

    def __init__(self, rows: FreezeRows[Any], *, id: str) -> None:  # noqa: A002
        super().__init__(id=id)
        self._tree = rows

    def compose(self) -> ComposeResult:
        """A heading and the lines."""
        yield StyledLine(id="tree-heading")
        yield self._tree

    def on_freeze_rows_laid_out(self, message: FreezeRows.LaidOut) -> None:
        """Put the heading over its columns again."""
        message.stop()
        self.query_one("#tree-heading", StyledLine).show(Content(self._tree.heading()))
