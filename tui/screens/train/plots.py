"""The plots of a run: loss, accuracy, learning rate and every other number of it."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from textual import work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.message import Message

from finetui.engine.errors import FinetuiError
from finetui.engine.protocol.events import ENDED
from finetui.tui.keys import bind, bind_tabs
from finetui.tui.state.run_curves import METRICS, TRAINED, WATCHED, Metric, RunCurves
from finetui.tui.state.store import Store
from finetui.tui.widgets.line_plot import LinePlot
from finetui.tui.widgets.plot_axes import Points
from finetui.tui.widgets.plot_drawing import PlotContent, Plotter, SeriesStyle
from finetui.tui.widgets.plot_group import VIEW_ACTIONS, PlotGroup
from finetui.tui.widgets.plot_picture import AXIS, KEY, TITLE, Piece

if TYPE_CHECKING:
    from finetui.tui.screens.train.plot_export import PlotSource, PlotTarget

# Each tab has a number of its own, also while there is nothing yet to show of others.
NUMBERS = {metric: number for number, metric in enumerate(METRICS, 1)}
# What a run of finetui's own always has, once it trains: there from the start, so that nothing moves when it comes.
_OWN = tuple(metric for metric in METRICS if metric.key in (*TRAINED, "macro-f1"))
CLASSES, _CLASSES_NUMBER = "Classes", 9
_ACTIONS = (*VIEW_ACTIONS, "export")
# For a screen with plots, whatever has the focus there.
PLOT_KEYS: tuple[BindingType, ...] = (
    *(bind(name, f"plots('{name}')", show=name in ("zoom", "export")) for name in _ACTIONS),
    *bind_tabs(*(f"plot({number})" for number in range(1, 10))),
)


class Plots(PlotGroup):
    """The plots of a run, and where there is no room for them as well, the classes as a tab behind them."""

    BINDINGS: ClassVar[list[BindingType]] = [bind("export")]

    class ClassesWanted(Message):
        """Somebody wants the tab behind the plots; `names` are those of all tabs by their numbers."""

        def __init__(self, names: dict[int, str]) -> None:
            super().__init__()
            self.names = names

    def __init__(self) -> None:
        super().__init__(METRICS, id="plots")
        self._store = Store()
        self.classes_tab = False  # whether the classes are a tab behind the plots, since there is no room for both

    def compose(self) -> ComposeResult:
        """A plot for each metric that there may be; those without values, or without room, are not shown."""
        yield from map(self.plot_of, METRICS)

    def plot_of(self, metric: Metric) -> LinePlot:
        """Return a plot with a curve of training, and one of evaluations where there may be one."""
        has = metric.key not in WATCHED or metric.key in TRAINED, metric.key in WATCHED
        series = [SeriesStyle("train" if has[1] else ""), SeriesStyle("test", points=True, look=1)]
        series = [style for style, there in zip(series, has, strict=True) if there]
        # Without colours a band could not be told from the line in front of it.
        plot = LinePlot(metric.title, series, percent=metric.percent, bands=not self.app.no_color, id=metric.key)
        plot.display = False
        return plot

    # -- showing ----------------------------------------------------------------------------------------

    def show(self, store: Store) -> None:
        """Bring the plots up to date with `store`."""
        self._store = store
        self.redraw_all()

    def metrics(self) -> tuple[Metric, ...]:
        """Return what the run has numbers of, or will have."""
        found, view = self._store.curves.metrics, self._store.view
        if view.state in ENDED or view.hparams is not None or view.only_files:
            return found
        return tuple(metric for metric in METRICS if metric in _OWN or metric in found)

    def own_metrics(self) -> list[Metric]:
        """Return what somebody else's loop has numbers of beside those that finetui knows."""
        return [metric for metric in self._metrics if metric not in NUMBERS]

    def curves(self) -> tuple[RunCurves]:
        """Return those of the run."""
        return (self._store.curves,)

    def limit(self) -> float:
        """Return where the run is planned to end."""
        view = self._store.view
        limits = {"epoch": float(view.epochs or math.nan), "step": float(view.total_steps or math.nan)}
        return limits.get(self.view.unit, math.nan)

    def content(self, metric: Metric) -> PlotContent:
        """Return the curves of training and of evaluations, with a star at the best, and what was changed when."""
        of_run, curves = self._store.curves, self._store.curves.of(metric.key)
        if metric.key in WATCHED:
            self._plot(metric).rename(len(curves) - 1, self._store.view.watched)
        smooths = metric.smooths and self.view.smoothing > 0
        means = [curve.means() for curve in curves]
        if smooths:
            means[0] = curves[0].smoothed(self.view.smoothing)
        marks = self._store.view.marks
        places = self.placed(of_run, np.array([mark.x for mark in marks])).tolist()
        best = self.placed(of_run, np.array(of_run.best[-1:])).tolist() if metric.key in WATCHED else []

        def placed(points: Points) -> Points:
            return self.placed(of_run, points[0]), points[1]

        return PlotContent(
            tuple(placed(curve.points()) for curve in curves),
            marks=tuple(zip(places, (mark.label for mark in marks), strict=True)),
            means=tuple(map(placed, means)),
            smoothed=smooths,
            best=best[0] if best else None,
        )

    def titles(self, metric: Metric) -> tuple[list[Piece], ...]:
        """Return its number and name, with those of the others where it is alone."""
        level = self.view.smoothing if metric.smooths else 0.0
        # There is room for the names of finetui's own, and of one of the run's.
        listed = [one for one in self._metrics if one in NUMBERS or one == metric]
        listed = listed if len(self._shown) == 1 else [metric]
        names: list[list[Piece]] = []
        for short, space in ((False, "  "), (True, "  "), (True, " ")):
            pieces: list[Piece] = []
            for one in listed:
                owner = TITLE if one == metric else AXIS
                gap = space if pieces else ""
                number = f"{NUMBERS[one]} " if one in NUMBERS else ""
                pieces += [
                    (f"{gap}{number[:-1]}", KEY),
                    (f"{' ' * bool(number)}{one.short if short else one.title}", owner),
                ]
            more = len(self._metrics) - len(listed)
            if len(self._shown) == 1 and more:
                pieces += [(f"{space}↓", KEY), (f" {more} more", AXIS)]
            if self.classes_tab and metric == self._shown[-1]:
                pieces += [(f"{space}{_CLASSES_NUMBER}", KEY), (f" {CLASSES}", AXIS)]
            names.append(pieces)
        noted = [[*names[0], (f" · smoothed {level:g}", AXIS)], *([*one, (f" · EMA {level:g}", AXIS)] for one in names)]
        return (*(noted if level else ()), *names[:2])

    # -- what can be done -------------------------------------------------------------------------------

    def choose(self, number: int) -> None:
        """Make the plot of that number the current one; the last number is that of the classes."""
        metric = next((one for one in self._metrics if NUMBERS.get(one) == number), None)
        if metric is not None:
            self.choose_metric(metric)
        elif number == _CLASSES_NUMBER and self.classes_tab:
            names = {NUMBERS[one]: one.short for one in self._metrics if one in NUMBERS}
            self.post_message(self.ClassesWanted({**names, _CLASSES_NUMBER: CLASSES}))

    def on_line_plot_title_pressed(self, message: LinePlot.TitlePressed) -> None:
        """Go to the tab that was hit."""
        message.stop()
        self._take(message.plot)
        found, end = 0, 0
        for text, owner in message.plot.plotter.title:
            end += len(text)
            if owner == KEY and text.strip().isdigit() and end - 1 <= message.column + 1:
                found = int(text)
        if found:
            self.choose(found)

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
        """Show the key for exporting here only where there is room for more keys."""
        return self.screen.has_class("-zoomed") if action == "export" else super().check_action(action, parameters)
