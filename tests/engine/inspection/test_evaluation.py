import numpy as np
import pytest
from constant_model import Constant, split
from hypothesis import given, strategies as st
from hypothesis.extra.numpy import arrays

from finetui.engine.inspection.evaluation import evaluate
from finetui.engine.predictions.metrics import class_reports


def test_scores_of_a_known_confusion() -> None:
    report = evaluate(Constant([0, 0, 1, 1, 1, 2]), split([0, 0, 0, 1, 1, 1]), ["a", "b", "c"])
    assert report is not None
    assert report.confusion.tolist() == [[2, 1, 0], [0, 2, 1], [0, 0, 0]]
    assert report.accuracy == pytest.approx(4 / 6)
    assert report.n == 6
    a, b, c = report.per_class
    assert (a.label, a.support, a.precision, a.recall, a.accuracy) == ("a", 3, 1.0, pytest.approx(2 / 3), a.recall)
    assert a.f1 == pytest.approx(0.8)
    assert (b.precision, b.recall) == (pytest.approx(2 / 3), pytest.approx(2 / 3))
    assert (c.support, c.precision, c.recall, c.f1) == (0, 0.0, 0.0, 0.0)
    right, wrong = np.log(np.exp(5) + 2) - 5, np.log(np.exp(5) + 2)
    assert report.loss == pytest.approx((4 * right + 2 * wrong) / 6, rel=1e-6)
    for of_class in (a, b):
        assert of_class.loss == pytest.approx((2 * right + wrong) / 3, rel=1e-6)
    assert c.loss is None
    assert [(row.wrong, row.mistaken_for, row.mistaken) for row in (a, b, c)] == [(1, 1, 1), (1, 2, 1), (0, None, 0)]
    macro, weighted = report.averages
    assert macro.loss == pytest.approx(report.loss)
    assert weighted.loss == pytest.approx(report.loss)


def test_a_class_is_mistaken_for_what_most_of_its_mistakes_are() -> None:
    confusion = np.array([[9, 1, 4, 0], [0, 9, 0, 0], [2, 2, 0, 0], [0, 0, 0, 0]], np.int64)
    reports = class_reports(confusion, "abcd")
    assert [(row.wrong, row.mistaken_for, row.mistaken) for row in reports] == [
        (5, 2, 4), (0, None, 0), (4, 0, 2), (0, None, 0),
    ]  # fmt: skip
    assert class_reports(np.array([[3]], np.int64), "a")[0].mistaken_for is None


def test_more_than_one_batch_and_a_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finetui.engine.inspection.evaluation.EVALUATION_BATCH", 4)
    seen = []
    report = evaluate(
        Constant([0] * 10), split([0] * 9 + [1]), "abc", progress=lambda done, total: seen.append((done, total))
    )
    assert report is not None
    assert report.accuracy == pytest.approx(0.9)
    assert seen == [(4, 10), (8, 10), (10, 10)]


def test_it_stops_when_asked() -> None:
    assert evaluate(Constant([0]), split([0]), "abc", stopped=lambda: True) is None


@given(arrays(np.int64, (4, 4), elements=st.integers(0, 50)))
def test_class_scores_agree_with_their_definitions(confusion: np.ndarray) -> None:
    for i, report in enumerate(class_reports(confusion, "abcd")):
        hits, support, predicted = confusion[i, i], confusion[i].sum(), confusion[:, i].sum()
        assert report.support == support
        assert report.recall == (hits / support if support else 0)
        assert report.precision == (hits / predicted if predicted else 0)
        both = report.precision + report.recall
        assert report.f1 == pytest.approx(2 * report.precision * report.recall / both if both else 0)
