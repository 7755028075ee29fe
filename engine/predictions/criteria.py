"""What a person wants to see of a list of predictions. Imports next to nothing: the command line is built from it."""

from collections.abc import Callable
from typing import Literal, get_args

import msgspec

Show = Literal["wrong", "unsure", "right", "all"]
Sort = Literal["loss", "confidence", "margin", "index"]
LabelFilter = Literal["confident-learning", "prune-by-noise-rate"]
Change = Literal["", "fixed", "broken", "still-wrong", "other-class"]
SHOWS: tuple[Show, ...] = get_args(Show)
SORTS: tuple[Sort, ...] = get_args(Sort)
CHANGES: tuple[Change, ...] = get_args(Change)
# For people: what was right before and is wrong now was not broken by anybody.
CHANGE_WORDS: dict[str, str] = {"fixed": "fixed", "broken": "newly wrong", "still-wrong": "still wrong"} | {
    "other-class": "other class"
}
LABEL_FILTERS: tuple[LabelFilter, ...] = get_args(LabelFilter)

UNSURE_MARGIN = 0.3  # a right answer whose margin is smaller is an unsure one


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """What is listed: everything that fits all fields.

    `show` is mistakes, right answers with a margin below `UNSURE_MARGIN`, all right answers, or all; with `change`, how
    a prediction differs from the one compared with, it does not count. `true` and `predicted` are classes,
    `confidence` is that of the predicted class. `text` is looked for in the path; `label_errors` is a filter for
    possibly wrong labels. `sort` puts the highest loss, the highest confidence, the lowest margin or the lowest index
    first, `reverse` the other way round.
    """

    show: Show = "wrong"
    true: int | None = None
    predicted: int | None = None
    low: float = 0.0
    high: float = 1.0
    text: str = ""
    label_errors: LabelFilter | None = None
    duplicates: bool = False
    marked: bool = False
    change: Change = ""
    sort: Sort = "loss"
    reverse: bool = False

    @property
    def unfiltered(self) -> "Selection":
        """The same order without any filter."""
        return Selection(sort=self.sort, reverse=self.reverse)


# What is to be listed, once the names of the classes are known. Raises `BadInput` where there is no such class.
Choose = Callable[[tuple[str, ...]], Selection]
