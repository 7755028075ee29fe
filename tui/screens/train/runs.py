"""All runs of the runs folder as a tree: a finetune below the run that it started from."""

from pathlib import Path
from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static
from textual.widgets.option_list import Option
from textual.worker import get_current_worker

from finetui.engine.errors import BadInput
from finetui.engine.runs.summaries import RunSummary, summarise_runs
from finetui.tui.screens.base import ModalScreen
from finetui.tui.state.run_tree import run_tree
from finetui.tui.widgets.option_list import OptionList

_NAME = 42


class RunsScreen(ModalScreen[str | None]):
    """Lists the runs; is dismissed with the path of the one to look at, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,r", "leave", "Back")]

    def __init__(self, runs_dir: Path) -> None:
        super().__init__()
        self._runs_dir = runs_dir
        self._found: list[RunSummary] = []

    def compose(self) -> ComposeResult:
        """Title and list."""
        with Vertical(id="box"):
            yield Static(Content.styled("Runs", "bold $accent"), id="title")
            yield Static(Content("Reading …"), id="text")
            yield OptionList(id="runs", compact=True)

    def on_mount(self) -> None:
        """Read the journals, which may be long, in a thread."""
        self._read()

    @work(thread=True, exclusive=True)
    def _read(self) -> None:
        try:
            found: list[RunSummary] = summarise_runs(self._runs_dir)
            problem = "" if found else "no runs yet"
        except BadInput as error:
            found, problem = [], str(error)
        if not get_current_worker().is_cancelled:
            self.app.call_from_thread(self._show, found, problem)

    def _show(self, found: list[RunSummary], problem: str) -> None:
        if not self.stands:
            return
        tree = run_tree(found)
        self._found = [run for _, run in tree]
        options = self.query_one(OptionList)
        options.add_options([Option(_row(prefix, run)) for prefix, run in tree])
        heading = f"{'run':<{_NAME}} {'state':<9} {'best':>8} {'epoch':>6}  data, model"
        self.query_one("#text", Static).update(Content.styled(problem or heading, "$muted"))
        if found:
            options.highlighted = 0
            options.focus()

    def on_option_list_option_selected(self, message: OptionList.OptionSelected) -> None:
        """Look at the run."""
        message.stop()
        self.dismiss(self._found[message.option_index].path)

    def action_leave(self) -> None:
        """Look at none."""
        self.dismiss(None)


def _row(prefix: str, run: RunSummary) -> Content:
    name = Content.assemble((prefix, "$muted"), run.name).truncate(_NAME, ellipsis=True, pad=True)
    best = "" if run.best_accuracy is None else f"{run.best_accuracy:.2%}"
    facts = f" {run.state:<9} {best:>8} {run.epoch:>6}  "
    return Content.assemble(name, facts, (f"{run.data}, {run.model}", "$muted"))
