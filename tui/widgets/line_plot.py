"""A plot of up to eight curves over the epochs (or another quantity) that repaints only the cells that changed."""

import asyncio
import dataclasses
from collections.abc import Sequence

import numpy as np
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from finetui.tui.widgets import plot_geometry
from finetui.tui.widgets.plot_axes import Points
from finetui.tui.widgets.plot_drawing import PlotContent, Plotter, SeriesStyle
from finetui.tui.widgets.plot_picture import BAND, MOST_SERIES, SERIES, TITLE, Picture, Piece

_PLAIN = ("title", "axis", "mark", "cursor", "best", "key", "border")  # owners of cells in their order, from 1
_STYLED = 3  # series that a plot has styles for: each costs time whenever the focus moves or the theme changes


def series_styles(count: int) -> dict[str, int]:
    """Return the component classes of so many series, and of their bands, with whose cells they are for."""
    owners = (("series", SERIES), ("band", BAND))
    return {f"line-plot--{name}-{at + 1}": first + at for name, first in owners for at in range(count)}


_OWNERS = {f"line-plot--{name}": owner for owner, name in enumerate(_PLAIN, 1)} | series_styles(MOST_SERIES)


class LinePlot(Widget):
    """Shows up to `MOST_SERIES` series over the epochs, in a frame whose lower edge is the x axis.

    A subclass has component classes for those after the third, and gives them their colours.

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
        & > .line-plot--cursor { color: $foreground; text-style: bold; }
        & > .line-plot--best { color: $evaluation-curve; text-style: bold; }
        & > .line-plot--key { color: $accent; text-style: bold; }
        & > .line-plot--border { color: $frame; }
        &.-current > .line-plot--border { color: $accent; }
        & > .line-plot--series-1 { color: $train-curve; }
        & > .line-plot--series-2 { color: $evaluation-curve; }
        & > .line-plot--series-3 { color: $third-curve; }
        & > .line-plot--band-1 { color: $train-band; }
        & > .line-plot--band-2 { color: $evaluation-band; }
        & > .line-plot--band-3 { color: $third-band; }
    }
    """
    COMPONENT_CLASSES = {*(f"line-plot--{name}" for name in _PLAIN), *series_styles(_STYLED)}

    class Pointed(Message):
        """The left button went down at `x`, or moved with it down by `drag`, a share of the axis, to there."""

        def __init__(self, plot: "LinePlot", x: float, drag: float = 0.0) -> None:
            super().__init__()
            self.plot, self.x, self.drag = plot, x, drag

    class TitlePressed(Message):
        """The title was hit `column` cells from its start."""

        def __init__(self, plot: "LinePlot", column: int) -> None:
            super().__init__()
            self.plot, self.column = plot, column

    class Scrolled(Message):
        """The wheel was turned at `x`: `direction` is 1 up and -1 down."""

        def __init__(self, plot: "LinePlot", x: float, direction: int) -> None:
            super().__init__()
            self.plot, self.x, self.direction = plot, x, direction

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
        if not 1 <= len(series) <= MOST_SERIES:
            raise ValueError(f"a plot has 1 to {MOST_SERIES} series, not {len(series)}")
        self._title = title
        self.plotter = Plotter(tuple(series), ([(title, TITLE)],), percent=percent, log_x=log_x, bands=bands)
        self.content = PlotContent(tuple((np.empty(0), np.empty(0)) for _ in series), x_label=x_label)
        self._picture = Picture(0, 0)
        self._cell_styles: list[Style] = []  # by owner
        self._loading = False
        self._is_old = False  # whether the picture is of other content, hidden by now: it may come back at its old size
        self._dragged_at: int | None = None  # column

    @property
    def log_y(self) -> bool:
        """Whether the y axis is logarithmic."""
        return self.plotter.log_y

    def set_data(
        self,
        data: Sequence[Points],
        x_limit: float,
        marks: Sequence[tuple[float, str]] = (),
        *,
        means: Sequence[Points] | None = None,
    ) -> None:
        """Show `data`, x and y for each series, in a run planned until `x_limit`, with events at `marks`."""
        self.show(PlotContent(data, float(x_limit), marks, means, x_label=self.content.x_label))

    def show(self, content: PlotContent) -> None:
        """Show `content`; values that are not finite are left out. Only cells that differ are repainted."""
        means = content.data if content.means is None else content.means
        if not len(content.data) == len(means) == len(self.plotter.series):
            raise ValueError(f"{self._title}: {len(self.plotter.series)} series, but data for {len(content.data)}")
        self.content = content
        self._update()

    def rename(self, index: int, name: str) -> None:
        """Call the series `index` by another name; what is drawn next has it."""
        series = list(self.plotter.series)
        series[index] = dataclasses.replace(series[index], name=name)
        self.plotter.series = tuple(series)

    def entitle(self, titles: Sequence[Sequence[Piece]]) -> None:
        """Have these titles, from the longest to the shortest; what is drawn next has one of them."""
        self.plotter.titles = titles

    def toggle_log(self) -> None:
        """Change between a linear and a logarithmic y axis; the latter leaves values that are not positive out."""
        self.plotter.log_y = not self.plotter.log_y
        self._update()

    def on_mount(self) -> None:
        """Load plotext if data came before the widget was mounted."""
        self._load()

    def _load(self) -> None:
        """Have plotext imported in a thread, once there is something to draw."""
        has_data = any(len(y) for _, y in self.content.data)
        if plot_geometry.is_loaded() or self._loading or not self.is_mounted or not has_data:
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
            self._is_old = True
            return  # not shown now, or about to be painted at a new size: render_line will draw
        old, self._picture = self._picture, self.plotter.draw(self.content, (self.size.width, self.size.height))
        regions = self._picture.changed(old)
        if regions:
            self.refresh(*regions)

    def notify_style_update(self) -> None:
        """Render anew with the styles of another theme, or of another state."""
        super().notify_style_update()
        self._cell_styles = []

    def render_line(self, y: int) -> Strip:
        """Render a line of the picture."""
        if self._is_old or self._picture.size != tuple(self.size):
            self._is_old = False
            self._picture = self.plotter.draw(self.content, (self.size.width, self.size.height))
        if y >= self.size.height:
            return Strip.blank(self.size.width, self.rich_style)
        if not self._cell_styles:
            self._cell_styles = [self.rich_style] * (BAND + MOST_SERIES)
            for name in self.COMPONENT_CLASSES:
                self._cell_styles[_OWNERS[name]] = self.get_component_rich_style(name)
        styles = self._cell_styles
        return Strip([Segment(text, styles[owner]) for text, owner in self._picture.runs(y)], self.size.width)

    # -- the mouse --------------------------------------------------------------------------------------

    def _x_at(self, column: int) -> float | None:
        return None if self.plotter.frame is None else self.plotter.frame.x_at(column)

    def on_mouse_down(self, event: events.MouseDown) -> None:
        """Point at an x, or at the title."""
        x = self._x_at(event.x)
        if event.button != 1 or x is None:
            return
        if event.y == 0:
            self.post_message(self.TitlePressed(self, event.x - 2))
            return
        self.capture_mouse()
        self._dragged_at = event.x
        self.post_message(self.Pointed(self, x))

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """Drag along x."""
        frame = self.plotter.frame
        if self._dragged_at is None or frame is None or event.x == self._dragged_at:
            return
        self.post_message(self.Pointed(self, frame.x_at(event.x), (event.x - self._dragged_at) / frame.columns))
        self._dragged_at = event.x

    def on_mouse_up(self) -> None:
        """End what the button going down began."""
        self._dragged_at = None
        self.release_mouse()

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """Tell of the wheel."""
        self._scrolled(event, 1)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """Tell of the wheel."""
        self._scrolled(event, -1)

    def _scrolled(self, event: events.MouseEvent, direction: int) -> None:
        x = self._x_at(event.x)
        if x is not None:
            event.stop()
            self.post_message(self.Scrolled(self, x, direction))
