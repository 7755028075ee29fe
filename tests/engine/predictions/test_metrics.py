"""Figures from predictions: their edge cases, and each beside scikit-learn's and torchmetrics' own."""

import math
import warnings
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, strategies as st

from finetui.engine.errors import BadInput
from finetui.engine.predictions.file import TOP, Files, Origin, Predictions
from finetui.engine.predictions.interval import accuracy_words, wilson
from finetui.engine.predictions.metrics import calibration, calibration_error, ranked, scores_of


def predictions_for(probabilities: np.ndarray, labels: np.ndarray) -> Predictions:
    """Return the predictions that an evaluation with these `probabilities`, `[n, classes]`, writes."""
    probabilities = probabilities.astype(np.float32)
    count = probabilities.shape[1]
    order = np.argsort(-probabilities, 1, kind="stable")[:, :TOP]
    top = np.take_along_axis(probabilities, order, 1)
    own = probabilities[np.arange(len(labels)), labels]
    columns = {
        "index": np.arange(len(labels)),
        "label": labels,
        "predicted": order[:, 0],
        "confidence": top[:, 0],
        "loss": -np.log(own),
        "margin": np.zeros(len(labels)),
    }
    ranks = np.array([ranked(labels == label, probabilities[:, label]) for label in range(count)]).T
    origin = Origin(classes=tuple(f"c{i}" for i in range(count)), data="d")
    return Predictions(
        origin,
        columns,
        order.astype(np.int32),
        top,
        Files.of(()),
        **dict(zip(("roc_auc", "average_precision"), ranks, strict=True)),
    )


def drawn(n: int, classes: int, *, seed: int = 0, sharp: float = 1.0, labels: range | None = None) -> Predictions:
    return predictions_for(*drawn_arrays(n, classes, seed=seed, sharp=sharp, labels=labels))


