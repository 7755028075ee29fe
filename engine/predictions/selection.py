"""Which predictions are listed, and in what order. Works on numbers in memory, needs no torch."""

from collections.abc import Collection, Mapping

import msgspec
import numpy as np
import numpy.typing as npt

from finetui.engine.errors import BadInput
from finetui.engine.predictions.comparison import Comparison
from finetui.engine.predictions.criteria import UNSURE_MARGIN, Change, LabelFilter, Selection
from finetui.engine.predictions.file import Predictions

Rows = npt.NDArray[np.int32]
Mask = npt.NDArray[np.bool_]


class Flags(msgspec.Struct, frozen=True, kw_only=True):
    """What else is known of the rows: bool `[n]` each, None where it was not looked into.

    `label_errors` has the possibly wrong labels, by the name of each filter.
    """

    label_errors: Mapping[LabelFilter, Mask | None] = {}
    duplicates: Mask | None = None
    comparison: Comparison | None = None


def select(
    predictions: Predictions, selection: Selection, flags: Flags | None = None, marked: Collection[int] = ()
) -> Rows:
    """Return the rows that `selection` lists, in its order; `marked` are rows that a person marked.

    Duplicates that nobody looked for are none. Raises `BadInput` when a comparison is asked for and there is nothing
    to compare with, and where nothing is known of the label errors that are asked for.
    """
    return _ordered(predictions, selection, np.flatnonzero(_kept(predictions, selection, flags or Flags(), marked)))


def count(
    predictions: Predictions, selection: Selection, flags: Flags | None = None, marked: Collection[int] = ()
) -> int:
    """Return how many rows `selection` lists; see `select`."""
    return int(_kept(predictions, selection, flags or Flags(), marked).sum())


def _kept(predictions: Predictions, selection: Selection, flags: Flags, marked: Collection[int]) -> Mask:
    keep = _shown(predictions, selection, flags)
    if selection.true is not None:
        keep &= predictions.label == selection.true
    if selection.predicted is not None:
        keep &= predictions.predicted == selection.predicted
    if selection.low > 0:
        keep &= predictions.confidence >= selection.low
    if selection.high < 1:
        keep &= predictions.confidence <= selection.high
    if selection.label_errors is not None:
        keep &= _label_errors(flags, selection.label_errors)
    if selection.duplicates:
        keep &= False if flags.duplicates is None else flags.duplicates
    if selection.marked:
        only = np.zeros(len(predictions), dtype=np.bool_)
        only[list(marked)] = True
        keep &= only
    if selection.text:
        keep &= predictions.files.containing(selection.text) if len(predictions.files) else False
    return keep


def _label_errors(flags: Flags, wanted: LabelFilter) -> Mask:
    found = flags.label_errors.get(wanted)
    if found is None:
        raise BadInput(f"these predictions have no label errors by {wanted}; evaluate again")
    return found


def _shown(predictions: Predictions, selection: Selection, flags: Flags) -> Mask:
    if selection.change:
        if flags.comparison is None:
            raise BadInput("there is nothing to compare with; choose another run or checkpoint first")
        return changed(predictions, flags.comparison, selection.change)
    wrong = predictions.wrong
    match selection.show:
        case "wrong":
            return wrong
        case "right":
            return ~wrong
        case "unsure":
            return np.asarray(~wrong & (predictions.margin < UNSURE_MARGIN))
        case "all":
            return np.ones(len(predictions), dtype=np.bool_)


def _ordered(predictions: Predictions, selection: Selection, rows: npt.NDArray[np.intp]) -> Rows:
    match selection.sort:
        case "loss":
            order = np.argsort(-predictions.loss[rows], kind="stable")
        case "confidence":
            order = np.argsort(-predictions.confidence[rows], kind="stable")
        case "margin":
            order = np.argsort(predictions.margin[rows], kind="stable")
        case "index":
            order = np.argsort(predictions.index[rows], kind="stable")
    if selection.reverse:
        order = order[::-1]
    return rows[order].astype(np.int32)


def changed(predictions: Predictions, comparison: Comparison, change: Change) -> Mask:
    """Tell of each row whether it is fixed, broken, still wrong, or of another class: bool `[n]`.

    What cannot be compared is none of these.
    """
    if change == "other-class":
        return np.asarray(comparison.paired & (comparison.predicted_before(predictions) != predictions.predicted))
    was, is_now = comparison.was_wrong(), predictions.wrong
    broken = ~was & is_now & comparison.paired
    return {"": np.ones_like(was), "fixed": was & ~is_now, "broken": broken, "still-wrong": was & is_now}[change]


class Pair(msgspec.Struct, frozen=True):
    """`count` images of class `true` were taken for `predicted`."""

    true: int
    predicted: int
    count: int


def most_confused(confusion: npt.NDArray[np.int64]) -> list[Pair]:
    """Return all pairs of classes that were confused in `confusion` (`[true, predicted]`), the most frequent first."""
    counts = confusion.copy()
    np.fill_diagonal(counts, 0)
    cells = np.flatnonzero(counts)
    cells = cells[np.argsort(-counts.ravel()[cells], kind="stable")]
    true, predicted = np.divmod(cells, len(counts))
    return [
        Pair(*values)
        for values in zip(true.tolist(), predicted.tolist(), counts[true, predicted].tolist(), strict=True)
    ]
