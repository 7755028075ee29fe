"""The plots: loss, accuracy, learning rate and every other number of the run, side by side or one with tabs."""

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from textual import work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Container
from textual.message import Message
from textual.widget import Widget

from finetui.engine.errors import FinetuiError
from finetui.tui.keys import bind, bind_tabs, move
from finetui.tui.state.plot_view import PlotView, grid
from finetui.tui.state.run_curves import METRICS, TRAINED, WATCHED, Metric
from finetui.tui.state.store import Store
from finetui.tui.widgets.line_plot import LinePlot
from finetui.tui.widgets.plot_axes import Points
from finetui.tui.widgets.plot_drawing import PlotContent, Plotter, SeriesStyle
from finetui.tui.widgets.plot_picture import AXIS, KEY, TITLE, Piece

if TYPE_CHECKING:
    from finetui.tui.screens.train.plot_export import PlotSource, PlotTarget

_UNITS = (("seconds", 1.0, 180.0), ("minutes", 60.0, 3 * 3600.0), ("hours", 3600.0, math.inf))  # until so many seconds
CLASSES = "Classes"
_PAN = 0.25  # of what is shown
_ACTIONS = ("zoom", "less_smoothing", "more_smoothing", "x_axis", "log_axis", "export", "larger", "smaller")
_CURSOR, _END = "Move the cursor through all plots", "The cursor to an end of what is shown"
_FURTHER = "Show an earlier or a later part of the run"
# For a screen with plots, whatever has the focus there.
PLOT_KEYS: tuple[BindingType, ...] = (
    *(bind(name, f"plots('{name}')", show=name in ("zoom", "export")) for name in _ACTIONS),
    *bind_tabs(*(f"plot({number})" for number in range(1, 10))),
)


