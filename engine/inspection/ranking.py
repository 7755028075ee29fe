"""How well the probability of each class tells its images from all others; needs the probabilities of all images."""

import os
import tempfile
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from finetui.engine.errors import BadInput, reason_of
from finetui.engine.predictions.metrics import ranked

QUICKLY_RANKED = 10_000_000  # probabilities: 40 MB, a fraction of a second
_AT_ONCE = 16  # classes
_IN_MEMORY = 200_000_000  # bytes; what is more goes to a file without a name


Ranks = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]


def rank_classes(probabilities: npt.NDArray[np.float32], labels: npt.NDArray[np.int32]) -> Ranks:
    """Return ROC-AUC and average precision of each class against the rest, `[classes]` each; NaN: not defined.

    `probabilities` are those of all images, float32 `[n, classes]`, and `labels` int32 `[n]`.
    """
    found = []
    for start in range(0, probabilities.shape[1], _AT_ONCE):
        # Some classes at a time: one alone would touch every page of the array, all would be a copy of it.
        rows = np.ascontiguousarray(probabilities[:, start : start + _AT_ONCE].T)
        found += [ranked(labels == start + place, row) for place, row in enumerate(rows)]
    areas, precisions = np.asarray(found, dtype=np.float64).T
    return areas, precisions


class ClassRanking:
    """Keeps the probabilities of all images, float32, class by class, in memory or in a temporary file."""

    def __init__(self, classes: int, images: int) -> None:
        """Make room for `images` images. Raises `BadInput` when there is no room for a temporary file."""
        self._shape = (classes, images)
        self._done = 0
        self._labels: list[npt.NDArray[np.int32]] = []
        self._held: npt.NDArray[np.float32] | None = None
        self._file: BinaryIO | None = None
        if 4 * classes * images <= _IN_MEMORY:
            self._held = np.empty(self._shape, dtype=np.float32)
        else:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115  # it lives as long as this

    def add(self, probabilities: npt.NDArray[np.float32], labels: npt.NDArray[np.int32]) -> None:
        """Take the probabilities `[B, classes]` and the labels `[B]` of the next images."""
        start, self._done = self._done, self._done + len(labels)
        self._labels.append(labels)
        if self._held is not None:
            self._held[:, start : self._done] = probabilities.T
            return
        assert self._file is not None
        by_class = np.ascontiguousarray(probabilities.T)
        try:
            for label, row in enumerate(by_class):
                os.pwrite(self._file.fileno(), row.tobytes(), 4 * (label * self._shape[1] + start))
        except OSError as error:
            size = 4 * self._shape[0] * self._shape[1] / 1e9
            raise BadInput(
                f"the probabilities of all images need {size:.1f} GB in {tempfile.gettempdir()}: {reason_of(error)}; "
                "set TMPDIR to a folder with room"
            ) from error

    def _of(self, label: int) -> npt.NDArray[np.float32]:
        if self._held is not None:
            return self._held[label, : self._done]
        assert self._file is not None
        found = os.pread(self._file.fileno(), 4 * self._done, 4 * label * self._shape[1])
        return np.frombuffer(found, dtype=np.float32)

    def take(self) -> Ranks:
        """Return ROC-AUC and average precision of each class against the rest, `[classes]` each; forget the images.

        What is not defined is NaN.
        """
        labels = np.concatenate(self._labels)
        found = [ranked(labels == label, self._of(label)) for label in range(self._shape[0])]
        self._held = None
        if self._file is not None:
            self._file.close()
        areas, precisions = np.asarray(found, dtype=np.float64).T
        return areas, precisions
