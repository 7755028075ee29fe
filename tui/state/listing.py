"""What the Errors screen lists, and the words for it. Knows no widget, and never blocks the screen by itself."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import numpy as np

from finetui.engine.predictions.comparison import McNemar, compare
from finetui.engine.predictions.criteria import Change, Selection
from finetui.engine.predictions.file import Predictions, load_predictions
from finetui.engine.predictions.label_errors import possible_label_errors
from finetui.engine.predictions.selection import Flags, Mask, Rows, select
from finetui.engine.text import clean

SHOWN_TOP = 5


@dataclass(frozen=True, eq=False)
class Listing:
    """The rows of `predictions` that `selection` lists.

    `compared` says what `flags.comparison` is with; `duplicates` maps a row to the training image that is the same, and
    is None while nobody has looked; `training_files` maps a row to that image's path, if it has one.
    """

    predictions: Predictions
    flags: Flags
    selection: Selection
    rows: Rows
    compared: str = ""
    duplicates: dict[int, int] | None = None
    training_files: Mapping[int, str] = field(default_factory=dict)

    @property
    def label_errors(self) -> Mask | None:
        """The rows whose label is possibly wrong, by the filter that is chosen, or else by confident learning."""
        return self.flags.label_errors.get(self.selection.label_errors or "confident-learning")

    def select(self, selection: Selection, marked: Collection[int]) -> "Listing":
        """Return what another selection lists. Raises `BadInput`."""
        return replace(self, selection=selection, rows=select(self.predictions, selection, self.flags, marked))

    def compare(self, path: Path, name: str, change: Change, marked: Collection[int]) -> "Listing":
        """Return what changed against the predictions in the file `path`. Raises `BadInput` if they do not fit."""
        selection = msgspec.structs.replace(self.selection, change=change)
        return self.compared_with(load_predictions(path), name, "press p first").select(selection, marked)

    def compared_with(self, other: Predictions, name: str, advice: str) -> "Listing":
        """Return the same list with `other` to compare with. Raises `BadInput` if they do not fit; see `compare`."""
        comparison = compare(self.predictions, other, advice)
        return replace(self, flags=msgspec.structs.replace(self.flags, comparison=comparison), compared=name)

    def mcnemar(self) -> McNemar | None:
        """Return McNemar's test against what is compared with; None where that is nothing."""
        comparison = self.flags.comparison
        return None if comparison is None else comparison.mcnemar(self.predictions)

    def training_image(self, row: int) -> str:
        """Return what the training image is called that is the same as `row`; empty where there is none."""
        place = (self.duplicates or {}).get(row)
        return "" if place is None else clean(self.training_files.get(row, ""), 4096) or f"training image {place:,}"

    def with_duplicates(self, pairs: Collection[tuple[int, int]], names: Sequence[str] = ()) -> "Listing":
        """Return the same list, now that images (by their place in their part) are known as training images.

        `names` are the training images' paths, in the order of `pairs`; empty where they have none.
        """
        named = dict(zip((test for test, _ in pairs), names, strict=False))
        found = dict(pairs)
        mask = np.isin(self.predictions.index, np.fromiter(found, dtype=np.int32, count=len(found)))
        rows = np.flatnonzero(mask)
        duplicates = {int(row): found[int(self.predictions.index[row])] for row in rows}
        files = {int(row): named[index] for row in rows if (index := int(self.predictions.index[row])) in named}
        flags = msgspec.structs.replace(self.flags, duplicates=mask)
        return replace(self, flags=flags, duplicates=duplicates, training_files=files)


def listing_of(found: Predictions, selection: Selection) -> Listing:
    """Return what `selection` lists of `found`. Raises `BadInput`."""
    flags = Flags(label_errors=possible_label_errors(found))
    return Listing(found, flags, selection, select(found, selection, flags))


def image_name(found: Predictions, row: int) -> str:
    """Return what the image of `row` is called: its path in the data, or its place in its part."""
    return clean(found.files.name(row), 1000) or f"{found.origin.part} image {found.index[row]:,}"
