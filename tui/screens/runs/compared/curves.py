"""The curves of several runs, overlaid: one colour for each run."""

import math
from collections.abc import Sequence

import numpy as np
from textual.app import ComposeResult
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from finetui.tui.state.curves import Curve
from finetui.tui.state.run_comparison import AnyHistory
from finetui.tui.state.run_curves import METRICS, TRAINED, WATCHED, Metric, RunCurves
from finetui.tui.widgets.line_plot import LinePlot, series_styles
from finetui.tui.widgets.plot_axes import format_value
from finetui.tui.widgets.plot_drawing import GLYPHS, PlotContent, SeriesStyle
from finetui.tui.widgets.plot_group import PlotGroup
from finetui.tui.widgets.plot_picture import AXIS, KEY, MOST_SERIES, TITLE, Piece

_OF_TRAINING = "train-"  # before the key of a metric, for what was measured while training


class RunsPlot(LinePlot):
    """A plot with a series for each run."""

    DEFAULT_CSS = """
    RunsPlot {
        & > .line-plot--series-1 { color: $run-1; }
        & > .line-plot--series-2 { color: $run-2; }
        & > .line-plot--series-3 { color: $run-3; }
        & > .line-plot--series-4 { color: $run-4; }
        & > .line-plot--series-5 { color: $run-5; }
        & > .line-plot--series-6 { color: $run-6; }
        & > .line-plot--series-7 { color: $run-7; }
        & > .line-plot--series-8 { color: $run-8; }
    }
    """
    COMPONENT_CLASSES = LinePlot.COMPONENT_CLASSES | set(series_styles(MOST_SERIES))


def _metrics(part: str) -> tuple[Metric, ...]:
    """Return what is plotted: what evaluations of `part` and training measured, most telling first."""
    evaluated = {metric.key: metric for metric in METRICS if metric.key in WATCHED}
    trained = {metric.key: metric for metric in METRICS if metric.key in TRAINED}

    def of_part(key: str) -> Metric:
        title, short = (f"{part} {name.lower()}" for name in evaluated[key][1:3])
        return evaluated[key]._replace(title=title, short=short, smooths=False)

    def of_training(key: str) -> Metric:
        metric = trained[key]._replace(key=f"{_OF_TRAINING}{key}")
        title, short = f"Train {metric.title.lower()}", f"Train {metric.short.lower()}"
        return metric._replace(title=title, short=short) if key in WATCHED else metric

    return (
        *map(of_part, ("accuracy", "loss")),
        *map(of_training, ("loss", "lr", "accuracy", "grad_norm", "speed")),
        *(evaluated[key] for key in WATCHED if key not in ("accuracy", "loss")),
    )


