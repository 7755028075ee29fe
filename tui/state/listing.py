"""What the Errors screen lists, and the words for it. Knows no widget, and never blocks the screen by itself."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np

from finetui.engine.predictions.criteria import Change, Selection
from finetui.engine.predictions.file import Predictions, load_predictions
from finetui.engine.predictions.label_errors import likely_label_errors
from finetui.engine.predictions.selection import Flags, Rows, check_comparable, select
from finetui.engine.text import clean

SHOWN_TOP = 5


@dataclass(frozen=True, eq=False)
class Listing:
    """The rows of `predictions` that `selection` lists.

    `compared` says what `flags.other` is from; `duplicates` maps a row to the training image that is the same, and is
    None while nobody has looked.
    """

    predictions: Predictions
    flags: Flags
    selection: Selection
    rows: Rows
    compared: str = ""
    duplicates: dict[int, int] | None = None

    def select(self, selection: Selection, marked: Collection[int]) -> "Listing":
        """Return what another selection lists. Raises `BadInput`."""
        return replace(self, selection=selection, rows=select(self.predictions, selection, self.flags, marked))

    def compare(self, path: Path, name: str, change: Change, marked: Collection[int]) -> "Listing":
        """Return what changed against the predictions in the file `path`. Raises `BadInput` if they do not fit."""
        selection = msgspec.structs.replace(self.selection, change=change)
        return self.compared_with(load_predictions(path), name).select(selection, marked)

    def compared_with(self, other: Predictions, name: str) -> "Listing":
        """Return the same list with `other` to compare with. Raises `BadInput` if they do not fit."""
        check_comparable(self.predictions, other)
        return replace(self, flags=msgspec.structs.replace(self.flags, other=other), compared=name)

    def with_duplicates(self, pairs: Collection[tuple[int, int]]) -> "Listing":
        """Return the same list, now that images (by their place in their part) are known as training images."""
        found = dict(pairs)
        mask = np.isin(self.predictions.index, np.fromiter(found, dtype=np.int32, count=len(found)))
        rows = np.flatnonzero(mask)
        duplicates = {int(row): found[int(self.predictions.index[row])] for row in rows}
        return replace(self, flags=msgspec.structs.replace(self.flags, duplicates=mask), duplicates=duplicates)


def listing_of(found: Predictions, selection: Selection) -> Listing:
    """Return what `selection` lists of `found`. Raises `BadInput`."""
    flags = Flags(label_errors=likely_label_errors(found))
    return Listing(found, flags, selection, select(found, selection, flags))


def image_name(found: Predictions, row: int) -> str:
    """Return what the image of `row` is called: its path in the data, or its place in its part."""
    return clean(found.files.name(row), 1000) or f"{found.origin.part} image {found.index[row]:,}"
