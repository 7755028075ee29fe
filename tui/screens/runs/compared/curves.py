"""The curves of several runs, overlaid: one colour for each run."""

from collections.abc import Sequence

from textual.app import ComposeResult
from textual.containers import Grid
from textual.content import Content
from textual.widgets import Static

from finetui.tui.state.run_comparison import History
from finetui.tui.widgets.line_plot import LinePlot, SeriesStyle

PLOTS = ("train-loss", "loss", "accuracy", "rate")
SIGNS = "●◆■▲▼○◇□"


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
        """`names` are those of the runs, `part` that which they were evaluated on while training."""
        super().__init__(id="compared-curves")
        self._names = names
        self._part = part
        self._one = 2  # which of the plots is shown alone

    def compose(self) -> ComposeResult:
        """Loss and accuracy of training and evaluation, and the learning rate."""
        lines = [SeriesStyle(name) for name in self._names]
        points = [SeriesStyle(name, points=True) for name in self._names]
        yield RunsPlot("Train loss", lines, bands=False, id="train-loss")
        yield RunsPlot(f"{self._part.capitalize()} loss", points, bands=False, id="loss")
        yield RunsPlot(f"{self._part.capitalize()} accuracy", points, percent=True, bands=False, id="accuracy")
        yield RunsPlot("Learning rate", lines, bands=False, id="rate")

    def on_mount(self) -> None:
        """Choose the plot that is shown where there is room for one."""
        self.show_other(0)

    def show_other(self, by: int) -> None:
        """Let another plot be the one that is shown alone."""
        self._one = (self._one + by) % len(PLOTS)
        for place, name in enumerate(PLOTS):
            self.query_one(f"#{name}").set_class(place == self._one, "-one")

    def toggle_log(self) -> None:
        """Switch the losses between linear and logarithmic axes."""
        for name in ("#train-loss", "#loss"):
            self.query_one(name, RunsPlot).toggle_log()

    def plot_of(self, name: str) -> RunsPlot:
        """Return the plot `name`."""
        return self.query_one(f"#{name}", RunsPlot)

    def show(self, name: str, histories: Sequence[History]) -> None:
        """Bring the plot `name` up to date."""
        stores = [history.store for history in histories]
        curves = {
            "train-loss": [store.train_loss for store in stores],
            "loss": [store.watched_loss for store in stores],
            "accuracy": [store.watched_accuracy for store in stores],
            "rate": [history.rate for history in histories],
        }[name]
        limit = max(float(history.config.training.epochs) for history in histories)
        self.plot_of(name).set_data([curve.means() for curve in curves], limit)


class Legend(Static):
    """Which colour and sign is which run."""

    def show(self, histories: Sequence[History]) -> None:
        """Name the runs, with the best score of each."""
        parts: list[Content] = []
        for number, history in enumerate(histories, 1):
            view = history.store.view
            best = "" if view.best_accuracy is None else f" {view.best_accuracy:.2%}"
            sign = (f"{SIGNS[number - 1]} {history.folder.name}", f"$run-{number}")
            # With no space that could be broken at: a run stays in one line.
            parts.append(Content.assemble(sign, (best, "")))
        self.update(Content("   ").join(parts))
