"""What is seen behind a box: the screen below it, dimmed.

Textual renders and dims all of that screen for each paint of the box. Here it is done once for each line, and again
when that line changes. It relies on private names of Textual's, as `frames.py` does.
"""

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.geometry import Region
from textual.message_pump import MessagePump
from textual.screen import Screen
from textual.strip import Strip

if TYPE_CHECKING:
    _Base = Screen[Any]
else:
    _Base = MessagePump  # as for `Compound`


@lru_cache(maxsize=2048)
def _dimmed(style: Style, veil: Color) -> Style:
    """Return `style` as it is seen through `veil`."""
    found, ground = (
        None if colour is None else (Color.from_rich_color(colour) + veil).rich_color
        for colour in (style.color, style.bgcolor)
    )
    return style.clear_meta_and_links() + Style.from_color(found, ground)


class Backdrop(_Base):
    """A first base of a screen in a box: where its ground is no colour of its own, that shows the screen below."""

    _lines_below: dict[int, Strip] = {}

    def render_lines(self, crop: Region) -> list[Strip]:
        """Render the lines; those of the screen below that are not known are asked for together."""
        lines = self._styles_cache
        if lines._width != self.size.width:
            lines.clear()
        unknown = [y for y in crop.line_range if lines.is_dirty(y) or y not in lines._cache]
        below = self._below()
        if unknown and below is not None:
            span = Region(0, unknown[0], below.size.width, unknown[-1] - unknown[0] + 1)
            chops = below._compositor._render_chops(span, set(unknown).__contains__)
            self._lines_below = {y: Strip.join(chops[y].values()) for y in unknown if y < len(chops)}
        try:
            return super().render_lines(crop)
        finally:
            self._lines_below = {}

    def render_line(self, y: int) -> Strip:
        """Return a line of the screen below, dimmed."""
        strip = self._lines_below.get(y)
        if strip is None:
            return super().render_line(y)
        veil, plain = self.styles.background, Style.null()
        seen = [Segment(text, _dimmed(style or plain, veil)) for text, style, control in strip if not control]
        return Strip(seen, strip.cell_length)

    def _below(self) -> "Screen[Any] | None":
        stack = self.app.screen_stack
        at = stack.index(self) if self in stack and self.styles.background.a < 1 else 0
        return stack[at - 1] if at else None