class Plots(Container, can_focus=True):
    """The plots of a run; one of them is the current one, the cursor and the part that is shown are those of all."""

    DEFAULT_CSS = """
    Plots { layout: grid; grid-gutter: 0 1; height: 1fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        move("left", "cursor(-1)", _CURSOR),
        move("right", "cursor(1)", _CURSOR),
        move("home", "cursor(-9999)", _END),
        move("end", "cursor(9999)", _END),
        *(bind(name) for name in _ACTIONS),
        move("shift+left", "pan(-1)", _FURTHER),
        move("shift+right", "pan(1)", _FURTHER),
        bind("back", "clear", show=False),
    ]

    class ClassesWanted(Message):
        """Somebody wants the tab behind the plots; `names` are those of all tabs."""

        def __init__(self, names: list[str]) -> None:
            super().__init__()
            self.names = names

    def __init__(self) -> None:
        super().__init__(id="plots")
        self.view = PlotView()
        self._store = Store()
        self._metrics: tuple[Metric, ...] = ()
        self._shown: tuple[Metric, ...] = ()
        self._current = METRICS[0]
        self._waiting: list[Metric] = []  # to be drawn
        self.classes_tab = False  # whether the classes are a tab behind the plots, since there is no room for both

    def compose(self) -> ComposeResult:
        """A plot for each metric that there may be; those without values, or without room, are not shown."""
        for metric in METRICS:
            has = metric.key in TRAINED, metric.key in WATCHED
            series = [SeriesStyle("train" if has[1] else ""), SeriesStyle("test", points=True, look=1)]
            series = [style for style, there in zip(series, has, strict=True) if there]
            plot = LinePlot(metric.title, series, percent=metric.percent, id=metric.key)
            plot.display = False
            yield plot

    @property
    def current(self) -> LinePlot:
        """The plot that keys are about."""
        return self._plot(self._current)

    def _plot(self, metric: Metric) -> LinePlot:
        return self.query_one(f"#{metric.key}", LinePlot)

    # -- showing ----------------------------------------------------------------------------------------

    def show(self, store: Store) -> None:
        """Bring the plots up to date with `store`."""
        self._store = store
        self._arrange()
        self._waiting = self._in_order()
        self.call_later(self._draw_next)  # not in the turn that draws the rest of the screen

    def _arrange(self) -> None:
        """Show as many plots as there is room for, the current one among them."""
        metrics = self._store.curves.metrics
        alone = self.screen.has_class("-zoomed")
        columns, rows = (1, 1) if alone else grid(self.size.width, self.size.height, len(metrics))
        if self._current not in metrics:
            self._current = metrics[0]
        shown = metrics[: columns * rows]
        if self._current not in shown:
            shown = (*shown[:-1], self._current)
        for metric in METRICS:
            self._plot(metric).set_class(metric == self._current and self.has_focus, "-current")
        if (metrics, shown) == (self._metrics, self._shown) and self.styles.grid_size_rows == rows:
            return
        self._metrics, self._shown = metrics, shown
        # The plots of the last row share its width, however many they are.
        in_last = len(shown) - columns * (rows - 1)
        self.styles.grid_size_rows = rows
        self.styles.grid_size_columns = columns * in_last
        for metric in METRICS:
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
        plot, curves = self._plot(metric), self._store.curves.of(metric.key)
        if metric.key in WATCHED:
            plot.rename(len(curves) - 1, self._store.view.watched)
        plot.entitle(self._titles(metric))
        smooths = metric.smooths and self.view.smoothing > 0
        means = [curve.means() for curve in curves]
        if smooths:
            means[0] = curves[0].smoothed(self.view.smoothing)
        factor, label = self._unit()
        marks = self._store.view.marks
        places = self._scaled(np.array([mark.x for mark in marks])).tolist()
        best = self._scaled(np.array(self._store.curves.best[-1:])).tolist() if metric.key in WATCHED else []
        ends, window, cursor = self._ends(), self.view.window, self.view.cursor
        plot.show(
            PlotContent(
                tuple(self._placed(curve.points()) for curve in curves),
                self._limit(),
                tuple(zip(places, (mark.label for mark in marks), strict=True)),
                tuple(map(self._placed, means)),
                smoothed=smooths,
                best=best[0] if best else None,
                cursor=None if cursor is None else cursor / factor,
                window=window and (window[0] / factor, None if window[1] is None else window[1] / factor),
                ends=ends and (ends[0] / factor, ends[1] / factor),
                x_label=label,
            )
        )

    def _titles(self, metric: Metric) -> tuple[list[Piece], ...]:
        """Return the titles of a plot: its number and name, with those of the others where it is alone."""
        level = self.view.smoothing if metric.smooths else 0.0
        listed = self._metrics if len(self._shown) == 1 else (metric,)
        names: list[list[Piece]] = []
        for short, space in ((False, "  "), (True, "  "), (True, " ")):
            pieces: list[Piece] = []
            for one in listed:
                owner = TITLE if one == metric else AXIS
                gap = space if pieces else ""
                pieces += [
                    (f"{gap}{self._metrics.index(one) + 1}", KEY),
                    (f" {one.short if short else one.title}", owner),
                ]
            if self.classes_tab and metric == self._shown[-1]:
                pieces += [(f"{space}{len(self._metrics) + 1}", KEY), (f" {CLASSES}", AXIS)]
            names.append(pieces)
        noted = [[*names[0], (f" · smoothed {level:g}", AXIS)], *([*one, (f" · EMA {level:g}", AXIS)] for one in names)]
        return (*(noted if level else ()), *names[:2])

    # -- the x axis -------------------------------------------------------------------------------------

    def _unit(self) -> tuple[float, str]:
        """Return by what x in the view's unit is divided for the axis, and what the axis is called."""
        if self.view.unit != "time":
            return 1.0, self.view.unit
        seconds = self._last()
        return next((factor, label) for label, factor, until in _UNITS if seconds < until)

    def _scaled(self, x: np.ndarray) -> np.ndarray:
        return self._store.curves.in_unit(self.view.unit, x) / self._unit()[0]

    def _placed(self, points: Points) -> Points:
        return self._scaled(points[0]), points[1]

    def _ends(self) -> tuple[float, float] | None:
        """Return where the curves begin and end, in the view's unit; None where there are none."""
        curves = self._store.curves
        spans = [curve.span for key in ("loss", "accuracy") for curve in curves.of(key) if len(curve)]
        if not spans:
            return None
        ends = np.array([min(first for first, _ in spans), max(last for _, last in spans)])
        first, last = curves.in_unit(self.view.unit, ends).tolist()
        return first, last

    def _last(self) -> float:
        return (self._ends() or (0.0, 0.0))[1]

    def _limit(self) -> float:
        """Return where the run is planned to end on the axis, NaN where that is not known."""
        view = self._store.view
        limits = {"epoch": float(view.config.training.epochs), "step": float(view.total_steps or math.nan)}
        return limits.get(self.view.unit, math.nan)

    # -- what can be done -------------------------------------------------------------------------------

    def change(self, view: PlotView) -> None:
        """Look at the plots like that."""
        self.view = view
        self._draw()

    def choose(self, number: int) -> None:
        """Make the plot of that number, from 1, the current one."""
        if number <= len(self._metrics):
            self._current = self._metrics[number - 1]
            self.focus()
            self._arrange()
            self._draw()
        elif number == len(self._metrics) + 1 and self.classes_tab:
            self.post_message(self.ClassesWanted([*(metric.short for metric in self._metrics), CLASSES]))

    def do(self, name: str) -> None:
        """Do what the key called `name` means."""
        getattr(self, f"action_{name}")()

    def action_cursor(self, by: int) -> None:
        """Move the cursor by some columns of the current plot; it comes at the end of the curves."""
        frame, factor = self.current.plotter.frame, self._unit()[0]
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
        old, unit, curves = self.view, self.view.next_unit, self._store.curves

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

    @work
    async def action_export(self) -> None:
        """Write the current plot to a file."""
        from finetui.tui.screens.train.plot_export import PlotExportForm, PlotSource

        metric, run = self._current, self._store.view.name
        default = Path(f"{run}-{metric.key}.png" if run else f"{metric.key}.png")
        target = await self.app.push_screen_wait(PlotExportForm(default))
        if target is None:
            return
        smoothing = self.view.smoothing if metric.smooths else 0.0
        note = f", smoothed {smoothing:g}" if smoothing else ""
        drawn = self.current.plotter
        plotter = Plotter(drawn.series, ([(metric.title, TITLE)],), percent=drawn.percent, log_y=drawn.log_y)
        title = f"{metric.title} · {run}{note}" if run else f"{metric.title}{note}"
        source = PlotSource(title, plotter, self.current.content, self._store.curves.copy(), metric.key, smoothing)
        self._write(source, target)

    @work(thread=True, exclusive=True, group="export", exit_on_error=False)
    def _write(self, source: "PlotSource", target: "PlotTarget") -> None:
        try:
            words, severity = source.write(target), "information"
        except FinetuiError as error:
            words, severity = str(error), "error"
        self.app.call_from_thread(self.notify, words, severity=severity, markup=False)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Leave Escape to the screen where there is nothing to clear here, and show more keys where there is room."""
        if action in _ACTIONS:
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
            self.change(replace(self.view, cursor=message.x * self._unit()[0]))

    def on_line_plot_scrolled(self, message: LinePlot.Scrolled) -> None:
        """Zoom at the pointer."""
        message.stop()
        self._take(message.plot)
        self.change(self.view.zoomed(self._last(), message.direction, message.x * self._unit()[0]))

    def on_line_plot_title_pressed(self, message: LinePlot.TitlePressed) -> None:
        """Go to the tab that was hit."""
        message.stop()
        self._take(message.plot)
        found, end = 0, 0
        for text, owner in message.plot.plotter.title:
            end += len(text)
            if owner == KEY and end - 1 <= message.column + 1:
                found = int(text)
        if found:
            self.choose(found)

    def _take(self, plot: Widget) -> None:
        metric = next(one for one in METRICS if one.key == plot.id)
        if metric != self._current:
            self._current = metric
            self._arrange()
