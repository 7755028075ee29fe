"""The form that says what is exported, and where to."""

from dataclasses import dataclass
from pathlib import Path

from textual.widget import Widget

from finetui.engine.text import clean
from finetui.tui.keys import KEYS
from finetui.tui.screens.form import Form
from finetui.tui.state.export import Target, target_of
from finetui.tui.widgets.form_rows import ChoiceRow, TextRow

_KINDS = {
    "csv": "one line per image (path, classes, probabilities)",
    "json": "one object per image (path, classes, probabilities)",
    "sheet": "a contact sheet of the images",
    "folder": "a folder with the images and predictions.csv",
}


@dataclass(frozen=True)
class ExportRequest:
    """What is to be written where: only marked images, or all that are listed."""

    target: Target
    marked_only: bool


class ExportForm(Form[ExportRequest]):
    """Asks where `listed` images, or the `marked` ones among all, are to be written."""

    TITLE_TEXT = "Export"
    APPLY = (KEYS["confirm"].shown, "Export")

    def __init__(self, listed: int, marked: int, default: Path) -> None:
        super().__init__()
        self._counts = {f"the {listed:,} listed": False, f"the {marked:,} marked": True}
        self._only_listed = not marked
        self._default = default

    def rows(self) -> list[Widget]:
        """What, where, and whether something may be overwritten."""
        options = tuple(self._counts)[: 1 if self._only_listed else 2]
        return [
            ChoiceRow("what", "Images", options, options[-1]),
            TextRow("path", "To", str(self._default), ".csv, .json, .png or a folder"),
            ChoiceRow("overwrite", "Overwrite", ("no", "yes"), "no"),
        ]

    def read(self) -> ExportRequest:
        """Return what was asked for. Raises `BadInput`."""
        target = target_of(self.text("path"), overwrite=self.choice("overwrite") == "yes")
        return ExportRequest(target, self._counts[self.choice("what")])

    def words(self, found: ExportRequest) -> str:
        """Return what will be written."""
        return f"{_KINDS[found.target.kind]}: {clean(str(found.target.path.absolute()), 500)}"
