"""All runs of the runs folder as a tree: a finetune below the run that it started from."""

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content

from finetui.engine.runs.summaries import RunSummary
from finetui.tui.screens.list_screen import RunListScreen
from finetui.tui.state.run_tree import run_tree

_NAME = 42


class RunsScreen(RunListScreen[str]):
    """Lists the runs; is dismissed with the path of the one to look at, or None."""

    TITLE_TEXT = "Runs"
    HEADING = f"{'run':<{_NAME}} {'state':<9} {'best':>8} {'epoch':>6}  data, model"
    NONE_FOUND = "no runs yet"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,r", "leave", "Back")]

    def listed(self, runs: list[RunSummary]) -> list[tuple[Content, str]]:
        """Return a line for each run, with its path."""
        return [(_row(prefix, run), run.path) for prefix, run in run_tree(runs)]


def _row(prefix: str, run: RunSummary) -> Content:
    name = Content.assemble((prefix, "$muted"), run.name).truncate(_NAME, ellipsis=True, pad=True)
    best = "" if run.best_accuracy is None else f"{run.best_accuracy:.2%}"
    facts = f" {run.state:<9} {best:>8} {run.epoch:>6}  "
    return Content.assemble(name, facts, (f"{run.data}, {run.model}", "$muted"))
