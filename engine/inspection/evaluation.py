"""One pass over a test set, and what it says of each class."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from finetui.engine.data import Split
from finetui.engine.errors import BadInput
from finetui.engine.inspection.ranking import ClassRanking, Ranks, rank_classes
from finetui.engine.models.outputs import logits
from finetui.engine.predictions.criteria import LabelFilter
from finetui.engine.predictions.file import TOP, Files, Origin, Predictions
from finetui.engine.predictions.label_errors import find_label_errors
from finetui.engine.predictions.metrics import averages, calibration, calibration_error, class_losses, class_reports
from finetui.engine.protocol.events import ClassReport

# Indices and labels of a batch, and what computes its logits; of several, those of the images `order`, so many at once.
ScoredBatch = tuple[list[int], Tensor, Callable[[], Tensor]]
Scores = Callable[[Tensor, int], Iterator[ScoredBatch]]

EVALUATION_BATCH = 1000
_MOST_KEPT = 2**30  # bytes of probabilities, of which label errors are found: 260,000 images in 1000 classes
_MOST_VALUES = 2_000_000  # in one batch: 1000 of MNIST's images, 16 of ImageNet's


def batch_size_for(channels: int, height: int, width: int) -> int:
    """Return how many inputs of this shape are evaluated at once."""
    return max(16, min(EVALUATION_BATCH, _MOST_VALUES // (channels * height * width)))


@dataclass(frozen=True)
class Report:
    """What one pass over `n` images found.

    `loss` is the mean cross entropy in nats, `accuracy` from 0 to 1; `averages` are the macro and the weighted ones of
    `per_class`. `confusion` is int64 `[classes, classes]`, rows true, columns predicted. `columns`, `top` and
    `top_probability`, where they were asked for `roc_auc` and `average_precision`, and for more than `TOP` classes
    `label_errors`, are what `finetui.engine.predictions.file.Predictions` is made of. `uncalibrated` are the loss and
    the expected calibration error without the temperature, where one was given.
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
    averages: tuple[ClassReport, ...] = ()
    roc_auc: npt.NDArray[np.float64] | None = None
    average_precision: npt.NDArray[np.float64] | None = None
    uncalibrated: tuple[float, float] | None = None


class Collector:
    """Gathers what is known of each image, batch by batch, on the CPU."""

    def __init__(self, images: int, classes: int, temperature: float, ranked: bool) -> None:
        """Expect at most `images`; the probabilities of all `classes` are kept where their first ones do not do."""
        self._batches: list[dict[str, npt.NDArray[Any]]] = []
        self._images = images
        self._temperature = temperature
        self._ranked = ranked
        self._ranking: ClassRanking | None = None
        self._done = 0
        in_full = classes > TOP and 4 * images * classes <= _MOST_KEPT
        self._probabilities = np.empty((images, classes), dtype=np.float32) if in_full else None

    def add(self, index: list[int], logits: Tensor, labels: Tensor) -> None:
        """Take a batch in: the images' places, their logits `[B, classes]` and their labels `[B]`."""
        before = logits.float()
        logits = before if self._temperature == 1 else before / self._temperature
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
        if self._temperature != 1:
            log_all = before.log_softmax(1)
            self._batches[-1] |= {
                "raw_loss": -log_all.gather(1, labels[:, None])[:, 0].numpy(force=True),
                "raw_confidence": log_all.amax(1).exp().numpy(force=True),
            }
        if self._ranked and self._probabilities is None:
            self._ranking = self._ranking or ClassRanking(logits.shape[1], self._images)
            self._ranking.add((logits - log_sum).exp().numpy(force=True), self._batches[-1]["label"])

    def report(self, classes: Sequence[str]) -> Report:
        """Return what was gathered of one image or more."""
        columns = {name: np.concatenate([batch[name] for batch in self._batches]) for name in self._batches[0]}
        self._batches = []
        top, top_probability = columns.pop("top"), columns.pop("top_probability")
        uncalibrated = None
        if self._temperature != 1:
            bins = calibration(columns.pop("raw_confidence"), columns["label"] == columns["predicted"])
            uncalibrated = float(columns.pop("raw_loss").mean(dtype=np.float64)), calibration_error(bins)
        roc_auc, average_precision = self._ranks(columns["label"])
        count, n = len(classes), len(columns["label"])
        cells = columns["label"].astype(np.int64) * count + columns["predicted"]
        matrix = np.bincount(cells, minlength=count * count).reshape(count, count)
        losses = class_losses(columns["loss"], columns["label"], count)
        return Report(
            loss=float(columns["loss"].mean(dtype=np.float64)),
            accuracy=float(np.trace(matrix)) / n,
            n=n,
            per_class=class_reports(matrix, classes, losses),
            confusion=matrix,
            columns=columns,
            top=top,
            top_probability=top_probability,
            label_errors=self._label_errors(columns["label"]),
            averages=averages(matrix, losses),
            roc_auc=roc_auc,
            average_precision=average_precision,
            uncalibrated=uncalibrated,
        )

    def _ranks(self, labels: npt.NDArray[np.int32]) -> Ranks | tuple[None, None]:
        """Return ROC-AUC and average precision of each class, where they were asked for."""
        if self._ranking is not None:
            return self._ranking.take()
        if not self._ranked or self._probabilities is None:
            return None, None
        return rank_classes(self._probabilities[: self._done], labels)

    def _label_errors(self, labels: npt.NDArray[np.int32]) -> Mapping[LabelFilter, npt.NDArray[np.bool_]]:
        """Return which labels are possibly wrong; nothing where that follows from the likeliest classes."""
        if self._probabilities is None:
            return {}
        return find_label_errors(self._probabilities[: self._done], labels)


