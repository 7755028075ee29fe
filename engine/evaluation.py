"""One pass over a test set, and what it says of each class."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional as F

from engine.data import ResidentSplit
from engine.events import ClassReport

EVALUATION_BATCH = 1000


@dataclass(frozen=True)
class Report:
    """What one pass over `n` images found.

    `loss` is the mean cross entropy in nats, `accuracy` from 0 to 1. `confusion` is int64
    `[classes, classes]`, rows true, columns predicted.
    """

    loss: float
    accuracy: float
    n: int
    per_class: tuple[ClassReport, ...]
    confusion: npt.NDArray[np.int64]


def evaluate(
    model: nn.Module,
    data: ResidentSplit,
    classes: Sequence[str],
    *,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
    stopped: Callable[[], bool] = lambda: False,
) -> Report | None:
    """Return the report of `model` on `data`, or None when `stopped` answered True before the end.

    The model is left in `eval()` mode. `progress(done, total)` counts images.
    """
    model.eval()
    count = len(classes)
    confusion = torch.zeros(count * count, dtype=torch.int64)
    loss_sum = 0.0
    with torch.inference_mode():
        for start in range(0, len(data), EVALUATION_BATCH):
            if stopped():
                return None
            inputs, labels = data.slice(start, start + EVALUATION_BATCH)
            logits = model(inputs)
            loss_sum += float(F.cross_entropy(logits, labels, reduction="sum"))
            pairs = labels * count + logits.argmax(1)
            confusion += torch.bincount(pairs.cpu(), minlength=count * count)
            progress(min(start + EVALUATION_BATCH, len(data)), len(data))
    matrix = confusion.view(count, count).numpy()
    return Report(
        loss=loss_sum / len(data),
        accuracy=float(np.trace(matrix)) / len(data),
        n=len(data),
        per_class=class_reports(matrix, classes),
        confusion=matrix,
    )


def class_reports(confusion: npt.NDArray[np.int64], classes: Sequence[str]) -> tuple[ClassReport, ...]:
    """Return each class's scores from the matrix `[classes, classes]` (rows true, columns predicted).

    A score whose denominator is 0 (a class never predicted, or without images) is 0, as in scikit-learn.
    """
    hits = np.diag(confusion).astype(np.float64)
    support = confusion.sum(1)
    predicted = confusion.sum(0)
    precision = hits / np.maximum(predicted, 1)
    recall = hits / np.maximum(support, 1)
    f1 = 2 * hits / np.maximum(support + predicted, 1)
    return tuple(
        ClassReport(
            label=label,
            support=int(support[i]),
            precision=float(precision[i]),
            recall=float(recall[i]),
            f1=float(f1[i]),
            accuracy=float(recall[i]),
        )
        for i, label in enumerate(classes)
    )
