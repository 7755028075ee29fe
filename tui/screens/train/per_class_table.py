"""The per-class table: how well each class is recognised, and what the last epoch changed."""

from itertools import zip_longest
from typing import ClassVar, NamedTuple

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.geometry import Region
from textual.message import Message

from finetui.engine.predictions.interval import wilson
from finetui.engine.protocol.events import ClassReport, DataSummary, Evaluated
from finetui.engine.protocol.values import AnyPart, Part
from finetui.tui.state.store import View
from finetui.tui.widgets.lines_view import LinesView
from finetui.tui.widgets.styled_line import StyledLine

_COLUMNS = (("images", 7), ("acc %", 8), ("F1", 8), ("change", 8))
_AVERAGES = ("class-macro", "class-weighted")
_MIN_LABEL, _MAX_LABEL = 7, 24
_MIN_BAR, _MAX_BAR = 5, 40


class _Layout(NamedTuple):
    """The widths of the label, of the columns that fit, and of the bar (0: left out)."""

    label: int
    columns: tuple[int, ...]
    bar: int


def _layout(width: int, longest: int) -> _Layout:
    """Lay the table out in `width` cells; `longest` is the length of the longest label."""
    columns = tuple(size for _, size in _COLUMNS)
    while len(columns) > 2 and _MIN_LABEL + sum(columns) > width:
        columns = columns[:-1]
    label = max(_MIN_LABEL, min(longest + 2, _MAX_LABEL, width - sum(columns)))
    bar = width - label - sum(columns) - 3
    return _Layout(label, columns, min(bar, _MAX_BAR) if bar >= _MIN_BAR else 0)


class _Row(NamedTuple):
    place: int
    label: str
    report: ClassReport | None  # None before the first evaluation
    change: float | None  # percentage points since the previous evaluation


class _Rows(LinesView[_Row]):
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "Its images", show=False),
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("pageup", "move(-10)", "Page up", show=False),
        Binding("pagedown", "move(10)", "Page down", show=False),
        Binding("home", "move(-100000)", "First", show=False),
        Binding("end", "move(100000)", "Last", show=False),
    ]
    longest = 0
    cursor = 0

    def on_focus(self) -> None:
        """Show the cursor."""
        self.refresh()

    def on_blur(self) -> None:
        """Hide the cursor."""
        self.refresh()

    def action_move(self, by: int) -> None:
        """Move the cursor."""
        self.cursor = min(max(self.cursor + by, 0), max(len(self._rows) - 1, 0))
        self.scroll_to_region(Region(0, self.cursor, 1, 1), animate=False, force=True)
        self.refresh()

    def action_open(self) -> None:
        """Show the images of the class under the cursor."""
        if self.cursor < len(self._rows):
            self.post_message(PerClassTable.Chosen(self.cursor))

    def on_click(self, event: events.Click) -> None:
        """Show the images of the class that was hit."""
        index = event.y + self.scroll_offset.y
        if 0 <= index < len(self._rows):
            event.stop()
            self.cursor = index
            self.action_open()

    def content_of(self, row: _Row, width: int) -> Content:
        """Return the row's label, scores and bar."""
        content = self.scores(row, width)
        if row.place == self.cursor and self.has_focus:
            return content.truncate(width, pad=True).stylize("$on-selection on $selection")
        return content

    def scores(self, row: _Row, width: int) -> Content:
        """Return the label, scores and bar of `row`."""
        layout = _layout(width, self.longest)
        report = row.report
        label = Content(" " + row.label).truncate(layout.label, ellipsis=True, pad=True)
        if report is None:
            return Content.assemble(label, ("".join("–".rjust(size) for size in layout.columns), "$muted"))
        change = "" if row.change is None else f"{row.change:+.2f}" if abs(row.change) >= 0.005 else "="
        full = round(report.accuracy * layout.bar)
        cells = (
            (f"{report.support:,}", ""),
            (f"{100 * report.accuracy:.2f}", "bold"),
            (f"{report.f1:.4f}", ""),
            (change, "" if change in ("", "=") else "$success" if change.startswith("+") else "$error"),
        )
        return Content.assemble(
            label,
            *((text.rjust(size), style) for (text, style), size in zip(cells, layout.columns, strict=False)),
            "  " if layout.bar else "",
            ("━" * full, "$bar"),
            ("─" * (layout.bar - full), "$frame"),
        )


def _total(found: Evaluated, width: int) -> Content:
    """Return the accuracy of all images, with its interval and their number as far as there is room."""
    low, high = wilson(found.accuracy, found.n)
    accuracy = (f" {found.accuracy:.2%}", "bold")
    for words in (
        f" of {found.n:,} images, 95% CI {100 * low:.2f} to {high:.2%}",
        f" of {found.n:,}, 95% CI {100 * low:.2f} to {high:.2%}",
        f" of {found.n:,}, {100 * low:.2f} to {high:.2%}",
        f" of {found.n:,}",
    ):
        content = Content.assemble(accuracy, (words, "$muted"))
        if content.cell_length <= width:
            break
    return content


class PerClassTable(Vertical):
    """Support, accuracy, F1, change since the previous evaluation, and a bar, for each class; below, for all together.

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
        self._data: DataSummary | None = None

    def compose(self) -> ComposeResult:
        """A heading, the rows, and below them what all images amount to."""
        yield StyledLine(id="class-heading")
        yield _Rows(id="class-rows")
        yield StyledLine(id="class-accuracy")
        with Vertical(id="class-averages"):
            for name in _AVERAGES:
                yield StyledLine(id=name)

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
        rows = self.query_one(_Rows)
        if evaluation is not None:
            previous = view.previous if part == view.watched else None
            before = previous.per_class if previous else (None,) * len(evaluation.per_class)
            found = [
                _Row(index, now.label, now, None if then is None else 100 * (now.accuracy - then.accuracy))
                for index, (now, then) in enumerate(zip(evaluation.per_class, before, strict=True))
            ]
        else:
            classes = view.data.classes if view.data else ()
            found = [_Row(index, label, None, None) for index, label in enumerate(classes)]
        rows.longest = max((len(row.label) for row in found), default=_MIN_LABEL)
        rows.longest = max(rows.longest, len("weighted"))
        rows.show(found)
        self._evaluation = evaluation
        self._show_heading()
        self._show_totals()

    def _show_totals(self) -> None:
        """Show the accuracy with its interval, and where there is room the averages of the classes."""
        found, rows = self._evaluation, self.query_one(_Rows)
        total = Content("") if found is None else _total(found, rows.scrollable_content_region.width)
        self.query_one("#class-accuracy", StyledLine).show(total)
        averages = found.averages if found is not None else ()
        for name, report in zip_longest(_AVERAGES, averages[: len(_AVERAGES)]):
            line = Content("")
            if report is not None:
                row = _Row(-1, report.label.removesuffix(" avg"), report, None)
                line = rows.scores(row, rows.scrollable_content_region.width).stylize("$muted")
            self.query_one(f"#{name}", StyledLine).show(line)

    def _show_heading(self) -> None:
        rows = self.query_one(_Rows)
        layout = _layout(rows.scrollable_content_region.width, rows.longest)
        columns = (self._counted, *(name for name, _ in _COLUMNS[1:]))  # the number of images in the part
        names = "".join(name.rjust(size) for name, size in zip(columns, layout.columns, strict=False))
        self.query_one("#class-heading", StyledLine).show(Content(" class".ljust(layout.label) + names))
