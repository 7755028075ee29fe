"""One pass over a test set, and what it says of each class."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional as F

from engine.data import Split
from engine.errors import BadInput
from engine.events import ClassReport

EVALUATION_BATCH = 1000
_MOST_VALUES = 2_000_000  # in one batch: 1000 of MNIST's images, 16 of ImageNet's


def batch_size_for(channels: int, height: int, width: int) -> int:
    """Return how many inputs of this shape are evaluated at once."""
    return max(16, min(EVALUATION_BATCH, _MOST_VALUES // (channels * height * width)))


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
    data: Split,
    classes: Sequence[str],
    *,
    batch_size: int = 0,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
    stopped: Callable[[], bool] = lambda: False,
) -> Report | None:
    """Return the report of `model` on `data`, or None when `stopped` answered True before the end.

    The model is left in `eval()` mode. `batch_size` 0 means `EVALUATION_BATCH`. `progress(done, total)` counts images.
    Raises `BadInput` when no image could be read.
    """
    model.eval()
    count = len(classes)
    confusion = torch.zeros(count * count, dtype=torch.int64)
    loss_sum = 0.0
    done = 0
    with torch.inference_mode():
        for inputs, labels in data.batches(torch.arange(len(data)), batch_size or EVALUATION_BATCH):
            if stopped():
                return None
            # Files that prove unreadable leave a streamed batch smaller, or empty.
            if len(labels):
                logits = model(inputs)
                loss_sum += float(F.cross_entropy(logits, labels, reduction="sum"))
                pairs = labels * count + logits.argmax(1)
                confusion += torch.bincount(pairs.cpu(), minlength=count * count)
                done += len(labels)
            progress(done, len(data))
    if not done:
        raise BadInput("none of the test images could be read")
    matrix = confusion.view(count, count).numpy()
    return Report(
        loss=loss_sum / done,
        accuracy=float(np.trace(matrix)) / done,
        n=done,
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
