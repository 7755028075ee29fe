"""What to compare with: another run's predictions, or another evaluation's of the same run."""

from pathlib import Path
from typing import ClassVar, NamedTuple

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static
from textual.widgets.option_list import Option
from textual.worker import get_current_worker

from finetui.engine.errors import BadInput
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.summaries import RunSummary, summarise_runs
from finetui.tui.screens.base import ModalScreen
from finetui.tui.widgets.option_list import OptionList

_NAME = 40


class Comparable(NamedTuple):
    """A file with predictions, and the words for it."""

    path: Path
    name: str
    facts: str


class CompareScreen(ModalScreen[Path | None]):
    """Lists the predictions in `runs_dir`; is dismissed with the file to compare with those of the run `own`."""

    CSS_PATH = "compare.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,d", "leave", "Back", key_display="esc")]

    def __init__(self, runs_dir: Path, own: Path) -> None:
        super().__init__()
        self._runs_dir = runs_dir
        self._own = own
        self._found: list[Comparable] = []

    def compose(self) -> ComposeResult:
        """Title and list."""
        with Vertical(id="box"):
            yield Static(Content.styled("Compare with", "bold $accent"), id="title")
            yield Static(Content("Reading …"), id="text")
            yield OptionList(id="runs", compact=True)

    def on_mount(self) -> None:
        """Read the journals, which may be long, in a thread."""
        self._read()

    @work(thread=True, exclusive=True)
    def _read(self) -> None:
        problem = ""
        try:
            found = comparables(summarise_runs(self._runs_dir), self._own)
        except BadInput as error:
            found, problem = [], str(error)
        if not get_current_worker().is_cancelled:
            self.app.call_from_thread(self._show, found, problem)

    def _show(self, found: list[Comparable], problem: str) -> None:
        if not self.stands:
            return
        self._found = found
        options = self.query_one(OptionList)
        for item in found:
            name = Content(item.name).truncate(_NAME, ellipsis=True, pad=True)
            options.add_option(Option(Content.assemble(name, (f" {item.facts}", "$muted"))))
        heading = f"{'run':<{_NAME}} evaluation, accuracy, data"
        none = "no other run has predictions; they are kept since this version, with every evaluation"
        self.query_one("#text", Static).update(Content.styled(problem or (heading if found else none), "$muted"))
        if found:
            options.highlighted = 0
            options.focus()

    def on_option_list_option_selected(self, message: OptionList.OptionSelected) -> None:
        """Compare with it."""
        message.stop()
        self.dismiss(self._found[message.option_index].path)

    def action_leave(self) -> None:
        """Compare with none."""
        self.dismiss(None)


def comparables(found: list[RunSummary], own: Path) -> list[Comparable]:
    """Return what the run in `own` can be compared with: its parent, then its own best evaluation, then all others."""
    mine = next((run for run in found if Path(run.path) == own), None)
    parent = mine.parent if mine is not None else None
    listed: list[tuple[int, Comparable]] = []
    for run in found:
        folder = RunFolder(Path(run.path))
        is_own = folder.path == own
        rank = 0 if run.name == parent else 1 if is_own else 2
        what = "its parent" if rank == 0 else "this run" if is_own else run.data
        best = "" if run.best_accuracy is None else f" {run.best_accuracy:.2%}"
        if folder.best_predictions.is_file():
            listed.append((rank, Comparable(folder.best_predictions, run.name, f"best{best}, {what}")))
        if folder.last_predictions.is_file() and not is_own:
            listed.append((rank, Comparable(folder.last_predictions, run.name, f"last evaluation, {what}")))
    return [item for _, item in sorted(listed, key=lambda pair: pair[0])]
