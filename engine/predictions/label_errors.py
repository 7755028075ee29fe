"""Images whose label is possibly wrong, by what a network says of them.

After Northcutt, Jiang and Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels", JAIR 70 (2021): an
image is counted for class j if its probability of j is at least what is usual for images labelled j; where it is so for
several classes, for the one that the network predicts. The two filters are those that cleanlab's `find_label_issues`
calls `filter_by="confident_learning"` and `filter_by="prune_by_noise_rate"` (its default).
"""

import numpy as np
import numpy.typing as npt

from finetui.engine.predictions.criteria import LABEL_FILTERS, LabelFilter
from finetui.engine.predictions.file import TOP, Predictions

_TOLERANCE = 1e-6  # cleanlab's, wherever rounding must not decide
_LEAST_USUAL = 2e-6  # cleanlab's: no probability is usual that is nearly 0
_PAGE = 8192  # rows looked at at a time

Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.integer]


def possible_label_errors(predictions: Predictions) -> dict[LabelFilter, Mask | None]:
    """Tell by each filter of each row whether its label is possibly wrong: bool `[n]`; None where that is not known.

    Exact where the evaluation kept it, and where the file has the probabilities of all classes. Of predictions with
    more classes from before either was so, the likeliest of each image are looked at, for confident learning alone.
    """
    if predictions.label_errors:
        return {name: predictions.label_errors.get(name) for name in LABEL_FILTERS}
    count = len(predictions.classes)
    if count > TOP:
        return {"confident-learning": _among_likeliest(predictions), "prune-by-noise-rate": None}
    probabilities = np.empty((len(predictions), count), dtype=np.float32)
    for rows, top, probability in predictions.top_pages():
        np.put_along_axis(probabilities[rows], top, probability, 1)
    return {**find_label_errors(probabilities, predictions.label)}


def _among_likeliest(predictions: Predictions) -> Mask:
    """Tell which images are counted for another class than their label, as far as their likeliest classes tell."""
    label = predictions.label
    # The probability of the true class follows from the loss, whatever its rank.
    least = _least(np.exp(-predictions.loss), label, len(predictions.classes))
    wrong = np.zeros(len(predictions), dtype=np.bool_)
    for rows, top, probability in predictions.top_pages():
        confident = probability >= least[top]
        number = confident.sum(1)
        first = np.where(number > 1, 0, confident.argmax(1))
        guessed = np.take_along_axis(top, first[:, None], 1)[:, 0]
        wrong[rows] = (number > 0) & (guessed != label[rows])
    return wrong & predictions.wrong


def label_quality(loss: Floats) -> Floats:
    """Return how likely the label of each image is, from its cross entropy in nats: 0 to 1, `[n]`.

    It is cleanlab's label quality score `self_confidence`, by which possible label errors are ranked, lowest first.
    """
    return np.asarray(np.exp(-loss))


def find_label_errors(probabilities: Floats, labels: Ints) -> dict[LabelFilter, Mask]:
    """Return what both filters say of images with these `probabilities`, `[n, classes]`, and `labels`, `[n]`."""
    return {
        "confident-learning": confident_learning(probabilities, labels),
        "prune-by-noise-rate": prune_by_noise_rate(probabilities, labels),
    }


def confident_learning(probabilities: Floats, labels: Ints) -> Mask:
    """Tell which images are counted for another class than their label: bool `[n]`.

    That is the off-diagonal of the confident joint. An image that is predicted as labelled is never one of them.
    """
    guessed = _guessed(probabilities, labels)
    return np.asarray((guessed >= 0) & (guessed != labels) & ~_predicted_as_labelled(probabilities, labels))


