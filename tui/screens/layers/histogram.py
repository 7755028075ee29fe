"""A histogram as vertical bars."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from textual.content import Content
from textual.strip import Strip
from textual.widget import Widget

from finetui.tui.state.numbers import short
from finetui.tui.widgets.picture import image_mode
from finetui.tui.widgets.styled_line import line_strip

_EIGHTHS = " ▁▂▃▄▅▆▇█"
_ASCII = " ...:::##"  # for the same eighths
_FEWEST_BARS = 8
_LABEL = 6  # cells: the longest short count and a space


class Bars(NamedTuple):
    """The height of the bars at each column, in eighths of a cell; `most` stands for the full height.

    `zero` is the column of the value 0, None where it is out of range.
    """

    eighths: tuple[int, ...]
    most: int
    zero: int | None


def bars(edges: Sequence[float], counts: Sequence[int], width: int, height: int, *, logarithmic: bool) -> Bars:
    """Return the bars for `counts` between `edges` in `width` x `height` cells, neighbours added where it is narrow.

    What was found at all is at least one eighth high, so that rare values are not lost.
    """
    shown = min(len(counts), width)
    starts = [index * len(counts) // shown for index in range(shown + 1)]
    sums = [sum(counts[start:end]) for start, end in pairwise(starts)]
    most = max(sums)

    def eighths(count: int) -> int:
        if count <= 0:
            return 0
        share = math.log1p(count) / math.log1p(most) if logarithmic else count / most
        return max(round(share * 8 * height), 1)

    heights = [eighths(count) for count in sums]
    low, high = edges[0], edges[-1]
    zero = min(int(-low / (high - low) * width), width - 1) if low <= 0 <= high and high > low else None
    return Bars(tuple(heights[column * shown // width] for column in range(width)), most, zero)


def bar_lines(found: Bars, height: int, characters: str = _EIGHTHS) -> list[str]:
    """Return `found` as `height` lines from top to bottom; `characters` are those for 0 to 8 eighths of a cell."""
    return [
        "".join(characters[min(max(eighths - 8 * level, 0), 8)] for eighths in found.eighths)
        for level in range(height - 1, -1, -1)
    ]


def edge_labels(edges: Sequence[float], found: Bars) -> str:
    """Return the line of labels below the bars: the outer edges, and 0 where it is in range and there is room."""
    low, high = f"{edges[0]:.3g}", f"{edges[-1]:.3g}"
    width = max(len(found.eighths), len(low) + 1 + len(high))
    line = low.ljust(width - len(high)) + high
    zero = found.zero
    if zero is not None and len(low) < zero < width - len(high) - 1:
        line = f"{line[:zero]}0{line[zero + 1 :]}"
    return line


class Histogram(Widget):
    """Shows how often values fall between edges, with its axes where there is room."""

    DEFAULT_CSS = """
    Histogram { width: 1fr; height: 1fr; }
    """

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._edges: Sequence[float] = ()
        self._counts: Sequence[int] = ()
        self._lines: list[Content] = []
        self._drawn_for = (0, 0)
        self.logarithmic = False

    def show(self, edges: Sequence[float], counts: Sequence[int]) -> None:
        """Show `counts` between `edges`, of which there is one more; nothing where they do not fit together."""
        fits = counts and len(edges) == len(counts) + 1 and all(map(math.isfinite, edges))
        self._edges, self._counts = (edges, counts) if fits else ((), ())
        self._forget_lines()

    def toggle_log(self) -> None:
        """Switch the heights between linear and logarithmic."""
        self.logarithmic = not self.logarithmic
        self._forget_lines()

    def _forget_lines(self) -> None:
        self._drawn_for = (0, 0)
        self.refresh()

    def _drawn(self, width: int, height: int) -> list[Content]:
        plain = image_mode(self) == "ascii"
        margin = _LABEL if width >= _LABEL + _FEWEST_BARS and height >= 3 else 0
        axis = 2 if margin else 0
        found = bars(self._edges, self._counts, width - margin, height - axis, logarithmic=self.logarithmic)
        lines = bar_lines(found, height - axis, _ASCII if plain else _EIGHTHS)
        if not margin:
            return [Content.styled(line, "$bar") for line in lines]
        top = f"{short(found.most)} "
        sides = [top.rjust(margin), *[" " * margin] * (len(lines) - 1)]
        drawn = [Content.assemble((side, "$muted"), (line, "$bar")) for side, line in zip(sides, lines, strict=True)]
        across, tick = ("-", "+") if plain else ("─", "┴")
        ruler = across * len(found.eighths)
        if found.zero is not None:
            ruler = ruler[: found.zero] + tick + ruler[found.zero + 1 :]
        drawn.append(Content.styled(f"{'0 ':>{margin}}{ruler}", "$muted"))
        drawn.append(Content.styled(" " * margin + edge_labels(self._edges, found), "$muted"))
        return drawn

    def render_line(self, y: int) -> Strip:
        """Render one line."""
        if self._drawn_for != self.size:
            # Here, since a widget that comes into sight again is not told its size.
            self._drawn_for = self.size
            self._lines = self._drawn(*self.size) if self._counts and all(self.size) else []
        content = self._lines[y] if y < len(self._lines) else Content("")
        return line_strip(self, content, self.size.width)
