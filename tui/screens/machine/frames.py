"""A frame with a title, a line of figures, a graph of how the first of them went, and more lines if there is room."""

from collections.abc import Mapping, Sequence

import numpy as np
from rich.segment import Segment
from rich.style import Style
from textual.containers import VerticalScroll
from textual.content import Content
from textual.strip import Strip
from textual.widget import Widget

from finetui.tui.widgets import plot_geometry
from finetui.tui.widgets.compound import Compound
from finetui.tui.widgets.fitting import Part, fitting
from finetui.tui.widgets.plot_axes import Floats, Range
from finetui.tui.widgets.styled_line import changed_regions, line_strip

_LEAST_GRAPH = 2  # rows that a graph keeps when there are lines below it
_WIDTH, _HEIGHT = 40, 6  # cells that a frame should have
_LEAST_HEIGHT = 3  # its border and a line


class Frame(Widget):
    """Shows one part of the machine; only cells that changed are painted."""

    DEFAULT_CSS = """
    Frame {
        width: 1fr;
        height: 1fr;
        border: round $frame;
        border-title-color: $foreground;
        border-title-style: bold;
        padding: 0 1;
    }
    Frame > .frame--graph { color: $bar; }
    """
    COMPONENT_CLASSES = {"frame--graph"}

    def __init__(self, title: str, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self.border_title = Content(title)
        self._parts: Sequence[Part] = ()
        self._lines: Sequence[Content] = ()
        self._points: tuple[Floats, Floats] = (np.empty(0), np.empty(0))
        self._axes = (Range(0.0, 1.0), Range(0.0, 1.0))
        self._drawn: list[Strip] = []

    def show(
        self,
        parts: Sequence[Part],
        points: tuple[Floats, Floats] | None = None,
        axes: tuple[Range, Range] = (Range(0.0, 1.0), Range(0.0, 1.0)),
        lines: Sequence[Content] = (),
    ) -> None:
        """Show `parts` in one line, the `points` (x and y) as a graph between `axes`, and `lines` below it."""
        self._parts, self._lines, self._axes = parts, lines, axes
        self._points = points if points is not None else (np.empty(0), np.empty(0))
        if len(self._drawn) != self.content_size.height or not self._drawn:
            return  # not shown yet, or about to be painted at a new size
        before, self._drawn = self._drawn, self._draw()
        regions = [
            region  # within the border: Textual itself adds where that begins
            for y, (old, new) in enumerate(zip(before, self._drawn, strict=True))
            for region in changed_regions(old, new, y)
        ]
        if regions:
            self.refresh(*regions)

    def notify_style_update(self) -> None:
        """Render anew with the styles of another theme."""
        super().notify_style_update()
        self._drawn = []

    def render_line(self, y: int) -> Strip:
        """Render a line of what is within the border."""
        width, height = self.content_size
        if len(self._drawn) != height or (self._drawn and self._drawn[0].cell_length != width):
            self._drawn = self._draw()
        return self._drawn[y] if y < len(self._drawn) else Strip.blank(width, self.rich_style)

    def _draw(self) -> list[Strip]:
        width, height = self.content_size
        strips = [line_strip(self, fitting(self._parts, width), width)] if height else []
        has_graph = len(self._points[0]) > 1  # one value is no history
        room = height - len(strips)
        lines = self._lines[: max(room - _LEAST_GRAPH * has_graph, 0)]
        if has_graph and room - len(lines) > 0:
            strips += self._graph(width, room - len(lines))
        strips += [line_strip(self, line, width) for line in lines]
        return strips + [Strip.blank(width, self.rich_style)] * (height - len(strips))

    def _graph(self, width: int, rows: int) -> list[Strip]:
        x, y = self._points
        filled = np.stack([np.zeros_like(y), y], axis=1).ravel()
        chars = plot_geometry.band(np.repeat(x, 2), filled, self._axes, (width, rows))
        style: Style = self.get_component_rich_style("frame--graph")
        return [Strip([Segment("".join(row), style)], width) for row in chars.tolist()]


class Frames(Compound, VerticalScroll):
    """`frames` by their names, in as few columns as leave each high enough for a graph; many of them scroll."""

    DEFAULT_CSS = """
    Frames { layout: grid; height: 1fr; overflow-y: auto; scrollbar-size-vertical: 1; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.frames: dict[str, Frame] = {}
        self._shape: tuple[int, int, str] | None = None  # frames, columns, and the height of a row

    def have(self, titles: Mapping[str, str]) -> None:
        """Have a frame for each of `titles`, and no others."""
        if list(titles) != list(self.frames):
            for frame in self.frames.values():
                frame.remove()
            self.frames = {name: Frame(title) for name, title in titles.items()}
            self.mount_all(self.frames.values())
            self._arrange()

    def on_resize(self) -> None:
        """Arrange them anew."""
        self._arrange()

    def _arrange(self) -> None:
        if not self.frames or not self.size.height:
            return
        for columns in range(1, max(self.size.width // _WIDTH, 1) + 1):
            row = self.size.height // -(-len(self.frames) // columns)
            if row >= _HEIGHT:
                break
        shape = len(self.frames), columns, "1fr" if row >= _LEAST_HEIGHT else str(_LEAST_HEIGHT)
        if shape != self._shape:  # to set it again would lay out, and paint, all anew
            self._shape = shape
            _, self.styles.grid_size_columns, self.styles.grid_rows = shape
            for frame in self.frames.values():
                frame.styles.column_span = 1
            frame.styles.column_span = (
                columns - (len(self.frames) - 1) % columns
            )  # the last has what is left of its row
