"""The form that says where a plot is exported to, and what is written there: PNG, SVG, CSV or text."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from textual.widget import Widget

from finetui.engine.errors import BadInput, FinetuiError, reason_of
from finetui.engine.files import replacing
from finetui.engine.text import clean
from finetui.tui.keys import KEYS
from finetui.tui.screens.form import Form
from finetui.tui.state.export import check_free
from finetui.tui.state.run_curves import TRAINED, WATCHED, RunCurves
from finetui.tui.widgets import plot_figure
from finetui.tui.widgets.form_rows import ChoiceRow, TextRow
from finetui.tui.widgets.plot_drawing import PlotContent, Plotter

Kind = Literal["png", "svg", "csv", "txt"]

_KINDS: dict[Kind, str] = {
    "png": f"an image, {plot_figure.WIDTH} x {plot_figure.HEIGHT} pixels",
    "svg": "a vector image, for papers and web pages",
    "csv": "the values of the whole run: epoch, step, seconds, mean, least and greatest, smoothed",
    "txt": "the plot as text, as in the terminal",
}
_TEXT_SIZE = (100, 30)  # cells


@dataclass(frozen=True)
class PlotTarget:
    """What a plot is written to, and as what."""

    path: Path
    kind: Kind


def plot_target(text: str, *, overwrite: bool = False) -> PlotTarget:
    """Return what the path `text` asks for, by its ending. Raises `BadInput` when it cannot be written there."""
    path = Path(text).expanduser()
    kind = next((kind for kind in _KINDS if path.suffix.lower() == f".{kind}"), None)
    where = clean(str(path))
    if not text.strip() or kind is None:
        raise BadInput(f"{f'{where}: ' if text.strip() else ''}enter a file that ends in .png, .svg, .csv or .txt")
    if path.is_dir():
        raise BadInput(f"{where} is a folder; enter a file")
    check_free(path, overwrite=overwrite)
    return PlotTarget(path, kind)


class PlotExportForm(Form[PlotTarget]):
    """Asks where the plot called `title` is to be written."""

    TITLE_TEXT = "Export the plot"
    APPLY = (KEYS["confirm"].shown, "Export")

    def __init__(self, default: Path) -> None:
        super().__init__()
        self._default = default

    def rows(self) -> list[Widget]:
        """Where, and whether something may be overwritten."""
        return [
            TextRow("path", "To", str(self._default), ".png, .svg, .csv or .txt"),
            ChoiceRow("overwrite", "Overwrite", ("no", "yes"), "no"),
        ]

    def read(self) -> PlotTarget:
        """Return what was asked for. Raises `BadInput`."""
        return plot_target(self.text("path"), overwrite=self.choice("overwrite") == "yes")

    def words(self, found: PlotTarget) -> str:
        """Return what will be written."""
        return f"{_KINDS[found.kind]}: {clean(str(found.path.absolute()), 500)}"


@dataclass(frozen=True)
class PlotSource:
    """A plot that is exported: how it is drawn and what of, and the curves of the run that the metric `key` has."""

    title: str
    plotter: Plotter
    content: PlotContent
    curves: RunCurves
    key: str
    smoothing: float

    def as_text(self) -> bytes:
        """Return it as text."""
        picture = self.plotter.draw(self.content, _TEXT_SIZE)
        lines = [self.title, *("".join(row).rstrip() for row in picture.chars.tolist())]
        return ("\n".join(lines) + "\n").encode("utf-8", "replace")

    def as_csv(self) -> bytes:
        """Return the values as CSV (RFC 4180), those of training first; a row stands for one point or several."""
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\r\n")
        writer.writerow(("series", "epoch", "step", "seconds", self.key, "least", "greatest", "smoothed"))
        kinds = [kind for kind, keys in (("train", TRAINED), ("evaluation", WATCHED)) if self.key in keys] or ["own"]
        for kind, curve in zip(kinds, self.curves.of(self.key), strict=True):
            told = curve.buckets()
            smoothed = curve.smoothed(self.smoothing)[1] if kind == "train" else np.full(len(told.x), np.nan)
            step, seconds = (self.curves.in_unit(unit, told.x) for unit in ("step", "time"))
            for row in zip(told.x, np.rint(step), seconds, told.mean, told.low, told.high, smoothed, strict=True):
                writer.writerow((kind, *("" if np.isnan(value) else f"{value:.9g}" for value in row)))
        return text.getvalue().encode()

    def write(self, target: PlotTarget) -> str:
        """Write it, whole or not at all, and return a sentence. Raises `FinetuiError` when that fails."""
        if target.kind == "csv":
            content = self.as_csv()
        elif target.kind == "txt":
            content = self.as_text()
        else:
            draw = plot_figure.png if target.kind == "png" else plot_figure.svg
            content = draw(self.plotter, self.content, self.title)
        where = clean(str(target.path))
        try:
            with replacing(target.path, synced=False) as file:
                file.write(content)
        except OSError as error:
            raise FinetuiError(f"{where} could not be written: {reason_of(error)}") from error
        return f"plot written to {where}"
