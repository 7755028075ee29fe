"""A plot of up to eight curves over the epochs (or another quantity) that repaints only the cells that changed."""

import asyncio
import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip
from textual.widget import Widget

from finetui.tui.widgets import plot_geometry
from finetui.tui.widgets.plot_geometry import Floats, Range
from finetui.tui.widgets.plot_picture import AXIS, BAND, BLANK, MOST_SERIES, SERIES, TITLE, Frame, Picture

_STYLES = (
    "line-plot--title",
    "line-plot--axis",
    "line-plot--mark",
    *(f"line-plot--series-{number}" for number in range(1, MOST_SERIES + 1)),
    *(f"line-plot--band-{number}" for number in range(1, MOST_SERIES + 1)),
)
_GLYPHS = ("●", "◆", "■", "▲", "▼", "○", "◇", "□")
_LABEL_WIDTH = 4  # of the labels of the y axis, as long as they fit: then nothing moves when the range changes
_AXIS_LINE_HEIGHT = 9  # rows from which on the x axis gets a row of its own

Points = tuple[Floats, Floats]
_Canvas = tuple[tuple[int, int], plot_geometry.Dots, plot_geometry.Chars]  # a drawn line and what it was drawn from


@dataclass(frozen=True)
class SeriesStyle:
    """How a series looks: a line and, with `points`, a glyph at each value, so that colour is not all that differs."""

    name: str
    points: bool = False