def prune_by_noise_rate(probabilities: Floats, labels: Ints) -> Mask:
    """Tell which images are pruned by the noise rates that the confident joint estimates: bool `[n]`.

    Of the images labelled k as many as are estimated to be of class j are taken, those first whose probability of j
    exceeds that of k by most. An image that is predicted as labelled is never one of them.
    """
    count = probabilities.shape[1]
    joint = _calibrated_joint(_guessed(probabilities, labels), labels, count)
    pruned = np.zeros(len(labels), dtype=np.bool_)
    order = np.argsort(labels, kind="stable")
    ends = np.cumsum(np.bincount(labels, minlength=count))
    for label, rows in enumerate(np.split(order, ends[:-1])):
        if len(rows) <= 1:  # at least one image of each class stays
            continue
        mine = probabilities[rows].astype(np.float64)
        for other in np.flatnonzero(joint[label]):
            if other != label:
                margin = mine[:, other] - mine[:, label]
                pruned[rows[np.argsort(-margin)[: joint[label, other]]]] = True
    return pruned & ~_predicted_as_labelled(probabilities, labels)


def _guessed(probabilities: Floats, labels: Ints) -> npt.NDArray[np.int64]:
    """Return the class that each image is counted for, -1 where there is none."""
    n, count = probabilities.shape
    least = _least(probabilities[np.arange(n), labels], labels, count)
    guessed = np.empty(n, dtype=np.int64)
    for start in range(0, n, _PAGE):
        page = probabilities[start : start + _PAGE]
        confident = page >= least
        number = confident.sum(1)
        guess = np.where(number > 1, page.argmax(1), confident.argmax(1))
        guessed[start : start + _PAGE] = np.where(number > 0, guess, -1)
    return guessed


def _least(own: Floats, labels: Ints, count: int) -> npt.NDArray[np.float64]:
    """Return the least probability with which an image is counted for each class; `own` are those of the labels."""
    sizes = np.bincount(labels, minlength=count)
    usual = np.bincount(labels, weights=own, minlength=count) / np.maximum(sizes, 1)
    # Nothing is counted for a class without images.
    return np.asarray(np.where(sizes > 0, np.maximum(usual, _LEAST_USUAL), np.inf) - _TOLERANCE)


def _calibrated_joint(guessed: npt.NDArray[np.int64], labels: Ints, count: int) -> npt.NDArray[np.int64]:
    """Return how many images with each label are estimated to be of each class: int64 `[label, class]`.

    Rows are scaled to the number of images with the label, rounded so that they keep that sum; at least one image of
    each class is taken to be labelled rightly, at the expense of the others.
    """
    counted = guessed >= 0
    cells = labels[counted].astype(np.int64) * count + guessed[counted]
    joint = np.bincount(cells, minlength=count * count).reshape(count, count).astype(np.float64)
    np.fill_diagonal(joint, np.maximum(joint.diagonal(), 1))
    sizes = np.bincount(labels, minlength=count)
    scaled = joint / joint.sum(1, keepdims=True) * sizes[:, None]
    scaled = scaled / scaled.sum() * sizes.sum()  # changes last digits alone, which may decide how a half is rounded
    rounded = np.stack([_rounded(row, int(size)) for row, size in zip(scaled, sizes, strict=True)])
    missing = np.maximum(1 - rounded.diagonal(), 0)
    shared = missing / np.maximum(np.count_nonzero(rounded, axis=1) - 1, 1)
    kept = np.floor(np.maximum(rounded - shared[:, None], 0)).astype(np.int64)
    np.fill_diagonal(kept, np.maximum(rounded.diagonal(), 1))
    return np.asarray(kept, dtype=np.int64)


def _rounded(values: npt.NDArray[np.float64], total: int) -> npt.NDArray[np.int64]:
    """Return `values` rounded to whole numbers with the sum `total`; those change that are furthest from theirs."""
    whole = values.round()
    while (short := int(total - whole.sum())) != 0:
        by_excess = np.argsort(values - whole)
        whole[by_excess[::-1][:short] if short > 0 else by_excess[:-short]] += np.sign(short)
    return np.asarray(whole, dtype=np.int64)


def _predicted_as_labelled(probabilities: Floats, labels: Ints) -> Mask:
    """Tell which images have no class that is likelier than their label by more than rounding: bool `[n]`."""
    as_labelled = np.empty(len(labels), dtype=np.bool_)
    for start in range(0, len(labels), _PAGE):
        page, own = probabilities[start : start + _PAGE].astype(np.float64), labels[start : start + _PAGE]
        page[np.arange(len(own)), own] += _TOLERANCE
        as_labelled[start : start + _PAGE] = page.argmax(1) == own
    return as_labelled
