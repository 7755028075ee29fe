"""The bars of a histogram, their axis and its labels."""

import pytest
from hypothesis import given, strategies as st

from finetui.tui.screens.layers.histogram import bar_lines, bars, edge_labels

EDGES = (-1.0, -0.5, 0.0, 0.5, 1.0)


def test_bars_are_as_high_as_their_share_in_eighths() -> None:
    found = bars(EDGES, (0, 1, 4, 8), 4, 2, logarithmic=False)
    assert found.eighths == (0, 2, 8, 16)
    assert found.most == 8
    assert bar_lines(found, 2) == ["   █", " ▂██"]


def test_bars_fill_the_width_and_are_joined_where_there_is_none() -> None:
    assert bars(EDGES, (1, 2, 3, 4), 8, 1, logarithmic=False).eighths == (2, 2, 4, 4, 6, 6, 8, 8)
    narrow = bars(EDGES, (1, 2, 3, 4), 2, 1, logarithmic=False)
    assert narrow.most == 7
    assert narrow.eighths == (3, 8)
    assert bars(EDGES, (1, 2, 3, 4), 1, 1, logarithmic=False).eighths == (8,)


def test_what_is_rare_is_still_seen() -> None:
    assert bars(EDGES, (0, 1, 0, 10**6), 4, 3, logarithmic=False).eighths == (0, 1, 0, 24)


def test_logarithmic_heights_tell_rare_values_apart() -> None:
    found = bars(EDGES, (1, 10, 100, 1000), 4, 10, logarithmic=True).eighths
    assert found == (8, 28, 53, 80)


def test_zero_is_marked_where_it_is_in_range() -> None:
    counts = (1, 1, 1, 1)
    assert bars(EDGES, counts, 40, 1, logarithmic=False).zero == 20
    assert bars((0.0, 1.0, 2.0, 3.0, 4.0), counts, 40, 1, logarithmic=False).zero == 0
    assert bars((-4.0, -3.0, -2.0, -1.0, 0.0), counts, 40, 1, logarithmic=False).zero == 39
    assert bars((1.0, 2.0, 3.0, 4.0, 5.0), counts, 40, 1, logarithmic=False).zero is None


def test_the_labels_are_the_edges_and_zero() -> None:
    found = bars((-0.5, 0.0, 0.5), (1, 1), 20, 1, logarithmic=False)
    assert edge_labels((-0.5, 0.5), found) == "-0.5      0      0.5"
    far = bars((-1e-9, 1.0), (1,), 20, 1, logarithmic=False)
    assert edge_labels((-1e-9, 1.0), far) == "-1e-09" + " " * 13 + "1"  # no room for the 0


@given(
    counts=st.lists(st.integers(0, 10**9), min_size=1, max_size=64),
    width=st.integers(1, 200),
    height=st.integers(1, 40),
    logarithmic=st.booleans(),
)
def test_they_fit_any_size(counts: list[int], width: int, height: int, logarithmic: bool) -> None:
    edges = [index - 3.5 for index in range(len(counts) + 1)]
    found = bars(edges, counts, width, height, logarithmic=logarithmic)
    lines = bar_lines(found, height)
    assert len(lines) == height
    assert {len(line) for line in lines} == {width}
    assert max(found.eighths) == (8 * height if any(counts) else 0)
    assert found.zero is None or 0 <= found.zero < width


@pytest.mark.parametrize("counts", [(0, 0), (5, 0), (0, 5)])
def test_the_highest_bar_touches_the_top(counts: tuple[int, int]) -> None:
    assert ("█" in bar_lines(bars((0.0, 1.0, 2.0), counts, 2, 3, logarithmic=False), 3)[0]) == any(counts)
