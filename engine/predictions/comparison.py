"""Two networks on the same images: which predictions belong together, and whether one network is better."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from finetui.engine.errors import BadInput
from finetui.engine.predictions.class_matching import match_by_name
from finetui.engine.predictions.file import Files, Predictions

MOST_EXACT = 10_000  # discordant images up to which the binomial distribution is summed: 10 ms
Rows = npt.NDArray[np.int64]


class McNemar(msgspec.Struct, frozen=True, kw_only=True):
    """McNemar's test of two networks on the same `n` images.

    `fixed` images only the later network gets right, `broken` only the one compared with. `p` is the probability,
    were both equally good, of counts at least as unequal: by the `test` "exact binomial", or, of more than
    `MOST_EXACT` such images, "chi-square" with one degree of freedom and Edwards's continuity correction.
    """

    n: int
    fixed: int
    broken: int
    test: str
    p: float

    def net(self) -> str:
        """Return the difference in mistakes, in few words."""
        fewer = self.fixed - self.broken
        return f"net {abs(fewer):,} {'fewer' if fewer > 0 else 'more'} wrong" if fewer else "net 0"

    def words(self) -> str:
        """Return the test's result in few words."""
        return f"McNemar's test ({self.test}): {self.p_words()}"

    def p_words(self) -> str:
        """Return the probability as it is written."""
        return f"p = {self.p:.3f}" if self.p >= 0.001 else f"p = {self.p:.1e}"

    def brief(self) -> str:
        """Return the result in few words, for people."""
        return f"{self.fixed:,} fixed, {self.broken:,} newly wrong; {self.words()}"

    def sentence(self, other: str) -> str:
        """Return the result in a line, for people; `other` is what is compared with."""
        return f"compared with {other} on the same {self.n:,} images: {self.brief()}"


def mcnemar(right: npt.NDArray[np.bool_], right_before: npt.NDArray[np.bool_]) -> McNemar:
    """Return McNemar's test of which of the same images two networks get right: bool `[n]` each.

    After McNemar, "Note on the sampling error of the difference between correlated proportions or percentages",
    Psychometrika 12 (1947), and Edwards, Psychometrika 13 (1948).
    """
    fixed, broken = int((right & ~right_before).sum()), int((~right & right_before).sum())
    discordant = fixed + broken
    if discordant <= MOST_EXACT:
        term = tail = 1  # whole numbers, however large: binomial coefficients and their sum
        for k in range(min(fixed, broken)):
            term = term * (discordant - k) // (k + 1)
            tail += term
        test, p = "exact binomial", min(1.0, 2 * tail / 2**discordant)
    else:
        statistic = max(abs(fixed - broken) - 1, 0) ** 2 / discordant
        test, p = "chi-square", math.erfc(math.sqrt(statistic / 2))
    return McNemar(n=len(right), fixed=fixed, broken=broken, test=test, p=p)


@dataclass(frozen=True, eq=False)
class Comparison:
    """Predictions with those of another network, `other`, on the same images.

    `rows` has the row of `other` that is about each row's image, -1 where there is none: int64 `[n]`.
    """

    other: Predictions
    rows: Rows

    @property
    def paired(self) -> npt.NDArray[np.bool_]:
        """Tell of each row whether there is something to compare it with: bool `[n]`."""
        return np.greater_equal(self.rows, 0)

    def was_wrong(self) -> npt.NDArray[np.bool_]:
        """Tell of each row whether it was a mistake before: bool `[n]`; not so where it cannot be compared."""
        return np.asarray(self.paired & self.other.wrong[self.rows])

    def predicted_before(self, predictions: Predictions) -> npt.NDArray[np.int64]:
        """Return what each row of `predictions` was taken for, as one of its classes: int64 `[n]`.

        A class that it does not know is -1; so is what cannot be compared.
        """
        places = match_by_name(predictions.classes, self.other.classes).places
        return np.where(self.paired, places[self.other.predicted[self.rows]], -1)

    def mcnemar(self, predictions: Predictions) -> McNemar:
        """Return McNemar's test of the images that both are about."""
        paired = self.paired
        return mcnemar(~predictions.wrong[paired], ~self.other.wrong[self.rows[paired]])


def compare(predictions: Predictions, other: Predictions, advice: str = "") -> Comparison:
    """Return `predictions` with those of `other` on the same images.

    Images are the same by their paths, those of images without files by their places in their part; classes by their
    names, in whatever order either has them. Raises `BadInput` when the two are about other images, or label them
    otherwise; `advice` says what to do about two of different parts.
    """
    part, others = predictions.origin.part, other.origin.part
    if part != others:
        said = f"the two cannot be compared: one is of {part} images, the other of {others} images"
        raise BadInput(f"{said}; {advice}" if advice else said)
    rows = _same_images(predictions, other)
    paired = rows >= 0
    places = match_by_name(predictions.classes, other.classes).places
    if not (places >= 0).any():
        raise BadInput("the two cannot be compared: they have no class in common")
    labels = places[other.label[rows[paired]]]
    if not paired.any() or not np.array_equal(labels, predictions.label[paired]):
        raise BadInput(f"the two cannot be compared: they are not about the same {part} images with the same labels")
    return Comparison(other, rows)


def _same_images(predictions: Predictions, other: Predictions) -> Rows:
    ours, theirs = predictions.files, other.files
    if not len(ours) or not len(theirs):
        return _found(predictions.index.tolist(), other.index.tolist())
    paths = _found(_paths(ours), _paths(theirs))
    # The same folder may lie elsewhere by now.
    return paths if (paths >= 0).any() else _found(_names(ours), _names(theirs))


def _paths(files: Files) -> list[str]:
    return [files.path(row) for row in range(len(files))]


def _names(files: Files) -> list[str]:
    return [files.name(row) for row in range(len(files))]


def _found(ours: Sequence[object], theirs: Sequence[object]) -> Rows:
    """Return where in `theirs` each of `ours` is, -1 where it is not."""
    places = {key: row for row, key in enumerate(theirs)}
    return np.fromiter((places.get(key, -1) for key in ours), dtype=np.int64, count=len(ours))
