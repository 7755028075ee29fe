"""What is listed, against the same written plainly; and that lists and confusion matrix agree."""

import numpy as np
import pytest
from hypothesis import given, strategies as st
from made_predictions import make

from finetui.engine.errors import BadInput
from finetui.engine.predictions.comparison import compare
from finetui.engine.predictions.criteria import CHANGES, LABEL_FILTERS, SHOWS, SORTS, UNSURE_MARGIN, Selection
from finetui.engine.predictions.file import Predictions
from finetui.engine.predictions.selection import Flags, Pair, most_confused, select

found_ones = st.builds(
    make, st.integers(1, 60), st.integers(1, 6), seed=st.integers(0, 999), paths=st.just(())
)  # fmt: skip


@st.composite
def selections(draw, classes: int) -> Selection:
    label = st.none() | st.integers(0, classes - 1)
    bounds = sorted(draw(st.tuples(st.floats(0, 1), st.floats(0, 1))))
    return Selection(
        show=draw(st.sampled_from(SHOWS)),
        true=draw(label),
        predicted=draw(label),
        low=draw(st.sampled_from((0.0, bounds[0]))),
        high=draw(st.sampled_from((1.0, bounds[1]))),
        label_errors=draw(st.sampled_from((None, *LABEL_FILTERS))),
        duplicates=draw(st.booleans()),
        marked=draw(st.booleans()),
        sort=draw(st.sampled_from(SORTS)),
        reverse=draw(st.booleans()),
    )


def plainly(found: Predictions, selection: Selection, flags: Flags, marked: set[int]) -> set[int]:
    rows = set()
    for row in range(len(found)):
        wrong = found.label[row] != found.predicted[row]
        shown = {
            "wrong": wrong,
            "right": not wrong,
            "unsure": not wrong and found.margin[row] < UNSURE_MARGIN,
            "all": True,
        }[selection.show]
        tests = (
            shown,
            selection.true in (None, found.label[row]),
            selection.predicted in (None, found.predicted[row]),
            selection.low <= 0 or found.confidence[row] >= np.float32(selection.low),
            selection.high >= 1 or found.confidence[row] <= np.float32(selection.high),
            selection.label_errors is None or flags.label_errors[selection.label_errors][row],
            not selection.duplicates or flags.duplicates[row],
            not selection.marked or row in marked,
        )
        if all(tests):
            rows.add(row)
    return rows


@given(data=st.data(), found=found_ones)
def test_a_selection_lists_what_the_same_written_plainly_lists(data, found: Predictions) -> None:
    selection = data.draw(selections(len(found.classes)))
    mask = st.lists(st.booleans(), min_size=len(found), max_size=len(found)).map(np.array)
    flags = Flags(label_errors={name: data.draw(mask) for name in LABEL_FILTERS}, duplicates=data.draw(mask))
    marked = data.draw(st.sets(st.integers(0, len(found) - 1)))
    rows = select(found, selection, flags, marked)
    assert len(rows) == len(set(rows.tolist()))
    assert set(rows.tolist()) == plainly(found, selection, flags, marked)
    key = {
        "loss": -found.loss[rows],
        "confidence": -found.confidence[rows],
        "margin": found.margin[rows],
        "index": found.index[rows],
    }[selection.sort]
    steps = np.diff(key[::-1] if selection.reverse else key)
    assert (steps >= 0).all()


@given(found=found_ones)
def test_filtered_lists_add_up_to_the_confusion_matrix(found: Predictions) -> None:
    confusion = found.confusion()
    count = len(found.classes)
    for true, predicted in np.ndindex(count, count):
        rows = select(found, Selection(show="all", true=true, predicted=predicted))
        assert len(rows) == confusion[true, predicted]
    for label in range(count):
        assert len(select(found, Selection(show="all", true=label))) == confusion[label].sum()
        assert len(select(found, Selection(show="all", predicted=label))) == confusion[:, label].sum()
        assert len(select(found, Selection(true=label))) == confusion[label].sum() - confusion[label, label]
    wrong, right = (len(select(found, Selection(show=show))) for show in ("wrong", "right"))
    assert (wrong, right) == (confusion.sum() - np.trace(confusion), np.trace(confusion))
    pairs = most_confused(confusion)
    assert sum(pair.count for pair in pairs) == wrong
    assert all(confusion[pair.true, pair.predicted] == pair.count for pair in pairs)
    assert [pair.count for pair in pairs] == sorted((pair.count for pair in pairs), reverse=True)


@given(seeds=st.tuples(st.integers(0, 99), st.integers(0, 99)), n=st.integers(1, 60))
def test_comparing_divides_the_images_into_four(seeds: tuple[int, int], n: int) -> None:
    now, before = make(n, 3, seed=seeds[0]), make(n, 3, seed=seeds[1])
    before.label = now.label
    flags = Flags(comparison=compare(now, before))
    listed = {change: set(select(now, Selection(change=change), flags).tolist()) for change in CHANGES if change}
    assert listed["fixed"] == {r for r in range(n) if before.wrong[r] and not now.wrong[r]}
    assert listed["broken"] == {r for r in range(n) if not before.wrong[r] and now.wrong[r]}
    assert listed["still-wrong"] == {r for r in range(n) if before.wrong[r] and now.wrong[r]}
    assert listed["other-class"] == {r for r in range(n) if before.predicted[r] != now.predicted[r]}
    assert listed["broken"] | listed["still-wrong"] == set(select(now, Selection()).tolist())


def test_a_comparison_needs_something_to_compare_with() -> None:
    with pytest.raises(BadInput, match="nothing to compare with"):
        select(make(), Selection(change="fixed"))


def test_label_errors_that_are_not_known_are_asked_for_anew() -> None:
    with pytest.raises(BadInput, match="prune-by-noise-rate; evaluate again"):
        select(make(), Selection(label_errors="prune-by-noise-rate"), Flags(label_errors={"prune-by-noise-rate": None}))


def test_a_flag_that_nobody_looked_into_lists_nothing() -> None:
    assert len(select(make(), Selection(show="all", duplicates=True))) == 0
    assert len(select(make(), Selection(show="all", text="x"))) == 0


def test_text_is_looked_for_in_the_path() -> None:
    found = make(4, paths=("/d/cat/1.png", "/d/dog/cat.png", "/d/dog/2.png", "/d/CAT/3.png"))
    assert select(found, Selection(show="all", text="cat", sort="index")).tolist() == [0, 1, 3]


def test_clearing_keeps_the_order_only() -> None:
    chosen = Selection(show="all", true=1, sort="margin", reverse=True)
    assert chosen.unfiltered == Selection(sort="margin", reverse=True)


def test_nothing_confused_is_no_pair() -> None:
    assert most_confused(np.diag([3, 4])) == []
    assert most_confused(np.array([[3, 1], [0, 4]])) == [Pair(0, 1, 1)]