class LinePlot(Widget):
    """Shows up to `MOST_SERIES` series over the epochs; a subclass gives those after the third their colours.

    Where there are more values than room, the line joins the means of the columns, in front of a faint band from the
    least to the greatest value of each.
    plotext draws the curves; it is imported in a thread when there is something to draw, and until then the plot
    shows its axes. Title, legend and ticks are drawn here, in places that do not move while a curve grows.
    """

    DEFAULT_CSS = """
    LinePlot {
        width: 1fr;
        height: 1fr;
        & > .line-plot--title { color: $foreground; text-style: bold; }
        & > .line-plot--axis { color: $plot-axis; }
        & > .line-plot--mark { color: $plot-mark; }
        & > .line-plot--series-1 { color: $train-curve; }
        & > .line-plot--series-2 { color: $evaluation-curve; }
        & > .line-plot--series-3 { color: $third-curve; }
        & > .line-plot--band-1 { color: $train-band; }
        & > .line-plot--band-2 { color: $evaluation-band; }
        & > .line-plot--band-3 { color: $third-band; }
    }
    """
    COMPONENT_CLASSES = set(_STYLES)

    def __init__(
        self,
        title: str,
        series: Sequence[SeriesStyle],
        *,
        percent: bool = False,
        x_label: str = "epoch",
        log_x: bool = False,
        bands: bool = True,
        id: str | None = None,  # noqa: A002
        classes: str | None = None,
    ) -> None:
        """With `percent`, values are shares of 1, shown as percents on an axis that ends at 100 %.

        Without `bands` means are all that is drawn of columns with several values.
        """
        super().__init__(id=id, classes=classes)
        if not 1 <= len(series) <= len(_GLYPHS):
            raise ValueError(f"a plot has 1 to {len(_GLYPHS)} series, not {len(series)}")
        self._title = title
        self._series = tuple(series)
        self._percent = percent
        self._x_label = x_label
        self._log_x = log_x
        self._bands = bands
        self._log_y = False
        self._data: tuple[Points, ...] = tuple((np.empty(0), np.empty(0)) for _ in series)
        self._means = self._data
        self._x_limit = math.nan
        self._marks: tuple[float, ...] = ()
        self._picture = Picture(0, 0)
        self._canvases: list[_Canvas | None] = [None] * len(series)
        self._cell_styles: list[Style] = []  # by owner, of the present picture
        self._loading = False

    @property
    def log_y(self) -> bool:
        """Whether the y axis is logarithmic."""
        return self._log_y

    def set_data(
        self,
        data: Sequence[Points],
        x_limit: float,
        marks: Sequence[float] = (),
        *,
        means: Sequence[Points] | None = None,
    ) -> None:
        """Show `data`, x and y for each series, in a run planned until `x_limit`, with events at `marks`.

        `means`, where `data` are extremes, are what the means of columns are taken from. Values that are not finite are
        left out. Only cells that differ from the present picture are repainted.
        """
        means = data if means is None else means
        if not len(data) == len(means) == len(self._series):
            raise ValueError(f"{self._title}: {len(self._series)} series, but data for {len(data)}")
        self._data = tuple((np.array(x, dtype=float), np.array(y, dtype=float)) for x, y in data)
        self._means = tuple((np.array(x, dtype=float), np.array(y, dtype=float)) for x, y in means)
        self._x_limit, self._marks = float(x_limit), tuple(float(mark) for mark in marks)
        self._update()

    def rename(self, index: int, name: str) -> None:
        """Call the series `index` by another name; what is drawn next has it."""
        self._series = tuple(
            dataclasses.replace(style, name=name) if place == index else style
            for place, style in enumerate(self._series)
        )

    def toggle_log(self) -> None:
        """Change between a linear and a logarithmic y axis; the latter leaves values that are not positive out."""
        self._log_y = not self._log_y
        self._update()

    def on_mount(self) -> None:
        """Load plotext if data came before the widget was mounted."""
        self._load()

    def _load(self) -> None:
        """Have plotext imported in a thread, once there is something to draw."""
        if plot_geometry.is_loaded() or self._loading or not self.is_mounted or not any(len(y) for _, y in self._data):
            return
        self._loading = True
        self.run_worker(self._load_and_draw(), name="plotext")

    async def _load_and_draw(self) -> None:
        await asyncio.to_thread(plot_geometry.preload)
        self._loading = False
        self._update()

    def _update(self) -> None:
        """Draw anew, and repaint the cells that changed."""
        self._load()
        if not self.is_mounted or self._picture.size != tuple(self.size):
            return  # not shown yet, or about to be painted at a new size: render_line will draw
        old, self._picture = self._picture, self._draw()
        self._cell_styles = []
        regions = self._picture.changed(old)
        if regions:
            self.refresh(*regions)

    def notify_style_update(self) -> None:
        """Render anew with the styles of another theme."""
        super().notify_style_update()
        self._cell_styles = []

    def render_line(self, y: int) -> Strip:
        """Render a line of the picture."""
        if self._picture.size != tuple(self.size):
            self._picture = self._draw()
        if y >= self.size.height:
            return Strip.blank(self.size.width, self.rich_style)
        if not self._cell_styles:
            self._cell_styles = [self.rich_style, *(self.get_component_rich_style(name) for name in _STYLES)]
        styles = self._cell_styles
        return Strip([Segment(text, styles[owner]) for text, owner in self._picture.runs(y)], self.size.width)

    # -- drawing ----------------------------------------------------------------------------------------

    def _draw(self) -> Picture:
        """Return the picture of the present data at the present size."""
        width, height = self.size
        picture = Picture(width, height)
        self._draw_title(picture)
        data = [plot_geometry.usable(x, y, log=self._log_y) for x, y in self._data]
        has_labels, has_axis = height >= 4, height >= _AXIS_LINE_HEIGHT
        rows = height - 1 - has_labels - has_axis
        y_axis = plot_geometry.choose_y_range(data, percent=self._percent, log=self._log_y)
        y_ticks = plot_geometry.y_ticks(y_axis, max(rows, 1), percent=self._percent)
        left = max(_LABEL_WIDTH, *(len(label) for _, label in y_ticks)) + 2
        columns = width - left
        if rows < 1 or columns < 4:
            return picture
        x_axis = self._x_axis(data)
        frame = Frame(picture, left, rows, x_axis, y_axis)
        frame.draw_y_axis(y_ticks)
        if has_labels:
            frame.draw_x_axis(self._x_label, own_row=has_axis)
        frame.draw_marks(self._marks)
        if any(len(y) for _, y in data):
            self._draw_curves(frame, data)
        else:
            frame.draw_note("no data yet")
        return picture

    def _x_axis(self, data: Sequence[Points]) -> Range:
        ends = [end for x, _ in data if len(x) for end in (x[0], x[-1])]
        if self._log_x:
            low, high = float(min(ends, default=1e-7)), float(max(ends, default=1.0))
            return Range(low, high if high > low else 2 * low, log=True)
        if ends:
            return plot_geometry.x_range(float(min(ends)), float(max(ends)), self._x_limit)
        whole = self._x_limit if math.isfinite(self._x_limit) and self._x_limit > 0 else 1.0
        return Range(0.0, whole)

    def _draw_curves(self, frame: Frame, data: Sequence[Points]) -> None:
        """Draw the bands, then the curves, each in front of those before it, and all glyphs last."""
        if not plot_geometry.is_loaded():
            return
        axes, size = (frame.x_axis, frame.y_axis), (frame.columns, frame.rows)
        lines: dict[int, plot_geometry.Dots] = {}
        for index, ((x, y), means) in enumerate(zip(data, self._means, strict=True)):
            lines[index] = plot_geometry.mean_dots(*plot_geometry.usable(*means, log=self._log_y), axes, size)
            if lines[index] and self._bands:
                frame.draw_canvas(plot_geometry.band(x, y, axes, size), BAND + index)
            elif not lines[index]:
                lines[index] = plot_geometry.line_dots(x, y, axes, size)
        for index, dots in lines.items():
            drawn = self._canvases[index]
            if drawn is None or drawn[:2] != (size, dots):  # most new values fall on dots that are there already
                drawn = self._canvases[index] = (size, dots, plot_geometry.draw(dots, size))
            frame.draw_canvas(drawn[2], SERIES + index)
        for index, ((x, y), style) in enumerate(zip(data, self._series, strict=True)):
            if style.points:
                frame.draw_points(plot_geometry.point_cells(x, y, axes, size), _GLYPHS[index], SERIES + index)

    def _draw_title(self, picture: Picture) -> None:
        """Write the title at the left and, as far as there is room, the legend with the latest values at the right."""
        width, _ = picture.size
        full, short = self._legend()
        for title in (self._title + (" log" if self._log_y else ""), self._title):
            for legend in (full, short, []):
                length = sum(cell_len(text) for text, _ in legend)
                if legend and cell_len(title) + 1 + length > width:
                    continue
                if not legend and title != self._title:
                    break
                picture.put(0, 0, title, TITLE)
                picture.put(cell_len(self._title), 0, title.removeprefix(self._title), AXIS)
                column = width - length
                for text, owner in legend:
                    column = picture.put(column, 0, text, owner)
                return

    def _legend(self) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
        """Return the legend as pieces of text with their owners, with the names of the series and without."""
        full: list[tuple[str, int]] = []
        short: list[tuple[str, int]] = []
        for index, ((_, y), style) in enumerate(zip(self._data, self._series, strict=True)):
            finite = y[np.isfinite(y)]
            value = plot_geometry.format_value(float(finite[-1]) if len(finite) else None, percent=self._percent)
            owner, gap = SERIES + index, [("  ", BLANK)] if index else []
            mark = (_GLYPHS[index] if style.points else "─", owner)
            latest = (value, owner if len(finite) else AXIS)
            full += [*gap, mark, (f" {style.name} ", AXIS), latest]
            short += [*gap, mark, (" ", AXIS), latest]
        return full, short
