"""What the Errors screen lists, and the words for it. Knows no widget, and never blocks the screen by itself."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from finetui.engine.predictions.comparison import McNemar, compare
from finetui.engine.predictions.criteria import CHANGES, SHOWS, Change, Selection
from finetui.engine.predictions.file import Predictions, load_predictions
from finetui.engine.predictions.label_errors import possible_label_errors
from finetui.engine.predictions.selection import Flags, Mask, Rows, count, select
from finetui.engine.protocol.commands import FindDuplicates
from finetui.engine.protocol.events import DuplicatesFound
from finetui.engine.text import clean

SHOWN_TOP = 5


class Tab(NamedTuple):
    """One kind of image that can be listed: how many there are within the other filters, and whether it is listed."""

    changes: dict[str, str]  # of the selection
    number: int
    chosen: bool


@dataclass(frozen=True, eq=False)
class Listing:
    """The rows of `predictions` that `selection` lists.

    `tabs` are the kinds that can be listed instead. `compared` says what `flags.comparison` is with. `duplicates` maps
    a row to the training image that is the same, and is None while nobody has looked; `training_files` maps a row to
    that image's path, if it has one.
    """

    predictions: Predictions
    flags: Flags
    selection: Selection
    rows: Rows
    tabs: tuple[Tab, ...] = ()
    compared: str = ""
    duplicates: dict[int, int] | None = None
    training_files: Mapping[int, str] = field(default_factory=dict)

    @property
    def label_errors(self) -> Mask | None:
        """The rows whose label is possibly wrong, by the filter that is chosen, or else by confident learning."""
        return self.flags.label_errors.get(self.selection.label_errors or "confident-learning")

    def label_error_rank(self, row: int) -> tuple[int, int]:
        """Return at which place (from 1) `row` is among the possible label errors by label quality, and their number.

        The place is 0 where it is none of them.
        """
        flagged = self.label_errors
        if flagged is None:
            return 0, 0
        number = int(flagged.sum())
        if not flagged[row]:
            return 0, number
        # The label quality falls with the loss; see `finetui.engine.predictions.label_errors.label_quality`.
        return int((self.predictions.loss[flagged] > self.predictions.loss[row]).sum()) + 1, number

    def select(self, selection: Selection, marked: Collection[int]) -> "Listing":
        """Return what another selection lists. Raises `BadInput`."""
        rows = select(self.predictions, selection, self.flags, marked)
        return replace(self, selection=selection, rows=rows, tabs=self._tabs(selection, marked))

    def _tabs(self, selection: Selection, marked: Collection[int]) -> tuple[Tab, ...]:
        name, kinds = ("change", CHANGES[1:]) if selection.change else ("show", SHOWS)
        tabs = []
        for kind in kinds:
            other = msgspec.structs.replace(selection, **{name: kind})
            number = count(self.predictions, other, self.flags, marked)
            tabs.append(Tab({name: kind}, number, chosen=getattr(selection, name) == kind))
        return tuple(tabs)

    def compare(self, path: Path, change: Change, marked: Collection[int]) -> "Listing":
        """Return what changed against the predictions in the file `path`. Raises `BadInput` if they do not fit."""
        selection = msgspec.structs.replace(self.selection, change=change)
        name = f"{path.parent.name} ({path.stem})"
        return self.compared_with(load_predictions(path), name, "press p first").select(selection, marked)

    def compared_with(self, other: Predictions, name: str, advice: str) -> "Listing":
        """Return the same list with `other` to compare with. Raises `BadInput` if they do not fit; see `compare`."""
        comparison = compare(self.predictions, other, advice)
        return replace(self, flags=msgspec.structs.replace(self.flags, comparison=comparison), compared=name)

    def uncompared(self, marked: Collection[int]) -> "Listing":
        """Return what the same selection lists without a comparison."""
        flags = msgspec.structs.replace(self.flags, comparison=None)
        selection = msgspec.structs.replace(self.selection, change="")
        return replace(self, flags=flags, compared="").select(selection, marked)

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
    return Listing(found, flags, selection, np.empty(0, dtype=np.int32)).select(selection, ())


def image_name(found: Predictions, row: int) -> str:
    """Return what the image of `row` is called: its path in the data, or its place in its part."""
    return clean(found.files.name(row), 1000) or f"{found.origin.part} image {found.index[row]:,}"


def with_duplicates(listing: Listing, found: DuplicatesFound, marked: Collection[int]) -> Listing:
    """Return the list anew, now that it is known which images are in the training set."""
    return listing.with_duplicates(found.pairs, found.names).select(listing.selection, marked)


def told_duplicates(
    listing: Listing, asked: FindDuplicates, found: DuplicatesFound, marked: Collection[int]
) -> Listing:
    """Return the list with what was `found`, listed anew only where it is filtered by that; none of another part."""
    if listing.predictions.origin.part != asked.part:
        return listing
    if listing.selection.duplicates:
        return with_duplicates(listing, found, marked)
    return listing.with_duplicates(found.pairs, found.names)
