"""Labels that are possibly wrong: the rows that cleanlab finds, of any number of classes, and kept in the file."""

from pathlib import Path

import numpy as np
import pytest
from made_predictions import make

from finetui.engine.predictions.criteria import LABEL_FILTERS, LabelFilter
from finetui.engine.predictions.file import load_predictions
from finetui.engine.predictions.label_errors import find_label_errors, label_quality, possible_label_errors

pytestmark = pytest.mark.filterwarnings("ignore:May not flag all label issues")  # cleanlab's, of rare classes


def noisy(n: int, count: int, *, seed: int = 0, sharpness: float = 3.0, wrong: float = 0.1) -> tuple:
    """Return float32 probabilities of a network that is mostly right, and labels of which some are wrong."""
    random = np.random.default_rng(seed)
    truth = random.integers(0, count, n)
    logits = random.normal(size=(n, count)).astype(np.float32) * 1.5
    logits[np.arange(n), truth] += sharpness
    likely = np.exp(logits - logits.max(1, keepdims=True))
    labels = np.where(random.random(n) < wrong, random.integers(0, count, n), truth)
    return (likely / likely.sum(1, keepdims=True)).astype(np.float32), labels


def cleanlabs(probabilities: np.ndarray, labels: np.ndarray, name: LabelFilter) -> np.ndarray:
    find = pytest.importorskip("cleanlab.filter", reason="cleanlab is not installed (extra peers)").find_label_issues
    # As float64, so that means of probabilities are not rounded to single precision.
    return find(labels, probabilities.astype(np.float64), filter_by=name.replace("-", "_"), n_jobs=1)


@pytest.mark.peers
@pytest.mark.parametrize("name", LABEL_FILTERS)
@pytest.mark.parametrize(("n", "count"), [(60, 2), (300, 3), (2000, 10), (2000, 11), (3000, 100), (8000, 1000)])
@pytest.mark.parametrize("sharpness", [1.0, 4.0])
def test_it_finds_the_rows_that_cleanlab_finds(name: LabelFilter, n: int, count: int, sharpness: float) -> None:
    for seed in range(3 if count < 1000 else 1):
        probabilities, labels = noisy(n, count, seed=seed, sharpness=sharpness)
        expected = cleanlabs(probabilities, labels, name)
        assert expected.any()
        np.testing.assert_array_equal(find_label_errors(probabilities, labels)[name], expected)


@pytest.mark.peers
@pytest.mark.parametrize("name", LABEL_FILTERS)
def test_a_class_without_images_and_one_with_a_single_image(name: LabelFilter) -> None:
    probabilities, labels = noisy(400, 12, sharpness=2.0)
    labels = np.where(labels == 5, 6, labels)
    labels[labels == 7] = 8
    labels[0] = 7
    np.testing.assert_array_equal(
        find_label_errors(probabilities, labels)[name], cleanlabs(probabilities, labels, name)
    )


@pytest.mark.peers
@pytest.mark.parametrize("name", LABEL_FILTERS)
def test_a_network_that_is_never_sure_or_always_the_same(name: LabelFilter) -> None:
    labels = np.arange(90) % 3
    for row in ([1 / 3, 1 / 3, 1 / 3], [0.2, 0.5, 0.3], [0.0, 1.0, 0.0]):
        probabilities = np.tile(np.float32(row), (90, 1))
        np.testing.assert_array_equal(
            find_label_errors(probabilities, labels)[name], cleanlabs(probabilities, labels, name)
        )


@pytest.mark.peers
def test_label_quality_ranks_as_cleanlab_does() -> None:
    find = pytest.importorskip("cleanlab.filter", reason="cleanlab is not installed (extra peers)").find_label_issues
    probabilities, labels = noisy(2000, 10)
    wide = probabilities.astype(np.float64)
    ranked = find(labels, wide, filter_by="confident_learning", n_jobs=1, return_indices_ranked_by="self_confidence")
    quality = label_quality(-np.log(wide[np.arange(2000), labels]))
    flagged = np.flatnonzero(find_label_errors(probabilities, labels)["confident-learning"])
    assert flagged[np.argsort(quality[flagged], kind="stable")].tolist() == ranked.tolist()


def test_planted_errors_are_found() -> None:
    probabilities, labels = noisy(4000, 40, sharpness=6.0, wrong=0.0)
    planted = np.random.default_rng(1).random(4000) < 0.05
    labels = np.where(planted, (labels + 1) % 40, labels)
    for flagged in find_label_errors(probabilities, labels).values():
        assert flagged[planted].mean() > 0.6
        assert flagged[~planted].mean() < 0.03


def test_up_to_ten_classes_they_follow_from_the_file(tmp_path: Path) -> None:
    found = make(500, 10, seed=3)
    [(_, top, top_probability)] = found.top_pages()
    probabilities = np.zeros((500, 10), dtype=np.float32)
    np.put_along_axis(probabilities, top, top_probability, 1)
    found.save(tmp_path / "some.predictions")
    kept = possible_label_errors(load_predictions(tmp_path / "some.predictions"))
    for name, expected in find_label_errors(probabilities, found.label).items():
        assert expected.any()
        np.testing.assert_array_equal(kept[name], expected)


def test_of_more_classes_what_the_evaluation_kept_is_told(tmp_path: Path) -> None:
    found = make(50, 30)
    flags = {name: np.arange(50) % (3 + place) == 0 for place, name in enumerate(LABEL_FILTERS)}
    found.label_errors = flags
    found.save(tmp_path / "some.predictions")
    kept = possible_label_errors(load_predictions(tmp_path / "some.predictions"))
    for name, expected in flags.items():
        np.testing.assert_array_equal(kept[name], expected)
    found.label_errors = {}
    found.save(tmp_path / "some.predictions")  # as before they were kept
    kept = possible_label_errors(load_predictions(tmp_path / "some.predictions"))
    assert kept["confident-learning"] is not None
    assert kept["prune-by-noise-rate"] is None
