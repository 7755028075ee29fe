"""ROC-AUC and average precision: gathered batch by batch, in memory or on the disk, and kept with the predictions."""

from pathlib import Path

import numpy as np
import pytest
import torch
from constant_model import split

from finetui.engine.errors import BadInput
from finetui.engine.inspection.evaluation import Report, evaluate, predictions_of
from finetui.engine.inspection.ranking import ClassRanking, rank_classes
from finetui.engine.predictions.file import Files, Origin, load_predictions
from finetui.engine.predictions.metrics import ranked, scores_of

SHARES = np.random.default_rng(0).dirichlet(np.ones(4), 500).astype(np.float32)
LABELS = np.random.default_rng(1).integers(0, 4, 500).astype(np.int32)


def in_batches(size: int, images: int = 500) -> tuple[np.ndarray, np.ndarray]:
    ranking = ClassRanking(4, images)
    for start in range(0, 500, size):
        ranking.add(SHARES[start : start + size], LABELS[start : start + size])
    return ranking.take()


@pytest.mark.parametrize("memory", [200_000_000, 0])
@pytest.mark.parametrize("images", [500, 600])  # some of 600 proved unreadable
def test_batches_are_put_together_in_memory_and_on_the_disk(monkeypatch, memory: int, images: int) -> None:
    monkeypatch.setattr("finetui.engine.inspection.ranking._IN_MEMORY", memory)
    whole = np.array([ranked(label == LABELS, SHARES[:, label]) for label in range(4)]).T
    for size in (500, 64, 1):
        np.testing.assert_array_equal(in_batches(size, images), whole)


@pytest.mark.parametrize("at_once", [1, 3, 16])
def test_probabilities_that_are_kept_anyway_rank_the_same(monkeypatch, at_once: int) -> None:
    monkeypatch.setattr("finetui.engine.inspection.ranking._AT_ONCE", at_once)
    np.testing.assert_array_equal(rank_classes(SHARES, LABELS), in_batches(500))


@pytest.mark.parametrize(("classes", "kept"), [(10, 2**30), (11, 2**30), (11, 0)])
def test_probabilities_are_kept_once(monkeypatch, classes: int, kept: int) -> None:
    made = []

    class Counted(ClassRanking):
        def __init__(self, *size: int) -> None:
            super().__init__(*size)
            made.append(size)

    monkeypatch.setattr("finetui.engine.inspection.evaluation.ClassRanking", Counted)
    monkeypatch.setattr("finetui.engine.inspection.evaluation._MOST_KEPT", kept)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, classes))
    report = evaluate(network, split([*range(classes)] * 3), [str(label) for label in range(classes)], ranked=True)
    assert report is not None
    assert report.roc_auc is not None
    assert not np.isnan(report.roc_auc).any()
    assert bool(report.label_errors) is (classes > 10 and kept > 0)
    assert len(made) == (0 if report.label_errors else 1)


def test_a_full_disk_is_told(monkeypatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("finetui.engine.inspection.ranking._IN_MEMORY", 0)
    monkeypatch.setattr("os.pwrite", full)
    with pytest.raises(BadInput, match="TMPDIR"):
        in_batches(100)


def report_of(**how: object) -> Report:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3))
    found = evaluate(network, split([0, 1, 2, 1] * 30), "abc", batch_size=50, **how)
    assert found is not None
    return found


def test_a_report_has_them_where_they_are_asked_for_and_a_file_keeps_them(tmp_path: Path) -> None:
    origin = Origin(classes=("a", "b", "c"), data="d")
    for asked in (True, False):
        found = predictions_of(report_of(ranked=asked), origin, Files.of(()))
        found.save(tmp_path / "p")
        scores, kept = scores_of(found), scores_of(load_predictions(tmp_path / "p"))
        assert kept == scores
        assert [len(scores.roc_auc), len(scores.average_precision)] == ([3, 3] if asked else [0, 0])
        assert (scores.macro_roc_auc is not None) == asked


def test_a_class_without_images_keeps_no_number(tmp_path: Path) -> None:
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3))
    found = evaluate(network, split([0, 1] * 5), "abc", ranked=True)
    assert found is not None
    predictions_of(found, Origin(classes=("a", "b", "c"), data="d"), Files.of(())).save(tmp_path / "p")
    scores = scores_of(load_predictions(tmp_path / "p"))
    assert (scores.roc_auc[2], scores.average_precision[2]) == (None, None)
    assert scores.macro_roc_auc == pytest.approx(np.mean(scores.roc_auc[:2]))


def test_a_temperature_changes_probabilities_and_no_prediction() -> None:
    plain, warm = report_of(), report_of(temperature=2.0)
    for name in ("label", "predicted", "index"):
        np.testing.assert_array_equal(plain.columns[name], warm.columns[name])
    assert (warm.columns["confidence"] < plain.columns["confidence"]).all()
    assert plain.uncalibrated is None
    assert warm.uncalibrated is not None
    assert warm.uncalibrated[0] == pytest.approx(plain.loss)
    assert set(warm.columns) == set(plain.columns)
