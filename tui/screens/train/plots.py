"""The two plots: loss and accuracy, of the training and of the part that is evaluated meanwhile."""

from textual.app import ComposeResult
from textual.containers import Horizontal

from finetui.tui.state.store import Store
from finetui.tui.widgets.line_plot import LinePlot, SeriesStyle


class Plots(Horizontal):
    """Loss and accuracy of a run, side by side."""

    def __init__(self) -> None:
        super().__init__(id="plots")

    def compose(self) -> ComposeResult:
        """Both with the same two series; the second goes by the name of its part."""
        series = SeriesStyle("train"), SeriesStyle("test", points=True)
        yield LinePlot("Loss", series, id="loss")
        yield LinePlot("Accuracy", series, percent=True, id="accuracy")

    def show(self, store: Store) -> None:
        """Bring the plots up to date with `store`."""
        limit = float(store.view.config.training.epochs)
        marks = [mark.x for mark in store.view.marks]
        loss, accuracy = (store.train_loss, store.watched_loss), (store.train_accuracy, store.watched_accuracy)
        for name, curves in (("#loss", loss), ("#accuracy", accuracy)):
            points, means = [curve.points() for curve in curves], [curve.means() for curve in curves]
            plot = self.query_one(name, LinePlot)
            plot.rename(1, store.view.watched)
            plot.set_data(points, limit, marks, means=means)

    def toggle_log(self) -> None:
        """Switch the loss axis between linear and logarithmic."""
        self.query_one("#loss", LinePlot).toggle_log()
