"""The curves of several runs, overlaid: one colour for each run."""

import math
from collections.abc import Sequence

from textual.app import ComposeResult
from textual.containers import Grid
from textual.content import Content
from textual.widgets import Static

from finetui.tui.state.run_comparison import History
from finetui.tui.widgets.line_plot import LinePlot
from finetui.tui.widgets.plot_drawing import GLYPHS, PlotContent, SeriesStyle

PLOTS = ("accuracy", "loss", "train-loss", "lr")


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


class Curves(Grid):
    """Four plots of all runs, or one of them that has all the room."""

    def __init__(self, names: Sequence[str], part: str) -> None:
        """`names` are those of the runs, `part` that which they were evaluated on while training, empty for several."""
        super().__init__(id="compared-curves")
        self._names = names
        self._part = (part or "evaluation").capitalize()
        self._one = 0  # which of the plots is shown alone

    def compose(self) -> ComposeResult:
        """Accuracy and loss of the evaluations, loss of the training, and the learning rate."""
        lines = [SeriesStyle(name, look=at) for at, name in enumerate(self._names)]
        points = [SeriesStyle(name, points=True, look=at) for at, name in enumerate(self._names)]
        yield RunsPlot(f"{self._part} accuracy", points, percent=True, bands=False, id="accuracy")
        yield RunsPlot(f"{self._part} loss", points, bands=False, id="loss")
        yield RunsPlot("Train loss", lines, bands=False, id="train-loss")
        yield RunsPlot("LR", lines, bands=False, id="lr")

    def on_mount(self) -> None:
        """Choose the plot that is shown where there is room for one."""
        self.show_other(0)

    def show_other(self, by: int) -> None:
        """Let another plot be the one that is shown alone."""
        self._one = (self._one + by) % len(PLOTS)
        for place, name in enumerate(PLOTS):
            self._plot(name).set_class(place == self._one, "-one")

    def toggle_log(self) -> None:
        """Switch all that is no share between linear and logarithmic axes."""
        for name in PLOTS[1:]:
            self._plot(name).toggle_log()

    def _plot(self, name: str) -> RunsPlot:
        return self.query_one(f"#{name}", RunsPlot)

    def show(self, name: str, histories: Sequence[History]) -> None:
        """Bring the plot `name` up to date."""
        curves = [history.store.curves for history in histories]
        shown = {
            "accuracy": [of_run.watched["accuracy"] for of_run in curves],
            "loss": [of_run.watched["loss"] for of_run in curves],
            "train-loss": [of_run.train["loss"] for of_run in curves],
            "lr": [of_run.train["lr"] for of_run in curves],
        }[name]
        limit = max((float(history.config.training.epochs) for history in histories), default=math.nan)
        self._plot(name).show(PlotContent([curve.means() for curve in shown], limit))


class Legend(Static):
    """Which colour and sign is which run."""

    def show(self, histories: Sequence[History]) -> None:
        """Name the runs, with the best score of each, as many in a line as there is room for."""
        lines: list[Content] = []
        line = Content("")
        for number, history in enumerate(histories, 1):
            best = history.store.view.best_accuracy
            part = Content.assemble(
                (f"{GLYPHS[number - 1]} {history.folder.name}", f"$run-{number}"),
                "" if best is None else f" {best:.2%}",
            )
            if line and line.cell_length + part.cell_length + 3 > self.content_size.width > 0:
                lines, line = [*lines, line], part
            else:
                line = Content.assemble(line, "   ", part) if line else part
        self.update(Content("\n").join([*lines, line]))