def _numbers(values: Tensor) -> npt.NDArray[np.int32]:
    return values.to(torch.int32).numpy(force=True)


def evaluate(
    model: nn.Module,
    data: Split,
    classes: Sequence[str],
    *,
    batch_size: int = 0,
    temperature: float = 1.0,
    ranked: bool = False,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
    stopped: Callable[[], bool] = lambda: False,
    scores: Scores | None = None,
) -> Report | None:
    """Return the report of `model` on `data`, or None when `stopped` answered True before the end.

    `scores`, where it is given, computes what `network_scores` of the two does, in another way.
    The model is left in `eval()` mode. `batch_size` 0 means `EVALUATION_BATCH`. Logits are divided by `temperature`.
    With `ranked`, ROC-AUC and average precision are computed, which sorts all images once for each class.
    `progress(done, total)` counts images. Raises `BadInput` when no image could be read.
    """
    model.eval()
    batch_size = batch_size or EVALUATION_BATCH
    order = torch.nonzero(data.labels >= 0)[:, 0]  # a label below 0: no class of the network's
    places = order.tolist()
    collector = Collector(len(places), len(classes), temperature, ranked)
    start = done = 0
    with torch.inference_mode():
        for indices, labels, compute in (scores or partial(network_scores, model, data))(order, batch_size):
            if stopped():
                return None
            # Files that prove unreadable leave a streamed batch smaller, or empty.
            if len(labels):
                collector.add(indices, compute(), labels)
                done += len(labels)
            start += batch_size
            progress(min(start, len(places)), len(places))
    if not done:
        raise BadInput("none of the test images could be read")
    return collector.report(classes)


def report_of(logits: Tensor, labels: Tensor, classes: Sequence[str], *, ranked: bool = False) -> Report:
    """Return the report of `logits`, `[n, classes]`, for images with these `labels`, int64 `[n]`, one at least.

    `ranked` as in `evaluate`.
    """
    collector = Collector(len(labels), len(classes), 1.0, ranked)
    for start in range(0, len(labels), EVALUATION_BATCH):
        rows = range(start, min(start + EVALUATION_BATCH, len(labels)))
        collector.add(list(rows), logits[rows.start : rows.stop], labels[rows.start : rows.stop])
    return collector.report(classes)


def network_scores(model: nn.Module, data: Split, order: Tensor, batch_size: int) -> Iterator[ScoredBatch]:
    """Yield what `model` says of the images `order` (int64 `[N]`) of `data`, in batches."""
    places = order.tolist()
    for number, (inputs, labels) in enumerate(data.batches(order, batch_size)):
        batch = places[number * batch_size : (number + 1) * batch_size]
        indices = [index for index in batch if index not in data.skipped]
        yield indices, labels, partial(logits, model, inputs)


def predictions_of(report: Report, origin: Origin, files: Files) -> Predictions:
    """Return what `report` knows of each image."""
    return Predictions(
        origin,
        report.columns,
        report.top,
        report.top_probability,
        files,
        label_errors=report.label_errors,
        roc_auc=report.roc_auc,
        average_precision=report.average_precision,
    )


def files_of(split: Split) -> Files:
    """Return the paths of the images' files, if they have any."""
    # A split has files for all of its images, or for none.
    paths = [split.file(index) for index in range(len(split))] if len(split) and split.file(0) else []
    return Files.of(paths)