class Curves(PlotGroup):
    """The plots of all runs; where there is no room for several, one of them."""

    class Looked(Message):
        """Somebody moved the cursor, or went to another plot."""

    def __init__(self, names: Sequence[str], part: str) -> None:
        """`names` are those of the runs, `part` that which they were evaluated on while training, empty for several."""
        super().__init__(_metrics((part or "evaluation").capitalize()), id="compared-curves")
        self._known = self._all_metrics
        self._names = names
        self._histories: Sequence[AnyHistory] = ()

    def compose(self) -> ComposeResult:
        """A plot for each metric that there may be."""
        yield from map(self.plot_of, self._all_metrics)

    def plot_of(self, metric: Metric) -> LinePlot:
        """Return a plot with a curve for each run."""
        points = metric.key in WATCHED
        series = [SeriesStyle("", points=points, look=at) for at in range(len(self._names))]
        plot = RunsPlot(metric.title, series, percent=metric.percent, bands=False, id=metric.key)
        plot.display = False
        return plot

    def show(self, histories: Sequence[AnyHistory]) -> None:
        """Bring the plots up to date with what is known of the runs."""
        self._histories = histories
        self.redraw_all()

    # -- what the plots show ----------------------------------------------------------------------------

    def metrics(self) -> tuple[Metric, ...]:
        """Return what one of the runs at least has numbers of; accuracy and loss always."""
        first, second, *others = self._known
        own = dict.fromkeys(metric for curves in self.curves() for metric in curves.other_metrics)
        return (first, second, *(metric for metric in others if any(map(len, self._of(metric)))), *own)

    def curves(self) -> list[RunCurves]:
        """Return those of each run."""
        return [history.store.curves for history in self._histories]

    def _of(self, metric: Metric) -> list[Curve]:
        """Return the curve of each run."""
        if metric not in self._known:
            return [curves.others.get(metric.key) or Curve() for curves in self.curves()]
        key = metric.key.removeprefix(_OF_TRAINING)
        return [(curves.watched if key == metric.key else curves.train)[key] for curves in self.curves()]

    def limit(self) -> float:
        """Return where the longest of the runs is planned to end."""
        if self.view.unit == "time" or not self._histories:
            return math.nan
        views = [history.store.view for history in self._histories]
        ends = [view.epochs if self.view.unit == "epoch" else view.total_steps for view in views]
        return float(max(ends)) or math.nan

    def content(self, metric: Metric) -> PlotContent:
        """Return a line for each run, smoothed where that is asked for."""
        smooths = metric.smooths and self.view.smoothing > 0
        drawn = []
        for curves, curve in zip(self.curves(), self._of(metric), strict=True):
            x, y = curve.smoothed(self.view.smoothing) if smooths else curve.means()
            drawn.append((self.placed(curves, x), y))
        return PlotContent(drawn or [(np.empty(0), np.empty(0)) for _ in self._names], smoothed=smooths)

    def titles(self, metric: Metric) -> tuple[list[Piece], ...]:
        """Return its name, with those of the others where it is alone."""
        level = self.view.smoothing if metric.smooths else 0.0
        names: list[list[Piece]] = [[(metric.title, TITLE)], [(metric.short, TITLE)]]
        if len(self._shown) == 1:
            tabs = [
                [("↑↓", KEY), *((f"  {getattr(one, name)}", TITLE if one == metric else AXIS) for one in self._metrics)]
                for name in ("title", "short")
            ]
            place = f"  {self._metrics.index(metric) + 1} of {len(self._metrics)}"
            names = [*tabs, [("↑↓ ", KEY), *names[0], (place, AXIS)]]
        noted = [[*names[0], (f" · smoothed {level:g}", AXIS)], *([*one, (f" · EMA {level:g}", AXIS)] for one in names)]
        return (*(noted if level else ()), *names)

    def changed(self) -> None:
        """Let the legend say what is at the cursor."""
        self.post_message(self.Looked())

    def on_line_plot_title_pressed(self, message: LinePlot.TitlePressed) -> None:
        """Go to the plot whose name was hit."""
        message.stop()
        found, end = message.plot.id, 0
        for text, _ in message.plot.plotter.title:
            if end <= message.column:
                found = next((one.key for one in self._metrics if text.strip() in (one.title, one.short)), found)
            end += len(text)
        self.choose_metric(next(one for one in self._metrics if one.key == found))

    # -- the legend -------------------------------------------------------------------------------------

    def at_cursor(self) -> tuple[str, list[str]] | None:
        """Return what is at the cursor, and the value of each run there in the current plot; None without a cursor."""
        content, plotter = self.current.content, self.current.plotter
        if self.view.cursor is None or content.cursor is None:
            return None
        values = [plotter.value(content, at) for at in range(len(self._names))]
        place = f"{content.cursor:,.0f}" if self.view.unit == "step" else f"{content.cursor:.2f}"
        where = f"{self._current.title} at {content.x_label} {place}"
        return where, [format_value(value, percent=plotter.percent).strip() for value in values]


class Legend(Static):
    """Which colour and sign is which run, with its best score, or with its value at the cursor of the plots."""

    def show(self, histories: Sequence[AnyHistory], at_cursor: tuple[str, list[str]] | None = None) -> None:
        """Name the runs, as many in a line as there is room for."""
        lines: list[Content] = []
        where, values = at_cursor or ("Best", [_best(history) for history in histories])
        line = Content.styled(f"{where}:", "$muted")
        for number, (history, value) in enumerate(zip(histories, values, strict=True), 1):
            part = Content.assemble((f"{GLYPHS[number - 1]} {history.folder.name}", f"$run-{number}"), f" {value}")
            if line.cell_length + part.cell_length + 3 > self.content_size.width > 0:
                lines, line = [*lines, line], part
            else:
                line = Content.assemble(line, "   ", part)
        self.update(Content("\n").join([*lines, line]))


def _best(history: AnyHistory) -> str:
    best = history.store.view.best_accuracy
    return "-" if best is None else f"{best:.2%}"
