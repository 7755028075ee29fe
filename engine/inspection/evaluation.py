"""One pass over a test set, and what it says of each class."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from finetui.engine.data import Split
from finetui.engine.errors import BadInput
from finetui.engine.predictions.criteria import LabelFilter
from finetui.engine.predictions.file import TOP, Files, Origin, Predictions
from finetui.engine.predictions.label_errors import find_label_errors
from finetui.engine.protocol.events import ClassReport

EVALUATION_BATCH = 1000
_MOST_KEPT = 2**30  # bytes of probabilities, of which label errors are found: 260,000 images in 1000 classes
_MOST_VALUES = 2_000_000  # in one batch: 1000 of MNIST's images, 16 of ImageNet's


def batch_size_for(channels: int, height: int, width: int) -> int:
    """Return how many inputs of this shape are evaluated at once."""
    return max(16, min(EVALUATION_BATCH, _MOST_VALUES // (channels * height * width)))


@dataclass(frozen=True)
class Report:
    """What one pass over `n` images found.

    `loss` is the mean cross entropy in nats, `accuracy` from 0 to 1. `confusion` is int64
    `[classes, classes]`, rows true, columns predicted. `columns`, `top` and `top_probability` are what
    `finetui.engine.predictions.file.Predictions` is made of. `label_errors` are its flags of the same name, for more
    than `TOP` classes.
    """

    loss: float
    accuracy: float
    n: int
    per_class: tuple[ClassReport, ...]
    confusion: npt.NDArray[np.int64]
    columns: dict[str, npt.NDArray[Any]]
    top: npt.NDArray[np.int32]
    top_probability: npt.NDArray[np.float32]
    label_errors: Mapping[LabelFilter, npt.NDArray[np.bool_]] = field(default_factory=dict)


class _Collector:
    """Gathers what is known of each image, batch by batch, on the CPU."""

    def __init__(self, n: int, classes: int) -> None:
        """Expect at most `n` images; the probabilities of all `classes` are kept where their first ones do not do."""
        self._batches: list[dict[str, npt.NDArray[Any]]] = []
        self._done = 0
        in_full = classes > TOP and 4 * n * classes <= _MOST_KEPT
        self._probabilities = np.empty((n, classes), dtype=np.float32) if in_full else None

    def add(self, index: list[int], logits: Tensor, labels: Tensor) -> None:
        logits = logits.float()
        # Stable: among equals the first class is the predicted one, as with argmax.
        ordered, classes = logits.sort(dim=1, descending=True, stable=True)
        log_sum = logits.logsumexp(1, keepdim=True)
        top_probability = (ordered[:, :TOP] - log_sum).exp()
        log_true = logits.gather(1, labels[:, None]) - log_sum
        hit = classes[:, 0] == labels
        second = top_probability[:, 1] if logits.shape[1] > 1 else torch.zeros_like(top_probability[:, 0])
        if self._probabilities is not None:
            rows = slice(self._done, self._done + len(labels))
            self._probabilities[rows] = (logits - log_sum).exp().numpy(force=True)
        self._done += len(labels)
        margin = log_true[:, 0].exp() - torch.where(hit, second, top_probability[:, 0])
        self._batches.append(
            {
                "index": np.asarray(index, dtype=np.int32),
                "label": _numbers(labels),
                "predicted": _numbers(classes[:, 0]),
                "confidence": top_probability[:, 0].numpy(force=True),
                "loss": -log_true[:, 0].numpy(force=True),
                "margin": margin.numpy(force=True),
                "top": _numbers(classes[:, :TOP]),
                "top_probability": top_probability.numpy(force=True),
            }
        )

    def label_errors(self, labels: npt.NDArray[np.int32]) -> Mapping[LabelFilter, npt.NDArray[np.bool_]]:
        """Return which labels are possibly wrong; nothing where that follows from the likeliest classes."""
        if self._probabilities is None:
            return {}
        return find_label_errors(self._probabilities[: self._done], labels)

    def take(self) -> dict[str, npt.NDArray[Any]]:
        """Return what was gathered, by name; nothing where there was no image."""
        batches, self._batches = self._batches, []
        return {name: np.concatenate([batch[name] for batch in batches]) for name in (batches[0] if batches else ())}


def _numbers(values: Tensor) -> npt.NDArray[np.int32]:
    return values.to(torch.int32).numpy(force=True)


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
    batch_size = batch_size or EVALUATION_BATCH
    order = torch.nonzero(data.labels >= 0)[:, 0]  # a label below 0: no class of the network's
    places = order.tolist()
    collector = _Collector(len(places), count)
    start = done = 0
    with torch.inference_mode():
        for inputs, labels in data.batches(order, batch_size):
            if stopped():
                return None
            indices = [index for index in places[start : start + batch_size] if index not in data.skipped]
            # Files that prove unreadable leave a streamed batch smaller, or empty.
            if len(labels):
                collector.add(indices, model(inputs), labels)
                done += len(labels)
            start += batch_size
            progress(done, len(places))
    if not done:
        raise BadInput("none of the test images could be read")
    columns = collector.take()
    top, top_probability = columns.pop("top"), columns.pop("top_probability")
    cells = columns["label"].astype(np.int64) * count + columns["predicted"]
    matrix = np.bincount(cells, minlength=count * count).reshape(count, count)
    return Report(
        loss=float(columns["loss"].mean(dtype=np.float64)),
        accuracy=float(np.trace(matrix)) / done,
        n=done,
        per_class=class_reports(matrix, classes),
        confusion=matrix,
        columns=columns,
        top=top,
        top_probability=top_probability,
        label_errors=collector.label_errors(columns["label"]),
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


def predictions_of(report: Report, origin: Origin, files: Files) -> Predictions:
    """Return what `report` knows of each image."""
    return Predictions(origin, report.columns, report.top, report.top_probability, files, report.label_errors)


def files_of(split: Split) -> Files:
    """Return the paths of the images' files, if they have any."""
    # A split has files for all of its images, or for none.
    paths = [split.file(index) for index in range(len(split))] if len(split) and split.file(0) else []
    return Files.of(paths)
