"""Plots of the same runs, side by side or one with tabs: one cursor, one window, one x axis for all of them."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
from textual.binding import BindingType
from textual.containers import Container
from textual.widget import Widget

from finetui.tui.keys import bind, move
from finetui.tui.state.plot_view import PlotView, grid
from finetui.tui.state.run_curves import X_UNITS, Metric, RunCurves, XUnit
from finetui.tui.widgets.compound import Compound
from finetui.tui.widgets.line_plot import LinePlot
from finetui.tui.widgets.plot_axes import Floats
from finetui.tui.widgets.plot_drawing import PlotContent
from finetui.tui.widgets.plot_picture import Piece

_UNITS = (("seconds", 1.0, 180.0), ("minutes", 60.0, 3 * 3600.0), ("hours", 3600.0, math.inf))  # until so many seconds
_PAN = 0.25  # of what is shown
VIEW_ACTIONS = ("zoom", "less_smoothing", "more_smoothing", "x_axis", "log_axis", "larger", "smaller")
_CURSOR, _END = "Move the cursor in all plots", "Move the cursor to the start or end"
_FURTHER = "Scroll to an earlier or later part of the run"
_OTHER = "Previous or next plot"


class PlotGroup(Compound, Container, can_focus=True):
    """Plots, each with the id of its metric; one is the current one, cursor and window are those of all.

    A subclass yields a plot for each of `all_metrics`, and says what there is to show in `metrics`, `curves`, `limit`,
    `content` and `titles`.
    """

    DEFAULT_CSS = """
    PlotGroup { layout: grid; grid-gutter: 0 1; height: 1fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        move("left", "cursor(-1)", _CURSOR),
        move("right", "cursor(1)", _CURSOR),
        move("home", "cursor(-9999)", _END),
        move("end", "cursor(9999)", _END),
        move("up,k", "other(-1)", _OTHER),
        move("down,j", "other(1)", _OTHER),
        *(bind(name) for name in VIEW_ACTIONS),
        move("shift+left", "pan(-1)", _FURTHER),
        move("shift+right", "pan(1)", _FURTHER),
        bind("back", "clear", show=False),
    ]

    def __init__(self, all_metrics: Sequence[Metric], *, id: str) -> None:  # noqa: A002
        super().__init__(id=id)
        self.view = PlotView()
        self._all_metrics = tuple(all_metrics)
        self._metrics: tuple[Metric, ...] = ()
        self._shown: tuple[Metric, ...] = ()
        self._current = self._all_metrics[0]
        self._waiting: list[Metric] = []  # to be drawn

    # -- what a subclass says ---------------------------------------------------------------------------

    def metrics(self) -> tuple[Metric, ...]:
        """Return those metrics that there is something to show of."""
        raise NotImplementedError

    def curves(self) -> Sequence[RunCurves]:
        """Return the curves of each run that is shown."""
        raise NotImplementedError

    def limit(self) -> float:
        """Return where the runs are planned to end in the view's unit, NaN where that is not known."""
        raise NotImplementedError

    def content(self, metric: Metric) -> PlotContent:
        """Return what the plot of `metric` shows, but for cursor, window and axis."""
        raise NotImplementedError

    def plot_of(self, metric: Metric) -> LinePlot:
        """Return a new plot for `metric`, not displayed yet."""
        raise NotImplementedError

    def titles(self, metric: Metric) -> Sequence[Sequence[Piece]]:
        """Return the titles of a plot, from the longest to the shortest."""
        raise NotImplementedError

    def changed(self) -> None:
        """Hear that somebody looks at the plots in another way, or at another plot."""

    @property
    def current(self) -> LinePlot:
        """The plot that keys are about."""
        return self._plot(self._current)

    def _plot(self, metric: Metric) -> LinePlot:
        return self.query_one(f"#{metric.key}", LinePlot)

    # -- showing ----------------------------------------------------------------------------------------

    def redraw_all(self) -> None:
        """Bring the plots up to date."""
        if self.view.unit not in self._units():  # somebody else's loop that tells of no epochs
            self.view = PlotView(self._units()[0], self.view.smoothing)
        new = [metric for metric in self.metrics() if metric not in self._all_metrics]
        if new:
            self._all_metrics = (*self._all_metrics, *new)
            self.mount_all(map(self.plot_of, new))
        self._arrange()
        self._waiting = self._in_order()
        self.call_later(self._draw_next)  # not in the turn that draws the rest of the screen

    def _arrange(self) -> None:
        """Show as many plots as there is room for, the current one among them."""
        metrics = self.metrics()
        alone = self.screen.has_class("-zoomed")
        columns, rows = (1, 1) if alone else grid(self.size.width, self.size.height, len(metrics))
        if self._current not in metrics:
            self._current = metrics[0]
        shown = metrics[: columns * rows]
        if self._current not in shown:
            shown = (*shown[:-1], self._current)
        for metric in self._all_metrics:
            self._plot(metric).set_class(metric == self._current and self.has_focus, "-current")
        if (metrics, shown) == (self._metrics, self._shown) and self.styles.grid_size_rows == rows:
            return
        self._metrics, self._shown = metrics, shown
        # The plots of the last row share its width, however many they are.
        in_last = len(shown) - columns * (rows - 1)
        self.styles.grid_size_rows = rows
        self.styles.grid_size_columns = columns * in_last
        for metric in self._all_metrics:
            plot = self._plot(metric)
            plot.display = metric in shown
            if metric in shown:
                plot.styles.column_span = in_last if shown.index(metric) < columns * (rows - 1) else columns

    def _draw(self) -> None:
        """Draw what is shown: the current plot at once, the others one by one, and what waits comes in between."""
        self._waiting = self._in_order()
        self._draw_next()

    def _in_order(self) -> list[Metric]:
        """Return what is shown, the current plot first."""
        return sorted(self._shown, key=lambda metric: metric != self._current)

    def _draw_next(self) -> None:
        if self._waiting:
            self._draw_one(self._waiting.pop(0))
        if self._waiting:
            self.call_later(self._draw_next)

    def _draw_one(self, metric: Metric) -> None:
        plot = self._plot(metric)
        plot.entitle(self.titles(metric))
        factor, label = self.axis()
        ends, window, cursor = self._ends(), self.view.window, self.view.cursor
        plot.show(
            replace(
                self.content(metric),
                x_limit=self.limit(),
                cursor=None if cursor is None else cursor / factor,
                window=window and (window[0] / factor, None if window[1] is None else window[1] / factor),
                ends=ends and (ends[0] / factor, ends[1] / factor),
                x_label=label,
            )
        )

    def _units(self) -> tuple[XUnit, ...]:
        """Return the units that the x of all runs that are shown can be in."""
        shown = [curves.units for curves in self.curves() if curves.has_points]
        return tuple(unit for unit in X_UNITS if all(unit in units for units in shown)) or X_UNITS

    # -- the x axis -------------------------------------------------------------------------------------

    def axis(self) -> tuple[float, str]:
        """Return by what x in the view's unit is divided for the axis, and what the axis is called."""
        if self.view.unit != "time":
            return 1.0, self.view.unit
        seconds = self._last()
        return next((factor, label) for label, factor, until in _UNITS if seconds < until)

    def placed(self, curves: RunCurves, x: Floats) -> Floats:
        """Return `x`, in epochs of the run with `curves`, float64 `[n]`, as places on the axis."""
        return curves.in_unit(self.view.unit, x) / self.axis()[0]

    def _spans(self) -> list[tuple[float, float, RunCurves]]:
        """Return for each run that has curves where these begin and end, in the view's unit."""
        found = []
        for curves in self.curves():
            spans = [curve.span for metric in curves.metrics for curve in curves.of(metric.key) if len(curve)]
            if spans:
                ends = np.array([min(first for first, _ in spans), max(last for _, last in spans)])
                first, last = curves.in_unit(self.view.unit, ends).tolist()
                found.append((first, last, curves))
        return found

    def _ends(self) -> tuple[float, float] | None:
        """Return where the curves begin and end, in the view's unit; None where there are none."""
        spans = self._spans()
        return (min(first for first, _, _ in spans), max(last for _, last, _ in spans)) if spans else None

    def _last(self) -> float:
        return (self._ends() or (0.0, 0.0))[1]

    # -- what can be done -------------------------------------------------------------------------------

    def change(self, view: PlotView) -> None:
        """Look at the plots like that."""
        self.view = view
        self._draw()
        self.changed()

    def choose_metric(self, metric: Metric) -> None:
        """Make the plot of `metric` the current one."""
        self._current = metric
        self.focus()
        self._arrange()
        self._draw()
        self.changed()

    def action_other(self, by: int) -> None:
        """Make the next plot the current one, or the one before."""
        self.choose_metric(self._metrics[(self._metrics.index(self._current) + by) % len(self._metrics)])

    def do(self, name: str) -> None:
        """Do what the key called `name` means."""
        getattr(self, f"action_{name}")()

    def action_cursor(self, by: int) -> None:
        """Move the cursor by some columns of the current plot; it comes at the end of the curves."""
        frame, factor = self.current.plotter.frame, self.axis()[0]
        if frame is None:
            return
        if self.view.cursor is None:
            x = self._last() / factor
            column = min(frame.column(x), frame.left + frame.columns - 1)
        else:
            column = frame.column(self.view.cursor / factor) + by
        column = min(max(column, frame.left), frame.left + frame.columns - 1)
        self.change(replace(self.view, cursor=frame.x_at(column) * factor))

    def action_pan(self, direction: int) -> None:
        """Show what lies to the left or right."""
        self.change(self.view.panned(self._last(), direction * _PAN))

    def action_larger(self) -> None:
        """Show half as much."""
        self.change(self.view.zoomed(self._last(), 1))

    def action_smaller(self) -> None:
        """Show twice as much."""
        self.change(self.view.zoomed(self._last(), -1))

    def action_less_smoothing(self) -> None:
        """Smooth less."""
        self.change(self.view.smoother(-1))

    def action_more_smoothing(self) -> None:
        """Smooth more."""
        self.change(self.view.smoother(1))

    def action_log_axis(self) -> None:
        """Switch the y axis of the current plot between linear and logarithmic."""
        self.current.toggle_log()

    def action_x_axis(self) -> None:
        """Plot over the next unit; cursor and window stay where they are in the run."""
        old, unit, spans = self.view, self.view.next_unit(self._units()), self._spans()
        if not spans:
            self.change(PlotView(unit, old.smoothing))
            return
        curves = max(spans, key=lambda span: span[1])[2]  # of several runs, the one that went on the longest

        def there(x: float) -> float:
            return float(curves.in_unit(unit, curves.to_epochs(old.unit, np.array([x])))[0])

        cursor = None if old.cursor is None else there(old.cursor)
        window = old.window and (there(old.window[0]), None if old.window[1] is None else there(old.window[1]))
        self.change(replace(old, unit=unit, cursor=cursor, window=window))

    def action_zoom(self) -> None:
        """Give the current plot the whole screen, or give it back."""
        self.screen.toggle_class("-zoomed")
        self.refresh_bindings()
        self.focus()
        self._arrange()
        self._draw()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Leave Escape to the screen where there is nothing to clear here, and show more keys where there is room."""
        if action in VIEW_ACTIONS:
            return self.screen.has_class("-zoomed")  # else the screen has the same keys, and its own to show
        if action == "clear":
            return self.view.cursor is not None or self.view.window is not None or self.screen.has_class("-zoomed")
        return super().check_action(action, parameters)

    def action_clear(self) -> None:
        """Take the cursor away, else show the whole run, else the whole screen."""
        if self.view.cursor is not None:
            self.change(replace(self.view, cursor=None))
        elif self.view.window is not None:
            self.change(replace(self.view, window=None))
        else:
            self.action_zoom()

    # -- what happens to it -----------------------------------------------------------------------------

    def on_resize(self) -> None:
        """Use the new room."""
        self._arrange()
        self._draw()

    def on_focus(self) -> None:
        """Show which plot the keys are about."""
        self._arrange()

    def on_blur(self) -> None:
        """Show that the keys are about none."""
        self._arrange()

    def on_line_plot_pointed(self, message: LinePlot.Pointed) -> None:
        """Set the cursor; dragging moves what is shown where that is a part, else the cursor."""
        message.stop()
        self._take(message.plot)
        if message.drag and self.view.window is not None:
            self.change(self.view.panned(self._last(), -message.drag))
        else:
            self.change(replace(self.view, cursor=message.x * self.axis()[0]))

    def on_line_plot_scrolled(self, message: LinePlot.Scrolled) -> None:
        """Zoom at the pointer."""
        message.stop()
        self._take(message.plot)
        self.change(self.view.zoomed(self._last(), message.direction, message.x * self.axis()[0]))

    def _take(self, plot: Widget) -> None:
        metric = next(one for one in self._all_metrics if one.key == plot.id)
        if metric != self._current:
            self._current = metric
            self._arrange()
