"""What predictions amount to: accuracy, averages over the classes, calibration. Torch is not needed.

Each figure is what scikit-learn and torchmetrics compute, and the tests hold it against both.
"""

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from finetui.engine.errors import BadInput
from finetui.engine.predictions.file import Predictions
from finetui.engine.predictions.interval import wilson
from finetui.engine.protocol.values import ClassReport

BINS = 15  # of the calibration error, as Guo et al. have it
TOP_K = 5


class Bin(msgspec.Struct, frozen=True, kw_only=True):
    """One bar of a reliability diagram: the `count` images whose confidence is above `low` and not above `high`.

    `confidence` is their mean confidence and `accuracy` the share of them that is right; both 0 where there are none.
    """

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


class Scores(msgspec.Struct, frozen=True, kw_only=True):
    """What an evaluation of `n` images amounts to; shares run from 0 to 1.

    `interval` is the 95 % interval of `accuracy` (Wilson). `balanced_accuracy` is the mean recall of the classes that
    have images. `macro` and `weighted` average precision, recall and F1 over the classes, as scikit-learn's
    `classification_report` does. `majority_baseline` is the accuracy of always saying `majority_class`, the commonest.
    `top5` is the share of images whose class is among the five likeliest (None: no more than five classes; among equals
    the first classes count). `log_loss` is the mean cross entropy in nats, `calibration_error` the expected calibration
    error over the bins `calibration`. `roc_auc` and `average_precision` have a number for each class against the rest
    (None: not defined, the class or the rest has no images), and are empty where the evaluation did not compute them;
    the macro ones are the means of those that are defined.
    """

    n: int
    accuracy: float
    interval: tuple[float, float]
    balanced_accuracy: float
    macro: ClassReport
    weighted: ClassReport
    majority_baseline: float
    majority_class: str
    top5: float | None
    log_loss: float
    calibration_error: float
    calibration: tuple[Bin, ...]
    per_class: tuple[ClassReport, ...]
    roc_auc: tuple[float | None, ...] = ()
    average_precision: tuple[float | None, ...] = ()
    macro_roc_auc: float | None = None
    macro_average_precision: float | None = None


def scores_of(predictions: Predictions) -> Scores:
    """Return what `predictions` amount to. Raises `BadInput` where there are none."""
    n = len(predictions)
    if not n:
        raise BadInput("there are no images in these predictions")
    confusion = predictions.confusion()
    losses = class_losses(predictions.loss, predictions.label, len(confusion))
    per_class = class_reports(confusion, predictions.classes, losses)
    macro, weighted = averages(confusion, losses)
    support = confusion.sum(1)
    accuracy = float(np.trace(confusion)) / n
    commonest = int(support.argmax())
    bins = calibration(predictions.confidence, ~predictions.wrong)
    return Scores(
        n=n,
        accuracy=accuracy,
        interval=wilson(accuracy, n),
        balanced_accuracy=balanced_accuracy(confusion),
        macro=macro,
        weighted=weighted,
        majority_baseline=int(support[commonest]) / n,
        majority_class=predictions.classes[commonest],
        top5=top_accuracy(predictions, TOP_K) if len(predictions.classes) > TOP_K else None,
        log_loss=float(predictions.loss.mean(dtype=np.float64)),
        calibration_error=calibration_error(bins),
        calibration=bins,
        per_class=per_class,
        roc_auc=_defined(predictions.roc_auc),
        average_precision=_defined(predictions.average_precision),
        macro_roc_auc=_mean(predictions.roc_auc),
        macro_average_precision=_mean(predictions.average_precision),
    )


def _defined(values: npt.NDArray[np.float64]) -> tuple[float | None, ...]:
    return tuple(None if np.isnan(value) else float(value) for value in values)


def _mean(values: npt.NDArray[np.float64]) -> float | None:
    found = values[~np.isnan(values)]
    return float(found.mean()) if len(found) else None


def class_losses(loss: npt.NDArray[np.float32], labels: npt.NDArray[np.int32], count: int) -> npt.NDArray[np.float64]:
    """Return the mean of `loss`, `[n]`, over the images with each label: float64 `[count]`, NaN without images."""
    sizes = np.bincount(labels, minlength=count)
    sums = np.bincount(labels, weights=loss, minlength=count)
    return np.where(sizes > 0, sums / np.maximum(sizes, 1), np.nan)


def class_reports(
    confusion: npt.NDArray[np.int64], classes: Sequence[str], losses: npt.NDArray[np.float64] | None = None
) -> tuple[ClassReport, ...]:
    """Return each class's scores from the matrix `[classes, classes]` (rows true, columns predicted).

    `losses` are what `class_losses` returns. A score whose denominator is 0 (a class never predicted, or without
    images) is 0, as in scikit-learn. Of two classes that it is mistaken for as often, the first counts.
    """
    support, precision, recall, f1 = _by_class(confusion)
    mistaken_for, mistaken = most_mistaken(confusion)
    means = (None,) * len(support) if losses is None else _defined(losses)
    return tuple(
        ClassReport(
            label=label,
            support=int(support[i]),
            precision=float(precision[i]),
            recall=float(recall[i]),
            f1=float(f1[i]),
            accuracy=float(recall[i]),
            loss=means[i],
            mistaken_for=int(mistaken_for[i]) if mistaken[i] else None,
            mistaken=int(mistaken[i]),
        )
        for i, label in enumerate(classes)
    )


