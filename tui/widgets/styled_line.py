"""One line of styled text that repaints only the cells that changed."""

from textual.content import Content
from textual.geometry import Region
from textual.strip import Strip
from textual.visual import Visual
from textual.widget import Widget


def line_strip(widget: Widget, content: Content, width: int) -> Strip:
    """Return the first `width` cells of `content` in the style of `widget`, theme variables resolved."""
    if width <= 0:
        return Strip.blank(0)
    strips = Visual.to_strips(widget, content.truncate(width, ellipsis=True), width, 1, widget.visual_style)
    strip = strips[0] if strips else Strip.blank(width)
    return strip.adjust_cell_length(width, widget.rich_style)


def changed_cells(old: Strip, new: Strip) -> tuple[int, int] | None:
    """Return the first changed cell and the one after the last changed cell, or None if nothing changed."""
    if old == new:
        return None
    before = [(char, segment.style) for segment in old for char in segment.text]
    after = [(char, segment.style) for segment in new for char in segment.text]
    if len(before) != len(after) or old.cell_length != len(before) or new.cell_length != len(after):
        return 0, max(old.cell_length, new.cell_length)  # wide characters: cells and characters differ
    differing = [i for i, (a, b) in enumerate(zip(before, after, strict=True)) if a != b]
    return (differing[0], differing[-1] + 1) if differing else None


class StyledLine(Widget):
    """Shows one line of `Content`; over a slow link a changed digit costs a few bytes, not the whole line."""

    DEFAULT_CSS = """
    StyledLine { height: 1; width: 1fr; }
    """

    def __init__(self, content: Content | None = None, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._content = content or Content("")
        self._strip = Strip.blank(0)

    def show(self, content: Content) -> None:
        """Show `content` from now on."""
        self._content = content
        if not self.is_attached or not self.size.width:
            return
        new = line_strip(self, content, self.size.width)
        span = changed_cells(self._strip, new)
        if span is not None:
            self._strip = new
            self.refresh(Region(span[0], 0, span[1] - span[0], 1))

    def notify_style_update(self) -> None:
        """Render anew with the styles of another theme."""
        super().notify_style_update()
        self._strip = Strip.blank(0)

    def render_line(self, y: int) -> Strip:
        """Render the line."""
        if y:
            return Strip.blank(self.size.width, self.rich_style)
        if self._strip.cell_length != self.size.width:
            self._strip = line_strip(self, self._content, self.size.width)
        return self._strip
