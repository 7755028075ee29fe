"""A screen without colours: what the palette says by colour is said by bold, underlined and reverse text."""

from functools import lru_cache

from rich.color import Color as RichColor
from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.filter import LineFilter

from finetui.tui.colours.palettes import Mark, marks

_NO_COLOURS = Style.from_color(RichColor.default(), RichColor.default())
_NOTHING = Mark()


class MarksForColours(LineFilter):
    """Takes the colours away, and marks what had one that means something; for styles made from the palette "none"."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """Return the segments in the terminal's own two colours."""
        return [Segment(text, _NO_COLOURS if style is None else marked(style)) for text, style, _ in segments]


@lru_cache(maxsize=1024)
def marked(style: Style) -> Style:
    """Return `style` with attributes instead of colours."""
    text, ground = _mark(style.color), _mark(style.bgcolor)
    bold, underline, reverse = (one or other for one, other in zip(text, ground, strict=True))
    return style + _NO_COLOURS + Style(bold=bold or None, underline=underline or None, reverse=reverse or None)


def _mark(colour: RichColor | None) -> Mark:
    return _NOTHING if colour is None or colour.triplet is None else marks().get(colour.triplet, _NOTHING)
