"""A scrolling list of lines, rendered only where it can be seen."""

from collections.abc import Iterable, Sequence
from typing import ClassVar, Generic, TypeVar

from textual import events
from textual.content import Content
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from finetui.tui.widgets.styled_line import changed_regions, hovered, line_strip

Row = TypeVar("Row")


class LinesView(ScrollView, Generic[Row], can_focus=True):
    """Shows `rows`, one line each; a subclass says how a row looks. Its cost does not depend on their number.

    Where it `CLICKS`, the line below the pointer is marked.
    """

    CLICKS: ClassVar[bool] = False

    DEFAULT_CSS = """
    LinesView {
        height: 1fr;
        scrollbar-size-vertical: 1;
        scrollbar-size-horizontal: 0;
        overflow-x: hidden;
    }
    """

    def __init__(self, *, follow: bool = False, id: str | None = None) -> None:  # noqa: A002
        """With `follow` the view stays at the end while rows are added, unless somebody scrolled away from it."""
        super().__init__(id=id)
        self._rows: Sequence[Row] = ()
        self._follow = follow
        self._drawn: dict[int, Strip] = {}  # the lines as they are on the screen
        self._instead = ""
        self._pointed: int | None = None  # the line in sight that the pointer is on

    def show(self, rows: Sequence[Row]) -> None:
        """Show `rows` from now on."""
        if rows is self._rows:
            return
        before, self._rows = self._rows, rows
        if len(before) != len(rows):
            self.virtual_size = Size(0, len(rows))
            self.refresh()
            return
        self.repaint()

    def say(self, text: str) -> None:
        """Show `text`, muted and in as many lines as it takes, while there are no rows."""
        if text != self._instead:
            self._instead = text
            self.repaint()

    def repaint(self, rows: Iterable[int] | None = None) -> None:
        """Paint those cells in sight that look otherwise by now: they are all that is sent.

        Where only some `rows` can look otherwise, no others are looked at.
        """
        if not self._drawn:  # what is on the screen was drawn before it had this size
            self.refresh()
        top = self.scroll_offset.y
        looked_at = list(self._drawn) if rows is None else [row - top for row in rows]
        for y, drawn in [(y, self._drawn[y]) for y in looked_at if y in self._drawn]:
            regions = changed_regions(drawn, self.render_line(y), y)
            if regions:
                self.refresh(*regions)

    def on_mount(self) -> None:
        """Stay at the end, if asked to."""
        if self._follow:
            self.anchor()

    def content_of(self, row: Row, width: int) -> Content:
        """Return how `row` looks in `width` cells."""
        raise NotImplementedError

    def render_line(self, y: int) -> Strip:
        """Render one visible line."""
        width = self.scrollable_content_region.width
        index = y + self.scroll_offset.y
        if 0 <= index < len(self._rows):
            content = self.content_of(self._rows[index], width)
            if y == self._pointed:
                content = hovered(self, content.truncate(width, ellipsis=True, pad=True))
            strip = line_strip(self, content, width)
        elif self._instead and not self._rows:
            said = Content.styled(self._instead, "$muted").wrap(max(width - 2, 1))
            strip = line_strip(self, said[y].pad_left(1) if y < len(said) else Content(""), width)
        else:
            strip = Strip.blank(width, self.rich_style)
        self._drawn[y] = strip
        return strip

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """Mark the line below the pointer."""
        self._point(event.y if self.CLICKS else None)

    def on_leave(self) -> None:
        """Mark none."""
        self._point(None)

    def _point(self, y: int | None) -> None:
        if y != self._pointed:
            before, self._pointed = self._pointed, y
            self.repaint([at + self.scroll_offset.y for at in (before, y) if at is not None])

    def on_resize(self) -> None:
        """Forget lines that are not on the screen any more."""
        self._drawn.clear()
