"""What to compare with: another run's predictions, or another evaluation's of the same run."""

from pathlib import Path
from typing import ClassVar, NamedTuple

from textual.binding import Binding, BindingType
from textual.content import Content

from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.summaries import RunSummary
from finetui.tui.screens.list_screen import RunListScreen

_NAME = 40


class Comparable(NamedTuple):
    """A file with predictions, and the words for it."""

    path: Path
    name: str
    facts: str


class CompareScreen(RunListScreen[Path]):
    """Lists the predictions in `runs_dir`; is dismissed with the file to compare with those of the run `own`."""

    TITLE_TEXT = "Compare with"
    HEADING = f"{'run':<{_NAME}} evaluation, accuracy, data"
    NONE_FOUND = "no other run has predictions; they are kept since this version, with every evaluation"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,d", "leave", "Back", key_display="esc")]

    def __init__(self, runs_dir: Path, own: Path) -> None:
        super().__init__(runs_dir)
        self._own = own

    def listed(self, runs: list[RunSummary]) -> list[tuple[Content, Path]]:
        """Return a line for each file with predictions."""
        return [(_row(found), found.path) for found in comparables(runs, self._own)]


def _row(found: Comparable) -> Content:
    name = Content(found.name).truncate(_NAME, ellipsis=True, pad=True)
    return Content.assemble(name, (f" {found.facts}", "$muted"))


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
