"""What to compare with: another run's predictions, or another evaluation's of the same run."""

from pathlib import Path
from typing import ClassVar, NamedTuple

from textual.binding import BindingType
from textual.content import Content

from finetui.engine.errors import BadInput
from finetui.engine.predictions.comparison import McNemar, compare
from finetui.engine.predictions.file import Predictions, load_predictions
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.summaries import RunSummary
from finetui.tui.keys import bind
from finetui.tui.screens.list_screen import RunListScreen

_NAME = 36


class Comparable(NamedTuple):
    """A file with predictions of the same images, the words for it, and how they compare."""

    path: Path
    name: str
    facts: str
    tested: McNemar


class CompareScreen(RunListScreen[Path]):
    """Lists the predictions in `runs_dir` of the same images as `found`, those of the run in `own` last.

    It is dismissed with the file to compare with.
    """

    TITLE_TEXT = "Compare with"
    HEADING = f"{'run':<{_NAME}} {'fixed':>7}{'newly wrong':>13}{'net':>7}   evaluation"
    NONE_FOUND = "no other evaluation of the same images was found"
    BINDINGS: ClassVar[list[BindingType]] = [bind("compare", "leave", show=False)]

    def __init__(self, runs_dir: Path, own: Path, found: Predictions) -> None:
        super().__init__(runs_dir)
        self._own = own
        self._predictions = found

    def listed(self, runs: list[RunSummary]) -> list[tuple[Content, Path]]:
        """Return a line for each file with predictions of the same images."""
        return [(_row(found), found.path) for found in comparables(runs, self._own, self._predictions)]


def _row(found: Comparable) -> Content:
    name = Content(found.name).truncate(_NAME, ellipsis=True, pad=True)
    tested = found.tested
    net = tested.broken - tested.fixed
    tone = "$success" if net < 0 else "$error" if net > 0 else "$muted"
    return Content.assemble(
        name,
        f" {tested.fixed:>7,}{tested.broken:>13,}",
        (f"{net:>+7,}" if net else f"{0:>7}", tone),
        (f"   {found.facts}", "$muted"),
    )


def comparables(runs: list[RunSummary], own: Path, found: Predictions) -> list[Comparable]:
    """Return what `found` can be compared with: the parent of the run in `own`, then others, then its own best one.

    Predictions of other images, and files that cannot be used, are left out.
    """
    mine = next((run for run in runs if Path(run.path) == own), None)
    parent = mine.parent if mine is not None else None
    listed: list[tuple[int, Comparable]] = []
    for run in runs:
        folder = RunFolder(Path(run.path))
        is_own = folder.path == own
        rank = 0 if run.name == parent else 2 if is_own else 1
        what = "its parent" if rank == 0 else "this run" if is_own else run.data
        best = "" if run.best_accuracy is None else f" {run.best_accuracy:.2%}"
        files = [(folder.best_predictions, f"best{best}, {what}")]
        if not is_own:
            files.append((folder.last_predictions, f"last, {what}"))
        # What an exported file said, as `finetui export` keeps it: best.onnx.predictions.
        files += [(path, f"exported {path.stem}") for path in sorted(folder.path.glob("*.*.predictions"))]
        for path, facts in files:
            tested = _tested(path, found)
            if tested is not None:
                listed.append((rank, Comparable(path, run.name, facts, tested)))
    return [item for _, item in sorted(listed, key=lambda pair: pair[0])]


def _tested(path: Path, found: Predictions) -> McNemar | None:
    """Return how `found` compares with the predictions in `path`; None where it does not."""
    if not path.is_file():
        return None
    try:
        return compare(found, load_predictions(path)).mcnemar(found)
    except BadInput:
        return None
