"""The per-class table: the classes with most mistakes first, and what they are mistaken for."""

from itertools import zip_longest
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.geometry import Region
from textual.message import Message

from finetui.engine.protocol.events import DataSummary, Evaluated
from finetui.engine.protocol.values import AnyPart, Part
from finetui.tui.keys import bind, move
from finetui.tui.screens.train.class_rows import (
    MOST_ROWS,
    ClassRow,
    Layout,
    Widest,
    average,
    heading,
    layout,
    line,
    total,
    widest,
    worst_first,
)
from finetui.tui.state.empty import no_classes
from finetui.tui.state.view import View
from finetui.tui.widgets.compound import Compound
from finetui.tui.widgets.lines_view import LinesView
from finetui.tui.widgets.styled_line import StyledLine

_AVERAGES = ("class-macro", "class-weighted")


class _Rows(LinesView[ClassRow]):
    CLICKS = True
    BINDINGS: ClassVar[list[BindingType]] = [
        bind("confirm", "open", label="Images"),
        move("up,k", "move(-1)"),
        move("down,j", "move(1)"),
        move("pageup", "move(-10)"),
        move("pagedown", "move(10)"),
        move("home", "move(-100000)"),
        move("end", "move(100000)"),
    ]
    cursor = 0
    _moved = False  # by a person
    _widest = Widest()

    def on_focus(self) -> None:
        """Show the cursor."""
        self.refresh()

    def on_blur(self) -> None:
        """Hide the cursor."""
        self.refresh()

    def show_worst(self, rows: list[ClassRow]) -> None:
        """Show `rows`; the cursor stays on the class that a person put it on, else it is on the worst one."""
        self._moved = self._moved and self.has_focus
        at = self._rows[self.cursor].number if self._moved and self.cursor < len(self._rows) else None
        self.cursor = next((place for place, row in enumerate(rows) if row.number == at), 0)
        self._widest = widest(rows)
        self.show(rows)
        if self.has_focus:
            self.action_move(0)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """There is nothing to do where there are no rows."""
        return bool(self._rows) and super().check_action(action, parameters)

    def action_move(self, by: int) -> None:
        """Move the cursor."""
        self._moved = self._moved or by != 0
        self.cursor = min(max(self.cursor + by, 0), max(len(self._rows) - 1, 0))
        self.scroll_to_region(Region(0, self.cursor, 1, 1), animate=False, force=True)
        self.refresh()

    def action_open(self) -> None:
        """Show the images of the class under the cursor."""
        if self.cursor < len(self._rows):
            self.post_message(PerClassTable.Chosen(self._rows[self.cursor].number))

    def on_click(self, event: events.Click) -> None:
        """Show the images of the class that was hit."""
        place = event.y + self.scroll_offset.y
        if 0 <= place < len(self._rows):
            event.stop()
            self.cursor = place
            self.action_open()

    @property
    def layout_now(self) -> Layout:
        """How the rows are laid out in the width that there is."""
        return layout(self.scrollable_content_region.width, self._widest)

    def content_of(self, row: ClassRow, width: int) -> Content:
        """Return the row's label, mistakes and figures."""
        report = self._rows[0].report
        content = line(row, self.layout_now, report.wrong if report is not None else 0)
        if self.has_focus and row.number == self._rows[self.cursor].number:
            return content.truncate(width, pad=True).stylize("$on-selection on $selection")
        return content


class PerClassTable(Compound, Vertical):
    """The mistakes of each class, worst first: a bar, how many, the change since the previous evaluation, and what most
    are predicted as; with room the other figures. Below stands what all images amount to.

    Enter or a click asks for a class's images.
    """

    DEFAULT_CSS = """
    PerClassTable {
        #class-heading { color: $muted; text-style: bold; }
        #class-averages { display: none; height: 2; }
    }
    """

    class Chosen(Message):
        """Somebody wants to see the images of the class `label`, by its number."""

        def __init__(self, label: int) -> None:
            super().__init__()
            self.label = label

    def __init__(self) -> None:
        super().__init__(id="classes")
        self.part: AnyPart = ""  # the part whose scores are shown; empty: that which is evaluated while training
        self._shown: object = ()
        self._evaluation: Evaluated | None = None
        self._counted: Part = "test"
        self._left_out = 0  # classes with fewer mistakes than any that is shown
        self._data: DataSummary | None = None

    def compose(self) -> ComposeResult:
        """A heading, the rows, and below them what all images amount to."""
        yield StyledLine(id="class-heading")
        yield _Rows(id="class-rows")
        yield StyledLine(id="class-accuracy")
        with Vertical(id="class-averages"):
            for name in _AVERAGES:
                yield StyledLine(id=name)

    def focus_rows(self) -> None:
        """Have keys go to the classes."""
        self.query_one(_Rows).focus()

    def on_resize(self) -> None:
        """Put the heading over its columns again, and the averages under them."""
        self._show_heading()
        self._show_totals()

    def show_part(self, part: Part, view: View) -> None:
        """Show the scores on `part` from now on."""
        self.part, self._data = part, view.data
        self.show(view)

    def show(self, view: View) -> None:
        """Bring the table up to date with `view`."""
        if view.data is not self._data:  # another run, which need not have the part that was chosen
            self.part, self._data = "", view.data
        part = self.part or view.watched
        evaluation = view.evaluation_of(part)
        if self._shown is (evaluation or view.data) and self._counted == part:
            return
        self._shown, self._counted = evaluation or view.data, part
        if evaluation is not None:
            found = worst_first(evaluation, view.previous if part == view.watched else None)
        else:
            classes = view.data.classes if view.data else ()
            found = [ClassRow(index, label, None) for index, label in enumerate(classes[:MOST_ROWS])]
        self._evaluation = evaluation
        self._left_out = (len(evaluation.per_class) if evaluation is not None else len(found)) - len(found)
        rows = self.query_one(_Rows)
        rows.show_worst(found)
        rows.say(no_classes(view) if view.data is not None else "")
        self._show_heading()
        self._show_totals()

    def _show_totals(self) -> None:
        """Show the accuracy with its interval, and where there is room the averages of the classes."""
        found, rows = self._evaluation, self.query_one(_Rows)
        width = rows.scrollable_content_region.width
        waits = found is None and self._data is not None and len(self._data.classes) > 0
        self.query_one("#class-accuracy", StyledLine).show(total(found, width) if found or waits else Content(""))
        averages = found.averages if found is not None else ()
        for name, report in zip_longest(_AVERAGES, averages[: len(_AVERAGES)]):
            content = Content("") if report is None else average(report, rows.layout_now, width)
            self.query_one(f"#{name}", StyledLine).show(content)

    def _show_heading(self) -> None:
        found = self.query_one(_Rows).layout_now
        known = self._evaluation is not None and self._evaluation.per_class
        names = heading(found, self._counted, self._left_out) if known else Content("")
        self.query_one("#class-heading", StyledLine).show(names)