def most_mistaken(confusion: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.int64]]:
    """Return what each class is most often mistaken for, and how often that is: `[classes]` each."""
    off = confusion.copy()
    np.fill_diagonal(off, -1)  # of a single class there is no other, and none is its mistake
    most = off.argmax(1)
    return most, np.maximum(off[np.arange(len(off)), most], 0)


def _by_class(confusion: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], ...]:
    """Return support, precision, recall and F1 of each class, `[classes]` each."""
    hits = np.diag(confusion).astype(np.float64)
    support, predicted = confusion.sum(1), confusion.sum(0)
    precision = hits / np.maximum(predicted, 1)
    recall = hits / np.maximum(support, 1)
    return support, precision, recall, 2 * hits / np.maximum(support + predicted, 1)


def averages(
    confusion: npt.NDArray[np.int64], losses: npt.NDArray[np.float64] | None = None
) -> tuple[ClassReport, ClassReport]:
    """Return the macro and the weighted average of all classes' scores, from the matrix `[classes, classes]`.

    A class that has no images and is never predicted is left out of the macro average, as scikit-learn and torchmetrics
    do. `losses` are what `class_losses` returns; a class without images has none to be averaged.
    """
    support, *scores = _by_class(confusion)
    seen = support + confusion.sum(0) > 0
    found = []
    for label, weights in (("macro avg", seen), ("weighted avg", support)):
        total = max(float(weights.sum()), 1.0)
        precision, recall, f1 = (float((score * weights).sum()) / total for score in scores)
        found.append(
            ClassReport(
                label=label,
                support=int(support.sum()),
                precision=precision,
                recall=recall,
                f1=f1,
                accuracy=recall,
                loss=None if losses is None else _weighed(losses, weights),
            )
        )
    return found[0], found[1]


def _weighed(values: npt.NDArray[np.float64], weights: npt.NDArray[np.int64]) -> float | None:
    """Return the mean of those `values` that are defined, by their weights."""
    known = ~np.isnan(values)
    return float(np.average(values[known], weights=weights[known])) if weights[known].any() else None


def balanced_accuracy(confusion: npt.NDArray[np.int64]) -> float:
    """Return the mean recall of the classes that have images."""
    support = confusion.sum(1)
    there = support > 0
    return float((np.diag(confusion)[there] / support[there]).mean()) if there.any() else 0.0


def top_accuracy(predictions: Predictions, k: int) -> float:
    """Return the share of images whose class is among the `k` likeliest; at most `TOP` of them are known."""
    hits = sum(int(in_top(top, predictions.label[rows], k).sum()) for rows, top, _ in predictions.top_pages())
    return hits / len(predictions)


def in_top(top: npt.NDArray[np.int32], labels: npt.NDArray[np.int32], k: int) -> npt.NDArray[np.bool_]:
    """Tell of each image whether its class is among the first `k` of `top`, `[n, m]`, likeliest first: bool `[n]`."""
    found: npt.NDArray[np.bool_] = (top[:, :k] == labels[:, None]).any(1)
    return found


def calibration(confidence: npt.NDArray[np.float32], right: npt.NDArray[np.bool_]) -> tuple[Bin, ...]:
    """Return the reliability diagram of predictions: `BINS` bins of equal width over [0, 1].

    `confidence` is the probability of the predicted class, `right` whether it is the true one, `[n]` each. After Guo,
    Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks", ICML 2017: a bin holds its upper end.
    """
    edges = np.linspace(0, 1, BINS + 1)
    place = np.searchsorted(edges[1:-1].astype(np.float32), confidence, side="left")
    count = np.bincount(place, minlength=BINS)
    sums = (np.bincount(place, weights=values, minlength=BINS) for values in (confidence, right))
    means, shares = (found / np.maximum(count, 1) for found in sums)
    return tuple(
        Bin(low=low, high=high, count=n, confidence=mean, accuracy=share)
        for low, high, n, mean, share in zip(
            edges[:-1].tolist(), edges[1:].tolist(), count.tolist(), means.tolist(), shares.tolist(), strict=True
        )
    )


def calibration_error(bins: Sequence[Bin]) -> float:
    """Return the expected calibration error: the mean distance of confidence and accuracy, bins weighed by images."""
    total = sum(found.count for found in bins)
    return sum(found.count * abs(found.accuracy - found.confidence) for found in bins) / max(total, 1)


def ranked(truth: npt.NDArray[np.bool_], score: npt.NDArray[np.float32]) -> tuple[float, float]:
    """Return the area under the ROC curve and the average precision of `score` for `truth`, `[n]` each.

    Equal scores are one threshold. A figure without a meaning (no image is true, or for the first all are) is NaN.
    """
    ordered, own = np.sort(score), np.sort(score[truth])
    positive, negative = len(own), len(score) - len(own)
    if not positive:
        return np.nan, np.nan
    # Of each true image: how many scores are below its own, and how many not above, among all and among the true.
    (below, upto), (own_below, own_upto) = (
        [np.searchsorted(scores, own, side) for side in ("left", "right")] for scores in (ordered, own)
    )
    precision = float(((positive - own_below) / (len(score) - below)).mean())
    if not negative:
        return np.nan, precision
    # Half of what is equal counts as ordered rightly.
    area = float((below + upto - own_below - own_upto).sum()) / 2
    return area / positive / negative, precision
