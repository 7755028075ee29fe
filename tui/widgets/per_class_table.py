"""The per-class table: how well each class is recognised, and what the last epoch changed."""

from typing import NamedTuple

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content

from engine.events import ClassReport
from tui.store import View
from tui.widgets.lines_view import LinesView
from tui.widgets.styled_line import StyledLine

_FIXED = 7 + 9 + 8 + 8  # columns of support, accuracy, F1 and change
_MIN_LABEL, _MAX_LABEL = 8, 24
_MIN_BAR, _MAX_BAR = 5, 40


class _Row(NamedTuple):
    label: str
    report: ClassReport | None  # None before the first evaluation
    change: float | None  # percentage points since the previous evaluation


def _layout(width: int, longest: int) -> tuple[int, int]:
    """Return the widths of label and bar in `width` cells; a bar that would be too short is left out."""
    label = max(_MIN_LABEL, min(longest + 1, _MAX_LABEL, width - _FIXED - 1))
    bar = width - label - _FIXED - 3
    return label, (min(bar, _MAX_BAR) if bar >= _MIN_BAR else 0)


class _Rows(LinesView[_Row]):
    longest = 0

    def content_of(self, row: _Row, width: int) -> Content:
        label_width, bar_width = _layout(width, self.longest)
        report = row.report
        label = Content(" " + row.label).truncate(label_width, ellipsis=True, pad=True)
        if report is None:
            return Content.assemble(label, (f"{'–':>7}{'–':>9}{'–':>8}", "$muted"))
        change = "" if row.change is None else f"{row.change:+.2f}" if abs(row.change) >= 0.005 else "="
        full = round(report.accuracy * bar_width)
        style = "" if not change or change == "=" else "$success" if change.startswith("+") else "$warning"
        return Content.assemble(
            label,
            f"{report.support:>7,}",
            (f"{100 * report.accuracy:>9.2f}", "bold"),
            f"{report.f1:>8.4f}",
            (f"{change:>8}", style),
            "  ",
            ("━" * full, "$accent"),
            ("─" * (bar_width - full), "$muted 50%"),
        )


class PerClassTable(Vertical):
    """Support, accuracy, F1, change since the previous evaluation, and a bar, for each class."""

    DEFAULT_CSS = """
    PerClassTable {
        #class-heading { color: $muted; text-style: bold; }
    }
    """

    def __init__(self) -> None:
        super().__init__(id="classes")
        self._shown: object = ()

    def compose(self) -> ComposeResult:
        """A heading and the rows."""
        yield StyledLine(id="class-heading")
        yield _Rows(id="class-rows")

    def on_resize(self) -> None:
        """Put the heading over its columns again."""
        self._show_heading()

    def show(self, view: View) -> None:
        """Bring the table up to date with `view`."""
        if self._shown is (view.evaluation or view.data):
            return
        self._shown = view.evaluation or view.data
        rows = self.query_one(_Rows)
        if view.evaluation is not None:
            before = view.previous.per_class if view.previous else (None,) * len(view.evaluation.per_class)
            found = [
                _Row(now.label, now, None if then is None else 100 * (now.accuracy - then.accuracy))
                for now, then in zip(view.evaluation.per_class, before, strict=True)
            ]
        else:
            found = [_Row(label, None, None) for label in (view.data.classes if view.data else ())]
        rows.longest = max((len(row.label) for row in found), default=_MIN_LABEL)
        rows.show(found)
        self._show_heading()

    def _show_heading(self) -> None:
        rows = self.query_one(_Rows)
        label_width, _ = _layout(rows.scrollable_content_region.width, rows.longest)
        heading = f"{' class':<{label_width}}{'images':>7}{'acc %':>9}{'F1':>8}{'change':>8}"
        self.query_one("#class-heading", StyledLine).show(Content(heading))
