"""The list of runs: a cursor, marks, and as many columns as there is room for."""

from collections.abc import Container
from typing import ClassVar

from rich.cells import cell_len
from textual import events
from textual.binding import BindingType
from textual.content import Content
from textual.geometry import Region
from textual.message import Message

from finetui.engine.runs.summaries import RunSummary
from finetui.tui.keys import bind, move
from finetui.tui.screens.status_lines import STATE_SIGNS
from finetui.tui.state.run_columns import COLUMNS, GAP, NONE, RunTable, cut
from finetui.tui.widgets.lines_view import LinesView

GUTTER = 4  # cells: a margin, the mark, the star, a gap
_FAINT = frozenset({"model", "data", "started", "took", "epoch", "parent", "size", "step"})


class RunList(LinesView[int]):
    """Shows a `RunTable`; the cursor stays on its run when the table changes."""

    CLICKS = True
    BINDINGS: ClassVar[list[BindingType]] = [
        move("up,k", "go(-1)"),
        move("down,j", "go(1)"),
        move("pageup", "page(-1)"),
        move("pagedown", "page(1)"),
        move("home", "go(-1000000)"),
        move("end", "go(1000000)"),
        bind("confirm", "choose", label="Open"),
    ]

    class Highlighted(Message):
        """The cursor is on another run, or on none."""

    class Chosen(Message):
        """The run under the cursor is to be opened."""

    class Laid(Message):
        """Other columns are shown, or the same ones in other places."""

    def __init__(self) -> None:
        super().__init__(id="runs-list")
        self._table = RunTable(())
        self._columns: dict[str, int] = {}
        self._marked: Container[str] = ()
        self._best: Container[str] = ()
        self._cursor = 0

    @property
    def run(self) -> RunSummary | None:
        """The run under the cursor."""
        return self._table.runs[self._cursor] if self._cursor < len(self._table.runs) else None

    @property
    def count(self) -> int:
        """How many runs are listed."""
        return len(self._table.runs)

    @property
    def columns(self) -> dict[str, int]:
        """The columns that are shown, with their cells."""
        return self._columns

    def show_table(self, table: RunTable, marked: Container[str], best: Container[str]) -> None:
        """Show `table` from now on, with a sign before the runs whose paths are in `marked`, and in `best`."""
        before = self.run
        self._table, self._marked, self._best = table, marked, best
        paths = [run.path for run in table.runs]
        if before is not None and before.path in paths:
            self._cursor = paths.index(before.path)
        self._cursor = max(min(self._cursor, len(paths) - 1), 0)
        self._lay_out()
        self.show(range(len(paths)))
        self.repaint()
        self._reveal()
        self.post_message(self.Highlighted())

    def on_resize(self) -> None:
        """Choose the columns anew."""
        super().on_resize()
        self._lay_out()
        self.call_after_refresh(self._reveal)

    def _lay_out(self) -> None:
        width = self.scrollable_content_region.width - GUTTER - 1
        longest = max(width * 2 // 5, 24)
        names = self._table.fitting(width, longest, last="note") if width > 0 else []
        columns = self._table.laid_out(names, width, longest)
        if columns != self._columns:
            self._columns = columns
            self.refresh()
            self.post_message(self.Laid())

    # -- how a run looks ------------------------------------------------------------------------------------

    def content_of(self, row: int, width: int) -> Content:
        """Return the line of run number `row`."""
        run = self._table.runs[row]
        mark = ("◆", "$accent") if run.path in self._marked else (" ", "")
        star = ("★", "$warning") if run.path in self._best else (" ", "")
        parts: list[str | tuple[str, str]] = [" ", mark, star, " "]
        for name, cells in self._columns.items():
            text = self._table.cells[name][row]
            parts += [(padded("" if text == NONE else text, name, cells), _style(name, run)), " " * GAP]
        line = Content.assemble(*parts[:-1])
        if row != self._cursor:
            return line
        style = "bold $on-selection on $selection" if self.has_focus else "$foreground on $panel"
        return Content(line.plain).truncate(width, pad=True).stylize(style)

    def on_focus(self) -> None:
        """Show where the cursor is."""
        self.repaint((self._cursor,))

    def on_blur(self) -> None:
        """Show that keys go elsewhere."""
        self.repaint((self._cursor,))

    # -- the cursor -----------------------------------------------------------------------------------------

    def action_go(self, by: int) -> None:
        """Go `by` runs down."""
        self._go_to(self._cursor + by)

    def action_page(self, by: int) -> None:
        """Go a page up or down."""
        self._go_to(self._cursor + by * max(self.scrollable_content_region.height - 1, 1))

    def _go_to(self, row: int) -> None:
        row = max(min(row, len(self._table.runs) - 1), 0)
        if row != self._cursor:
            before, self._cursor = self._cursor, row
            self.repaint((before, row))
            self._reveal()
            self.post_message(self.Highlighted())

    def _reveal(self) -> None:
        if self.size.height:  # while it is hidden, it cannot be told how far that is
            self.scroll_to_region(Region(0, self._cursor, 1, 1), animate=False, force=True)

    def action_choose(self) -> None:
        """Open the run under the cursor."""
        if self.run is not None:
            self.post_message(self.Chosen())

    def on_click(self, event: events.Click) -> None:
        """Go to the run that is clicked; open it where it is clicked twice."""
        event.stop()
        row = event.y + self.scroll_offset.y
        if row < len(self._table.runs):
            self._go_to(row)
            if event.chain == 2:
                self.action_choose()


def padded(text: str, name: str, cells: int) -> str:
    """Return `text` in the `cells` of the column `name`."""
    text = cut(text, cells)
    gap = " " * (cells - cell_len(text))
    return gap + text if COLUMNS[name].right else text + gap


def _style(name: str, run: RunSummary) -> str:
    if name == "name":
        return "bold" if run.live else ""
    if name == "state":
        return STATE_SIGNS[run.state][1]
    if name == "tag":
        return "$accent"
    return "$muted" if name in _FAINT else ""
