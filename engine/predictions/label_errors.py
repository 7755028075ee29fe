"""Images whose label is likely wrong: confident learning.

After Northcutt, Jiang and Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels", JAIR 70 (2021): an
image is counted for class j if its probability of j is at least what is usual for images labelled j, and among several
such classes for the likeliest. Those that are counted for another class than their label are the candidates (the
off-diagonal of the confident joint, cleanlab's `filter_by="confident_learning"`).
"""

import numpy as np
import numpy.typing as npt

from finetui.engine.predictions.file import Predictions

_TOLERANCE = 1e-6  # as in cleanlab: rounding must not decide


def likely_label_errors(predictions: Predictions) -> npt.NDArray[np.bool_]:
    """Tell of each row whether its label is likely wrong: bool `[n]`.

    Exact up to `finetui.engine.predictions.file.TOP` classes; of more, the likeliest of each image are looked at.
    """
    count = len(predictions.classes)
    label = predictions.label
    # The probability of the true class follows from the loss, whatever its rank.
    own = np.exp(-predictions.loss)
    sizes = np.bincount(label, minlength=count)
    # A class without images has no usual probability: nothing is counted for it.
    usual = np.where(sizes > 0, np.bincount(label, weights=own, minlength=count) / np.maximum(sizes, 1), np.inf)
    likely = np.zeros(len(predictions), dtype=np.bool_)
    for rows, top, probability in predictions.top_pages():
        confident = probability >= usual[top] - _TOLERANCE
        # Classes are ordered by probability: the first confident one is the likeliest.
        first = confident.argmax(1)
        suggested = np.take_along_axis(top, first[:, None], 1)[:, 0]
        likely[rows] = confident.any(1) & (suggested != label[rows])
    return likely