def drawn_arrays(
    n: int, classes: int, *, seed: int = 0, sharp: float = 1.0, labels: range | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities and labels; the right class is helped, `labels` are those that there are."""
    random = np.random.default_rng(seed)
    truth = random.choice(np.arange(classes) if labels is None else np.array(labels), n)
    logits = random.normal(size=(n, classes)) * sharp
    logits[np.arange(n), truth] += sharp * (random.random(n) < 0.7) * 2
    shares = np.exp(logits - logits.max(1, keepdims=True))
    return (shares / shares.sum(1, keepdims=True)).astype(np.float32), truth


def ties(n: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities of a few values each, so that most are tied."""
    random = np.random.default_rng(5)
    shares = random.integers(1, 4, (n, classes)).astype(np.float64)
    return (shares / shares.sum(1, keepdims=True)).astype(np.float32), random.integers(0, classes, n)


def of_accuracy(right: bool) -> tuple[np.ndarray, np.ndarray]:
    shares, _ = drawn_arrays(50, 4)
    return shares, shares.argmax(1) if right else shares.argmin(1)


CASES: dict[str, Callable[[], tuple[np.ndarray, np.ndarray]]] = {
    "ten classes": lambda: drawn_arrays(2000, 10),
    "two classes": lambda: drawn_arrays(300, 2),
    "classes without images": lambda: drawn_arrays(300, 8, labels=range(2, 6)),
    "a class never predicted": lambda: (drawn_arrays(300, 6)[0] * [1, 1, 1, 0, 1, 1] + 1e-6, drawn_arrays(300, 6)[1]),
    "ties": lambda: ties(400, 7),
    "one image": lambda: drawn_arrays(1, 3),
    "all right": lambda: of_accuracy(True),
    "all wrong": lambda: of_accuracy(False),
    "a thousand classes": lambda: drawn_arrays(3000, 1000, sharp=4),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> tuple[np.ndarray, np.ndarray]:
    shares, labels = CASES[request.param]()
    shares = (shares / shares.sum(1, keepdims=True)).astype(np.float32)
    return shares, labels


@pytest.mark.peers
def test_scores_are_scikit_learns(case: tuple[np.ndarray, np.ndarray]) -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason="needs the extra `peers`")
    shares, labels = case
    scores, predicted, classes = scores_of(predictions_for(shares, labels)), shares.argmax(1), range(shares.shape[1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about classes without images
        assert scores.accuracy == pytest.approx(metrics.accuracy_score(labels, predicted))
        assert scores.balanced_accuracy == pytest.approx(metrics.balanced_accuracy_score(labels, predicted))
        report = metrics.classification_report(labels, predicted, output_dict=True, zero_division=0)
        own = metrics.classification_report(labels, predicted, labels=classes, output_dict=True, zero_division=0)
        log_loss = metrics.log_loss(labels, shares.astype(np.float64), labels=classes)
    for average in (scores.macro, scores.weighted):
        expected = report[average.label]
        assert (average.precision, average.recall, average.f1, average.support) == pytest.approx(
            (expected["precision"], expected["recall"], expected["f1-score"], expected["support"])
        )
    for label, found in enumerate(scores.per_class):
        expected = own[str(label)]
        assert (found.precision, found.recall, found.f1, found.support) == pytest.approx(
            (expected["precision"], expected["recall"], expected["f1-score"], expected["support"])
        )
        losses = -np.log(shares[labels == label, label].astype(np.float64))
        assert found.loss == (pytest.approx(losses.mean(), rel=1e-5) if len(losses) else None)
    assert scores.weighted.loss == pytest.approx(scores.log_loss, rel=1e-5)
    assert scores.log_loss == pytest.approx(log_loss, rel=1e-5)
    counts = np.bincount(labels)
    assert scores.majority_baseline == pytest.approx(counts.max() / len(labels))
    assert scores.majority_class == f"c{counts.argmax()}"
    for label in classes:
        truth = labels == label
        area, precision = scores.roc_auc[label], scores.average_precision[label]
        if truth.any():
            assert precision == pytest.approx(metrics.average_precision_score(truth, shares[:, label]))
        else:
            assert precision is None
        if truth.any() and not truth.all():
            assert area == pytest.approx(metrics.roc_auc_score(truth, shares[:, label]))
        else:
            assert area is None


@pytest.mark.peers
def test_the_best_five_are_scikit_learns_where_nothing_is_tied() -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason="needs the extra `peers`")
    for classes in (6, 10, 1000):
        shares, labels = drawn_arrays(2000, classes)
        expected = metrics.top_k_accuracy_score(labels, shares, k=5, labels=range(classes))
        assert scores_of(predictions_for(shares, labels)).top5 == pytest.approx(expected)


@pytest.mark.peers
def test_scores_are_torchmetrics(case: tuple[np.ndarray, np.ndarray]) -> None:
    peers = pytest.importorskip("torchmetrics.functional.classification", reason="needs the extra `peers`")
    import torch

    shares, labels = case
    count = shares.shape[1]
    scores, given = scores_of(predictions_for(shares, labels)), (torch.from_numpy(shares), torch.from_numpy(labels))
    for name, value in (("precision", 0), ("recall", 0), ("f1_score", 0)):
        for average in (scores.macro, scores.weighted):
            value = getattr(average, name.removesuffix("_score"))
            expected = getattr(peers, f"multiclass_{name}")(*given, count, average=average.label.split()[0])
            assert value == pytest.approx(float(expected), abs=1e-6)
    assert scores.calibration_error == pytest.approx(
        float(peers.multiclass_calibration_error(*given, count, n_bins=15, norm="l1")), abs=1e-6
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        areas = peers.multiclass_auroc(*given, count, average=None).tolist()
        precisions = peers.multiclass_average_precision(*given, count, average=None).tolist()
    for label in range(count):
        # torchmetrics says 0 of an area that is not defined, and NaN of such a precision.
        area, precision = scores.roc_auc[label], scores.average_precision[label]
        assert areas[label] == (0 if area is None else pytest.approx(area, abs=1e-5))
        assert math.isnan(precisions[label]) if precision is None else precisions[label] == pytest.approx(precision)
    if scores.top5 is not None and count < 1000:
        expected = peers.multiclass_accuracy(*given, count, top_k=5, average="micro")
        tied = len({*shares[0].tolist()}) < count
        assert tied or scores.top5 == pytest.approx(float(expected))


@given(n=st.integers(1, 2000), hits=st.integers(0, 2000))
def test_an_interval_is_within_0_and_1_and_around_the_accuracy(n: int, hits: int) -> None:
    accuracy = min(hits, n) / n
    low, high = wilson(accuracy, n)
    assert 0 <= low <= accuracy <= high <= 1
    assert (low == 0) == (accuracy == 0)
    assert (high == 1) == (accuracy == 1)
    assert low < high


@pytest.mark.peers
@pytest.mark.parametrize(("hits", "n"), [(0, 1), (1, 1), (0, 50), (50, 50), (97, 100), (9724, 10_000), (1, 3)])
def test_the_interval_is_scipys_wilson_interval(hits: int, n: int) -> None:
    stats = pytest.importorskip("scipy.stats", reason="needs the extra `peers`")
    expected = stats.binomtest(hits, n).proportion_ci(method="wilson")
    assert wilson(hits / n, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_an_accuracy_in_words() -> None:
    assert accuracy_words(0.9724, 10_000) == "97.24% (95% CI 96.90 to 97.54%, n = 10,000)"
    assert wilson(0.5, 0) == (0.0, 1.0)


def test_a_bin_holds_its_upper_end_and_a_certain_image_is_in_the_last() -> None:
    confidence = np.array([1 / 15, np.nextafter(np.float32(1 / 15), np.float32(1)), 1.0, 0.97], dtype=np.float32)
    bins = calibration(confidence, np.array([True, False, True, False]))
    assert len(bins) == 15
    assert [found.count for found in bins] == [1, 1, *[0] * 12, 2]
    assert (bins[-1].accuracy, bins[-1].confidence) == (0.5, pytest.approx(0.985))
    assert (bins[0].low, bins[0].high, bins[-1].high) == (0.0, pytest.approx(1 / 15), 1.0)
    expected = (abs(1 - 1 / 15) + 1 / 15 + 2 * abs(0.5 - 0.985)) / 4
    assert calibration_error(bins) == pytest.approx(expected, abs=1e-6)


def test_few_classes_have_no_five_likeliest_and_no_image_no_scores() -> None:
    assert scores_of(drawn(20, 5)).top5 is None
    assert scores_of(drawn(20, 6)).top5 is not None
    with pytest.raises(BadInput, match="no image"):
        scores_of(drawn(20, 3).__class__(Origin(classes=("a",), data="d"), EMPTY, NOTHING, NOTHING, Files.of(())))


NOTHING = np.zeros((0, 1))
EMPTY = {name: np.zeros(0) for name in ("index", "label", "predicted", "confidence", "loss", "margin")}


def test_among_equal_probabilities_the_first_five_classes_count() -> None:
    even = np.full((8, 8), 1 / 8)
    assert scores_of(predictions_for(even, np.arange(8))).top5 == 5 / 8
