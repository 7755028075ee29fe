"""Predictions of two networks: the same images belong together, and McNemar's test is that of other libraries."""

import msgspec
import numpy as np
import pytest
from made_predictions import make

from finetui.engine.errors import BadInput
from finetui.engine.predictions.comparison import MOST_EXACT, compare, mcnemar
from finetui.engine.predictions.file import Files, Predictions


def right(both: int, fixed: int, broken: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    """Return what the later and the earlier network get right."""
    later = np.repeat([True, True, False, False], [both, fixed, broken, neither])
    earlier = np.repeat([True, False, True, False], [both, fixed, broken, neither])
    return later, earlier


@pytest.mark.peers
@pytest.mark.parametrize("fixed", [0, 1, 3, 9, 13, 150, 5200])
@pytest.mark.parametrize("broken", [0, 2, 5, 12, 41, 90, 5000])
def test_it_is_the_test_of_statsmodels_and_scipy(fixed: int, broken: int) -> None:
    tables = pytest.importorskip("statsmodels.stats.contingency_tables", reason="statsmodels (extra peers)")
    stats = pytest.importorskip("scipy.stats", reason="scipy is not installed (extra peers)")
    found = mcnemar(*right(50, fixed, broken, 7))
    assert (found.n, found.fixed, found.broken) == (57 + fixed + broken, fixed, broken)
    exact = fixed + broken <= MOST_EXACT
    assert found.test == ("exact binomial" if exact else "chi-square")
    expected = tables.mcnemar([[50, broken], [fixed, 7]], exact=exact, correction=True).pvalue
    assert found.p == pytest.approx(float(expected), rel=1e-9)
    if exact and fixed + broken:
        assert found.p == pytest.approx(float(stats.binomtest(fixed, fixed + broken).pvalue), rel=1e-9)


def test_by_hand() -> None:
    assert mcnemar(*right(5, 0, 0, 5)).p == 1
    assert mcnemar(*right(5, 5, 0, 5)).p == 2 / 2**5
    assert mcnemar(*right(5, 1, 5, 0)).p == 2 * (1 + 6) / 2**6
    assert mcnemar(*right(0, 30, 30, 0)).p == 1
    assert mcnemar(*right(0, 10, 30, 0)).p == pytest.approx(2 * 1221246132 / 2**40, rel=1e-12)
    many = mcnemar(*right(0, 5000, 5300, 0))  # (300 - 1)^2 / 10300 = 8.680
    assert (many.test, many.p) == ("chi-square", pytest.approx(0.003217, abs=2e-6))
    sentence = mcnemar(*right(5, 5, 0, 5)).sentence("first")
    assert sentence == (
        "compared with first on the same 15 images: 5 fixed, 0 newly wrong; McNemar's test (exact binomial): p = 0.062"
    )


def relabelled(found: Predictions, order: np.ndarray) -> Predictions:
    """Return the same predictions with the classes in another order: class `order[i]` is now number `i`."""
    origin = msgspec.structs.replace(found.origin, classes=tuple(found.classes[place] for place in order))
    again = found.at(np.arange(len(found)))
    place = np.argsort(order).astype(np.int32)
    again.origin, again.label, again.predicted = origin, place[found.label], place[found.predicted]
    return again


@pytest.mark.parametrize("in_files", [True, False])
def test_images_and_classes_in_another_order_are_found(in_files: bool) -> None:
    paths = tuple(f"/d/test/{row:03}.png" for row in range(40)) if in_files else ()
    now, before = make(40, 4, seed=1, paths=paths), make(40, 4, seed=2, paths=paths)
    before.label = now.label
    plain = compare(now, before)
    shuffled = np.random.default_rng(0).permutation(40)
    other = compare(now, relabelled(before.at(shuffled), np.array([2, 0, 3, 1])))
    assert other.rows.tolist() == np.argsort(shuffled).tolist()
    np.testing.assert_array_equal(other.was_wrong(), plain.was_wrong())
    assert other.mcnemar(now) == plain.mcnemar(now)
    assert plain.was_wrong().any()


def test_images_that_only_one_has_are_left_out() -> None:
    paths = tuple(f"/d/test/{row:03}.png" for row in range(40))
    now, before = make(40, 4, seed=1, paths=paths), make(40, 4, seed=2, paths=paths)
    before.label = now.label
    part = np.arange(40)[now.label != 3]
    found = compare(now, before.at(part))
    assert found.paired.tolist() == (now.label != 3).tolist()
    assert found.mcnemar(now).n == len(part)
    assert not found.was_wrong()[~found.paired].any()
    assert compare(now.at(part), before).mcnemar(now.at(part)) == found.mcnemar(now)


def test_a_folder_that_lies_elsewhere_is_the_same_one() -> None:
    now, before = make(9, 3), make(9, 3)
    now.files = Files.of([f"/old/test/{row}.png" for row in range(9)])
    before.files = Files.of([f"/new/place/{row}.png" for row in range(9)])
    assert compare(now, before).paired.all()


def test_what_is_about_other_images_is_refused() -> None:
    with pytest.raises(BadInput, match="not about the same test images"):
        compare(make(20, 3, seed=1), make(20, 3, seed=2))
    files = make(4, 3, paths=("/d/1.png", "/d/2.png", "/d/3.png", "/d/4.png"))
    others = make(4, 3, paths=("/d/5.png", "/d/6.png", "/d/7.png", "/d/8.png"))
    with pytest.raises(BadInput, match="not about the same test images"):
        compare(files, others)
    other = make(20, 3)
    other.origin = msgspec.structs.replace(other.origin, classes=("x", "y", "z"))
    with pytest.raises(BadInput, match="no class in common"):
        compare(make(20, 3), other)
