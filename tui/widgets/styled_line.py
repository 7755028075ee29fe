"""One line of styled text that repaints only the cells that changed."""

from textual.content import Content
from textual.geometry import Region
from textual.strip import Strip
from textual.visual import Visual
from textual.widget import Widget

_NEAR = 12  # cells: moving the cursor and setting a colour again takes as many bytes


def line_strip(widget: Widget, content: Content, width: int) -> Strip:
    """Return the first `width` cells of `content` in the style of `widget`, theme variables resolved."""
    if width <= 0:
        return Strip.blank(0)
    strips = Visual.to_strips(widget, content.truncate(width, ellipsis=True), width, 1, widget.visual_style)
    strip = strips[0] if strips else Strip.blank(width)
    return strip.adjust_cell_length(width, widget.rich_style)


def hovered(widget: Widget, content: Content) -> Content:
    """Return `content` as it looks below the pointer, where a click does something."""
    return content.stylize_before("underline" if widget.app.has_class("-few-colours") else "on $panel")


def changed_regions(old: Strip, new: Strip, y: int) -> list[Region]:
    """Return the parts of line `y` that differ; those near each other are one, since going there costs bytes, too."""
    if old == new:
        return []
    before = [(char, segment.style) for segment in old for char in segment.text]
    after = [(char, segment.style) for segment in new for char in segment.text]
    if len(before) != len(after) or old.cell_length != len(before) or new.cell_length != len(after):
        # Wide characters: cells and characters differ.
        return [Region(0, y, max(old.cell_length, new.cell_length), 1)]
    differing = [i for i, (a, b) in enumerate(zip(before, after, strict=True)) if a != b]
    regions: list[Region] = []
    for cell in differing:
        if regions and cell - regions[-1].right < _NEAR:
            regions[-1] = Region(regions[-1].x, y, cell + 1 - regions[-1].x, 1)
        else:
            regions.append(Region(cell, y, 1, 1))
    return regions


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
        same = content.is_same(self._content)
        self._content = content
        if same or not self.is_attached or not self.size.width:
            return
        new = line_strip(self, content, self.size.width)
        regions = changed_regions(self._strip, new, 0)
        if regions:
            self._strip = new
            self.refresh(*regions)

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
