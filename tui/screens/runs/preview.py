"""What is told of the run under the cursor beside the list: the facts and, where there is room, its curves."""

import asyncio
import math
from collections.abc import Sequence
from pathlib import Path

from textual import work
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static

from finetui.engine.errors import BadInput
from finetui.engine.runs.summaries import RunSummary
from finetui.engine.sources.watched_runs import WatchedRuns
from finetui.tui.screens.runs.details import details
from finetui.tui.state.run_comparison import AnyHistory, history_of
from finetui.tui.widgets.compound import Compound
from finetui.tui.widgets.line_plot import LinePlot
from finetui.tui.widgets.plot_drawing import PlotContent, SeriesStyle

_REST_SECONDS = 0.2  # how long the cursor stays on a run before its journal is read
_PLOTS = (("accuracy", "Accuracy", True), ("loss", "Loss", False))


class Preview(Compound, Vertical):
    """Tells of one run at a time."""

    def __init__(self, watched: WatchedRuns | None = None) -> None:
        super().__init__(id="runs-details")
        self.border_title = "Run"
        self._told: object = None
        self._watched = watched

    def compose(self) -> ComposeResult:
        """The facts above the plots."""
        yield Static(id="runs-facts")
        for key, title, percent in _PLOTS:
            series = SeriesStyle("train"), SeriesStyle("evaluated", points=True, look=1)
            yield LinePlot(title, series, percent=percent, id=f"preview-{key}")

    def show(self, run: RunSummary | None, runs: Sequence[RunSummary]) -> None:
        """Tell of `run`, one of `runs`; of none where that is None."""
        facts = self.query_one("#runs-facts", Static)
        before, self._told = self._told, (run, facts.content_size.width)
        if before == self._told:
            return
        facts.update(details(run, runs, facts.content_size.width) if run is not None else Content(""))
        if run is not None:
            self._read(history_of(Path(run.path), self._watched))

    @work(exclusive=True, exit_on_error=False)
    async def _read(self, history: AnyHistory) -> None:
        """Read the journal, in a thread, and draw the curves, if they are in sight."""
        await asyncio.sleep(_REST_SECONDS)
        if not self.query_one("#preview-loss").region.height:
            return
        try:
            await asyncio.to_thread(history.read)
        except BadInput:  # the list says so as well: the run is not in it at the next look
            return
        curves, limit = history.store.curves, float(history.store.view.epochs or math.nan)
        for key, _, _ in _PLOTS:
            await asyncio.sleep(0)  # keys come in between
            points = [curve.points() for curve in curves.of(key)]
            means = [curve.means() for curve in curves.of(key)]
            content = PlotContent(points, limit, means=means, x_label=curves.base)
            self.query_one(f"#preview-{key}", LinePlot).show(content)
