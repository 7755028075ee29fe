"""Draws a plot: from curves, marks and a cursor to a picture of characters. No Textual."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from rich.cells import cell_len

from finetui.tui.widgets import plot_geometry
from finetui.tui.widgets.plot_axes import Floats, Points, Range, Ticks, format_value, x_range, y_axis
from finetui.tui.widgets.plot_picture import AXIS, BAND, BEST, BLANK, BORDER, SERIES, Frame, Picture, Piece

GLYPHS = (
    "●",
    "◆",
    "■",
    "▲",
    "▼",
    "○",
    "◇",
    "□",
)  # of the values of a series that shows them, so that colour is not all that differs
STAR = "★"
_LABEL_WIDTH = 4  # of the labels of the y axis, as long as they fit: then nothing moves when the range changes
_LEAST_COLUMNS = 4  # of a canvas
_FRAMED = (12, 4)  # the least width and height that leave room for a frame

_Canvas = tuple[tuple[int, int], plot_geometry.Dots, plot_geometry.Chars]  # a drawn line and what it was drawn from

_Band = tuple[tuple[object, ...], plot_geometry.Chars]


@dataclass(frozen=True)
class SeriesStyle:
    """How a series looks: a line and, with `points`, a glyph at each value, in the colour and glyph number `look`."""

    name: str
    points: bool = False
    look: int = 0


@dataclass(frozen=True, eq=False)
class PlotContent:
    """What a plot shows: `data` has x and y for each series, float64 `[n]` each, x rising.

    `x_limit` is where the run is planned to end, NaN where that is not known. `marks` are vertical lines with what
    they say. `means` are what lines are drawn of where `data` are extremes; if `smoothed`, always. `best` is the x of
    the value of the last series that gets a star. The values at the `cursor` stand in the title. Only what lies from
    the first to the second number of `window` is shown; None there is the end of the data, which `ends` says where
    that of all plots matters.
    """

    data: Sequence[Points]
    x_limit: float = math.nan
    marks: Sequence[tuple[float, str]] = ()
    means: Sequence[Points] | None = None
    smoothed: bool = False
    best: float | None = None
    cursor: float | None = None
    window: tuple[float, float | None] | None = None
    ends: tuple[float, float] | None = None
    x_label: str = "epoch"


@dataclass
class Plotter:
    """Draws pictures of one plot; `titles` are its titles from the longest to the shortest.

    With `percent`, values are shares of 1; without `bands` only means are drawn of columns with several values. It
    remembers the lines that it has `drawn`, and where the axes of the last picture were, and which title that had:
    `frame` and `title`.
    """

    series: Sequence[SeriesStyle]
    titles: Sequence[Sequence[Piece]]
    percent: bool = False
    log_x: bool = False
    log_y: bool = False
    bands: bool = True
    frame: Frame | None = None
    title: Sequence[Piece] = ()
    drawn: dict[int, _Canvas] = field(default_factory=dict)
    _bands: dict[int, _Band] = field(default_factory=dict)
    _ground: tuple[tuple[object, ...], Picture] | None = None

    def draw(self, content: PlotContent, size: tuple[int, int]) -> Picture:
        """Return the picture of `content` in `size` (width, height) cells."""
        self.frame = None
        if size[0] < _FRAMED[0] or size[1] < _FRAMED[1]:
            picture = Picture(*size)
            self._draw_title(picture, content, 0)
            return picture
        x_axis, axis, ticks, data = self.axes(content, size[1] - 2)
        # Below, the name of the x axis goes before its first label: where it is a long one, that is left out.
        named = min(len(content.x_label), _LABEL_WIDTH + 1)
        left = max(_LABEL_WIDTH, named, *(len(label) for _, label in ticks)) + 2
        key = (size, x_axis, axis, ticks, content.x_label, content.cursor, content.marks)
        if self._ground is None or self._ground[0] != key:
            self._ground = key, Picture(*size)
            self._draw_ground(Frame(self._ground[1], left, x_axis, axis), content, ticks)
        picture = self._ground[1].copy()
        frame = Frame(picture, left, x_axis, axis)
        if frame.columns >= _LEAST_COLUMNS:
            self._fill(frame, content, data)
            self.frame = frame
        self._draw_title(picture, content, 2)
        return picture

    def _draw_ground(self, frame: Frame, content: PlotContent, ticks: Ticks) -> None:
        """Draw what is behind the curves, and seldom changes."""
        frame.draw_border()
        if frame.columns >= _LEAST_COLUMNS:
            frame.draw_y_axis(ticks)
            frame.draw_x_axis(content.x_label, content.cursor)
            frame.draw_marks(content.marks)

    def _fill(self, frame: Frame, content: PlotContent, data: Sequence[Points]) -> None:
        if not any(len(y) for _, y in data):
            frame.draw_note("no data yet" if content.window is None else "no data here")
        elif plot_geometry.is_loaded():
            self._draw_curves(frame, content, data)
            axes = frame.x_axis, frame.y_axis
            best = self.best(content, axes)
            if best is not None:
                place = np.array(best[:1]), np.array(best[1:])
                frame.draw_points(plot_geometry.point_cells(*place, axes, (frame.columns, frame.rows)), STAR, BEST)
        frame.draw_labels(content.marks)
        if content.cursor is not None:
            frame.draw_cursor(content.cursor)
        hidden = min((float(y.min()) for _, y in data if len(y)), default=math.inf)
        if hidden < frame.y_axis.low:
            frame.draw_note(f"↓ from {format_value(hidden, percent=self.percent).strip()}", lowest=True)

    def axes(self, content: PlotContent, rows: int) -> tuple[Range, Range, Ticks, list[Points]]:
        """Return the x axis, the y axis, its ticks beside so many rows, and what there is between them."""
        data = [plot_geometry.usable(x, y, log=self.log_y) for x, y in content.data]
        x_axis, data = self._x_axis(data, content)
        axis, ticks = y_axis(data, rows, percent=self.percent, log=self.log_y)
        return x_axis, axis, ticks, data

    def _x_axis(self, data: Sequence[Points], content: PlotContent) -> tuple[Range, list[Points]]:
        """Return the x axis, and what there is within it."""
        ends = content.ends or [end for x, _ in data if len(x) for end in (x[0], x[-1])]
        if self.log_x:
            low, high = float(min(ends, default=1e-7)), float(max(ends, default=1.0))
            return Range(low, high if high > low else 2 * low, log=True), list(data)
        if content.window is not None:
            low, end = content.window
            last = float(max(ends, default=low))
            if end is None:
                end = x_range(low, max(last, low), content.x_limit).high
            axis = Range(low, end if end > low else low + 1.0)
            return axis, [plot_geometry.within(x, y, axis.low, axis.high) for x, y in data]
        if ends:
            return x_range(float(min(ends)), float(max(ends)), content.x_limit), list(data)
        whole = content.x_limit if math.isfinite(content.x_limit) and content.x_limit > 0 else 1.0
        return Range(0.0, whole), list(data)

    def lines(
        self, content: PlotContent, data: Sequence[Points], axes: tuple[Range, Range], size: tuple[int, int]
    ) -> list[tuple[plot_geometry.Dots, bool]]:
        """Return the line of each series as dots on a canvas of `size`, and whether it stands in front of a band."""
        lines = []
        for style, (x, y), means in zip(self.series, data, content.means or content.data, strict=True):
            mean_x, mean_y = plot_geometry.usable(*means, log=self.log_y)
            if content.window is not None:
                mean_x, mean_y = plot_geometry.within(mean_x, mean_y, axes[0].low, axes[0].high)
            dots = plot_geometry.mean_dots(mean_x, mean_y, axes, size)
            banded = bool(dots) or (content.smoothed and not style.points)
            if not dots:
                dots = plot_geometry.line_dots(*((mean_x, mean_y) if banded else (x, y)), axes, size)
            lines.append((dots, banded))
        return lines

    def _draw_curves(self, frame: Frame, content: PlotContent, data: Sequence[Points]) -> None:
        """Draw the bands, then the curves, each in front of those before it, and all glyphs last."""
        axes, size = (frame.x_axis, frame.y_axis), (frame.columns, frame.rows)
        lines = self.lines(content, data, axes, size)
        for index, ((_, banded), style, (x, y)) in enumerate(zip(lines, self.series, data, strict=True)):
            if banded and self.bands:
                area = plot_geometry.envelope(x, y, axes, size)
                key = (size, *(edge.tobytes() for edge in area))
                if index not in self._bands or self._bands[index][0] != key:
                    self._bands[index] = key, plot_geometry.filled(*area, size)
                frame.draw_canvas(self._bands[index][1], BAND + style.look)
        for index, (dots, _) in enumerate(lines):
            drawn = self.drawn.get(index)
            if drawn is None or drawn[:2] != (size, dots):  # most new values fall on dots that are there already
                drawn = self.drawn[index] = (size, dots, plot_geometry.draw(dots, size))
            frame.draw_canvas(drawn[2], SERIES + self.series[index].look)
        for index, style in enumerate(self.series):
            if style.points:
                cells = plot_geometry.point_cells(*self._inside(axes, content.data[index]), axes, size)
                frame.draw_points(cells, GLYPHS[style.look], SERIES + style.look)

    def _inside(self, axes: tuple[Range, Range], points: Points) -> Points:
        x, y = plot_geometry.usable(*points, log=self.log_y)
        inside = (x >= axes[0].low) & (x <= axes[0].high)
        return x[inside], y[inside]

    def best(self, content: PlotContent, axes: tuple[Range, Range]) -> tuple[float, float] | None:
        """Return x and y of the value that gets a star; None where it is not in sight."""
        if content.best is None:
            return None
        at = np.asarray(content.data[-1][0]) == content.best
        x, y = self._inside(axes, (content.data[-1][0][at], content.data[-1][1][at]))
        return (float(x[0]), float(y[0])) if len(x) else None

    # -- the title --------------------------------------------------------------------------------------

    def _draw_title(self, picture: Picture, content: PlotContent, margin: int) -> None:
        """Write the title at the left and, as far as there is room, the legend with its values at the right."""
        width = picture.size[0] - 2 * margin
        legends = self._legend(content)
        noted = [[*title, (" · log", AXIS)] for title in self.titles] if self.log_y else self.titles
        fitting = ((title, legend) for title in noted for legend in legends if _fits(title, legend, width))
        title, legend = next(fitting, (self.titles[-1], []))
        self.title = title
        around = ([(" ", BLANK)], [(" ", BLANK)]) if margin else ([], [])
        column = margin - 1 if margin else 0
        for text, owner in (*around[0], *title, *around[1]):
            column = picture.put(column, 0, text, owner)
        column = picture.size[0] - margin - sum(cell_len(text) for text, _ in legend) - (1 if margin else 0)
        for text, owner in (*around[0], *legend, *around[1]) if legend else ():
            column = picture.put(column, 0, text, owner)
        if margin:
            picture.put(picture.size[0] - 1, 0, "╮", BORDER)

    def _legend(self, content: PlotContent) -> tuple[list[Piece], list[Piece]]:
        """Return the legend as pieces of text with their owners, with the names of the series and without."""
        full: list[Piece] = []
        short: list[Piece] = []
        for index, style in enumerate(self.series):
            found = self.value(content, index)
            value = format_value(found, percent=self.percent)
            owner = SERIES + style.look
            mark = (GLYPHS[style.look] if style.points else "─", owner)
            latest = (value, AXIS if found is None else owner)
            name = f" {style.name} " if style.name else " "
            full += [("  " if index else "", BLANK), mark, (name, AXIS), latest]
            short += [(" " if index else "", BLANK), mark, (" ", AXIS), latest]
        return full, short

    def value(self, content: PlotContent, index: int) -> float | None:
        """Return the latest value of a series, or that nearest to the cursor; of a smoothed line, the line's."""
        if content.cursor is None:
            latest = content.means[index][1] if content.means and content.smoothed else content.data[index][1]
            finite = latest[np.isfinite(latest)]
            return float(finite[-1]) if len(finite) else None
        x, y = plot_geometry.usable(*(content.means or content.data)[index])
        return nearest(x, y, content.cursor)


def nearest(x: Floats, y: Floats, at: float) -> float | None:
    """Return the y of the point nearest to x = `at`; None where there is none."""
    return float(y[int(np.abs(x - at).argmin())]) if len(x) else None


def _fits(title: Sequence[Piece], legend: Sequence[Piece], width: int) -> bool:
    lengths = [sum(cell_len(text) for text, _ in pieces) for pieces in (title, legend)]
    return sum(lengths) + 1 <= width
