"""A scrolling list of lines that wrap, of which only those in sight are rendered."""

import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import ClassVar, Generic, TypeVar

from rich.cells import cell_len
from textual import events
from textual.binding import BindingType
from textual.content import Content
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from finetui.tui.keys import move
from finetui.tui.state.log_lines import LogLine, Undone, clock
from finetui.tui.widgets.styled_line import line_strip

Row = TypeVar("Row")
_STYLES = {"info": "", "warning": "$warning", "error": "$error bold"}
_SIGNS = {"info": " ", "warning": "!", "error": "✗"}
_UNDONE = "undone "
_KEPT = 500  # wrapped rows


class LogView(ScrollView, Generic[Row], can_focus=True):
    """Shows `rows`; a subclass says how one looks. While its end is in sight it stays there as rows are added."""

    DEFAULT_CSS = """
    LogView {
        height: 1fr;
        scrollbar-size-vertical: 1;
        scrollbar-size-horizontal: 0;
        scrollbar-gutter: stable;
        overflow-x: hidden;
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        move("up,k", "go(-1)"),
        move("down,j", "go(1)"),
        move("pageup", "page(-1)"),
        move("pagedown", "page(1)"),
        move("home", "begin"),
        move("end", "follow", "Follow", show=True),
    ]

    class Followed(Message):
        """The end is in sight now, or is not any more."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self.following = True
        self._rows: list[Row] = []
        self._tops: list[int] = [0]  # the first line of each row, and of the one after the last
        self._width = 0
        self._wrapped: dict[int, list[Content]] = {}
        self._pattern: re.Pattern[str] | None = None

    # -- how a row looks ------------------------------------------------------------------------------------

    def head(self, row: Row) -> Content:
        """Return what stands before the text of `row`, `head_width` cells."""
        raise NotImplementedError

    @property
    def head_width(self) -> int:
        """How many cells stand before the text."""
        raise NotImplementedError

    def plain(self, row: Row) -> str:
        """Return the text of `row`."""
        raise NotImplementedError

    def style(self, text: Content, row: Row) -> Content:
        """Return the text of `row` in its style."""
        raise NotImplementedError

    # -- what is shown --------------------------------------------------------------------------------------

    @property
    def rows(self) -> Sequence[Row]:
        """What is shown."""
        return self._rows

    def show(self, rows: Iterable[Row], pattern: re.Pattern[str] | None = None) -> None:
        """Show `rows` from now on, and mark what `pattern` finds in them."""
        self._rows = list(rows)
        self._pattern = pattern
        self._lay_out()

    def extend(self, rows: Sequence[Row]) -> None:
        """Add `rows` at the end."""
        self._rows += rows
        self._add_tops(rows)
        self._resize()

    def drop_last(self) -> None:
        """Take the last row away; what is to stand in its place has to follow at once."""
        self._rows.pop()
        self._tops.pop()
        self._wrapped.pop(len(self._rows), None)

    def drop_first(self, count: int) -> None:
        """Take the first `count` rows away; what is in sight stays where it is."""
        gone = self._tops[min(count, len(self._rows))]
        del self._rows[:count]
        self._tops = [top - gone for top in self._tops[count:]]
        self._wrapped.clear()
        at = self.scroll_offset.y - gone
        self._resize()
        if not self.following:
            self.scroll_to(y=max(at, 0), animate=False, force=True)

    def _lay_out(self) -> None:
        self._width = max(self.scrollable_content_region.width, 0)
        self._wrapped.clear()
        self._tops = [0]
        self._add_tops(self._rows)
        self._resize()

    def _add_tops(self, rows: Sequence[Row]) -> None:
        room = self._room
        top = self._tops[-1]
        for row in rows:
            text = self.plain(row)
            cells = len(text) if text.isascii() else cell_len(text)
            # Out of sight there is no width yet, and one would be wrong.
            top += 1 if cells <= room or not self._width else max(len(Content(text).wrap(room)), 1)
            self._tops.append(top)

    @property
    def _room(self) -> int:
        return max(self._width - self.head_width - 1, 10)

    def _resize(self) -> None:
        following = self.following
        self.virtual_size = Size(0, self._tops[-1])
        if following:
            self.scroll_end(animate=False, immediate=True, force=True)
            self.following = True
        self.refresh()

    # -- scrolling ------------------------------------------------------------------------------------------

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Note whether the end is in sight."""
        super().watch_scroll_y(old_value, new_value)
        following = new_value >= self.max_scroll_y
        if following != self.following:
            self.following = following
            self.post_message(LogView.Followed())

    def on_resize(self, _event: events.Resize) -> None:
        """Wrap anew, and keep the row at the top where it is."""
        width = self.scrollable_content_region.width
        if width == self._width:
            if self.following:
                self._resize()
            return
        row = bisect_right(self._tops, self.scroll_offset.y) - 1
        self._lay_out()
        if not self.following:
            self.scroll_to(y=self._tops[min(row, len(self._tops) - 1)], animate=False, force=True)

    # Not as Textual does it, smoothly: each step of that is a page to send.

    def action_go(self, by: int) -> None:
        """Scroll by lines."""
        self.scroll_to(y=self.scroll_offset.y + by, animate=False)

    def action_page(self, by: int) -> None:
        """Scroll by what is in sight."""
        self.action_go(by * max(self.size.height - 1, 1))

    def action_begin(self) -> None:
        """Go to the beginning."""
        self.scroll_home(animate=False)

    def action_follow(self) -> None:
        """Go to the end, and stay there."""
        self.scroll_end(animate=False)

    # -- painting -------------------------------------------------------------------------------------------

    def render_line(self, y: int) -> Strip:
        """Render one visible line."""
        width = self.scrollable_content_region.width
        line = y + self.scroll_offset.y
        if not 0 <= line < self._tops[-1]:
            return Strip.blank(width, self.rich_style)
        index = bisect_right(self._tops, line) - 1
        parts = self._parts(index)
        part = min(line - self._tops[index], len(parts) - 1)
        head = Content(" " * self.head_width) if part else self.head(self._rows[index])
        return line_strip(self, Content.assemble(head, parts[part]), width)

    def _parts(self, index: int) -> list[Content]:
        parts = self._wrapped.get(index)
        if parts is None:
            if len(self._wrapped) > _KEPT:
                self._wrapped.clear()
            row = self._rows[index]
            text = self.style(Content(self.plain(row)), row)
            if self._pattern is not None:
                text = text.highlight_regex(self._pattern, style="$accent bold underline")
            parts = self._wrapped[index] = text.wrap(self._room) or [Content("")]
        return parts


class JournalView(LogView[LogLine]):
    """The journal: time, step, sign and text; what is undone is struck through and says so."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self.undone = Undone()
        self._dated = False
        self._step_width = 1

    def show_columns(self, *, dated: bool, highest_step: int) -> None:
        """Show the date beside the time, and leave room for steps up to `highest_step`. Takes effect with `show`."""
        self._dated = dated
        self._step_width = min(len(f"{highest_step:,}"), 15)

    @property
    def head_width(self) -> int:
        """Time, step, sign, and what is between them."""
        return 1 + (15 if self._dated else 8) + 2 + self._step_width + 1 + 2

    def head(self, row: LogLine) -> Content:
        """Return time, step and sign."""
        when = clock(row.time, "%d %b %H:%M:%S") if self._dated else row.clock
        step = f"{row.step:,}"[-self._step_width :].rjust(self._step_width)
        sign = "↶" if row.undoes >= 0 else _SIGNS[row.level]
        style = "$accent bold" if row.undoes >= 0 else _STYLES[row.level]
        return Content.assemble(
            (f" {when}  {step} ", "$muted"), (f"{sign} ", "$muted" if self._is_undone(row) else style)
        )

    def plain(self, row: LogLine) -> str:
        """Return the text, and whether it is undone."""
        return _UNDONE + row.text if self._is_undone(row) else row.text

    def style(self, text: Content, row: LogLine) -> Content:
        """Show by colour how bad it is, or that it is undone."""
        if self._is_undone(row):
            return text.stylize("$muted").stylize("strike", len(_UNDONE))
        return text.stylize(_STYLES[row.level]) if _STYLES[row.level] else text

    def _is_undone(self, row: LogLine) -> bool:
        return row in self.undone


class OutputView(LogView[str]):
    """What programs printed, as they did."""

    head_width = 1

    def head(self, row: str) -> Content:
        """Nothing but a margin."""
        return Content(" ")

    def plain(self, row: str) -> str:
        """Return the line."""
        return row

    def style(self, text: Content, row: str) -> Content:
        """Leave it plain."""
        return text
