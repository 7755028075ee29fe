"""The figures by which the best evaluation is chosen are scikit-learn's."""

import numpy as np
import pytest

from finetui.engine.errors import BadInput
from finetui.engine.inspection.evaluation import Report
from finetui.engine.protocol.config import CheckpointsConfig, RunConfig
from finetui.engine.session.monitor import Monitor


def report(probabilities: np.ndarray, labels: np.ndarray) -> Report:
    order = np.argsort(-probabilities, axis=1, kind="stable")
    count = probabilities.shape[1]
    confusion = np.bincount(labels * count + order[:, 0], minlength=count**2).reshape(count, count)
    return Report(
        loss=0.5, accuracy=float((order[:, 0] == labels).mean()), n=len(labels), per_class=(), confusion=confusion,
        columns={"label": labels.astype(np.int32)}, top=order.astype(np.int32), top_probability=probabilities,
    )  # fmt: skip


def figure(by: str, *args: np.ndarray) -> float:
    monitor = Monitor(RunConfig(checkpoints=CheckpointsConfig(best_by=by)), 8)
    monitor.is_best(report(*args))
    assert monitor.figure is not None
    return monitor.figure


@pytest.mark.peers
def test_the_figures_are_scikit_learns() -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason="needs scikit-learn")
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 7, 300)  # the last class has no images
    probabilities = rng.dirichlet(np.ones(8), 300)
    probabilities[np.arange(300), labels] += 0.2
    predicted = probabilities.argmax(1)
    ours = {by: figure(by, probabilities, labels) for by in ("accuracy", "macro-f1", "balanced-accuracy", "top5")}
    assert ours["accuracy"] == pytest.approx(metrics.accuracy_score(labels, predicted))
    assert ours["macro-f1"] == pytest.approx(metrics.f1_score(labels, predicted, average="macro"))
    recalls = metrics.recall_score(labels, predicted, average=None, labels=range(7))
    assert ours["balanced-accuracy"] == pytest.approx(recalls.mean())
    top5 = metrics.top_k_accuracy_score(labels, probabilities, k=5, labels=range(8))
    assert ours["top5"] == pytest.approx(top5)


def test_the_top_five_of_five_classes_say_nothing() -> None:
    with pytest.raises(BadInput, match="--best-by"):
        Monitor(RunConfig(checkpoints=CheckpointsConfig(best_by="top5")), 5)
