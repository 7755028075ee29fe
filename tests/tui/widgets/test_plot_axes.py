"""The axes of a plot: ranges, ticks and their labels."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import example, given, strategies as st

from finetui.tui.widgets import plot_axes
from finetui.tui.widgets.plot_axes import DOTS_DOWN, Range

finite = st.floats(-1e90, 1e90, allow_nan=False)
positive = st.floats(1e-90, 1e90)
ordinary = st.floats(-1e6, 1e6).map(lambda value: round(value, 3))


def two(a: float, b: float) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(np.array([0.0, 1.0]), np.array([a, b]))]


def rows_of(axis: Range, ticks: plot_axes.Ticks, rows: int) -> list[int]:
    return (axis.dots(np.array([value for value, _ in ticks]), rows * DOTS_DOWN) // DOTS_DOWN).tolist()


@pytest.mark.parametrize(
    ("least", "step"), [(0.1, 0.1), (0.11, 0.2), (0.3, 0.5), (0.7, 1), (1, 1), (3, 5), (5.1, 10), (1e-7, 1e-7)]
)
def test_nice_step(least: float, step: float) -> None:
    assert plot_axes.nice_step(least) == step


def test_x_axis_climbs_a_ladder_up_to_the_limit() -> None:
    highs = [plot_axes.x_range(0, last, 8).high for last in (0.001, 0.1, 0.11, 0.6, 1.5, 3.4, 5.1, 8)]
    assert highs == [0.01, 0.1, 0.2, 1, 2, 5, 8, 8]
    assert plot_axes.x_range(0, 9, 8).high == 10  # longer than planned: the plan is no limit


@given(st.floats(0.01, 1e6), st.floats(0.01, 1e6))
def test_a_curve_fills_at_least_forty_percent_of_the_width(last: float, limit: float) -> None:
    axis = plot_axes.x_range(0, last, limit)
    assert axis.low == 0 and axis.high >= last * (1 - 1e-9)
    assert last >= 0.4 * axis.high * (1 - 1e-9)


@given(finite, finite, st.floats(width=64))
def test_the_x_axis_contains_its_data(a: float, b: float, limit: float) -> None:
    first, last = min(a, b), max(a, b)
    axis = plot_axes.x_range(first, last, limit)
    slack = 1e-9 * max(abs(first), abs(last))
    assert axis.low <= first + slack and axis.high >= last - slack and axis.low < axis.high


def test_zoomed_data_do_not_start_at_zero() -> None:
    axis = plot_axes.x_range(8.3, 9.9, 10)
    assert 8 <= axis.low <= 8.3 and 9.9 <= axis.high <= 10


@given(positive, positive)
def test_the_log_axis_contains_its_data(a: float, b: float) -> None:
    axis = plot_axes.log_range(min(a, b), max(a, b))
    assert axis.log and 0 < axis.low <= min(a, b) and axis.high >= max(a, b) and axis.low < axis.high


@given(positive, positive, st.integers(1, 12))
def test_log_ticks_lie_inside_the_range(a: float, b: float, most: int) -> None:
    axis = plot_axes.log_range(min(a, b), max(a, b))
    values = plot_axes.ticks(axis, most)
    assert 1 <= len(values) <= most
    assert all(axis.low <= value <= axis.high for value in values)


@pytest.mark.parametrize(
    ("value", "percent", "text"),
    [
        (0.07123, False, "0.0712"),
        (2.3026, False, "2.3026"),
        (12.345, False, "12.345"),
        (-0.5, False, "-0.500"),
        (123456789.0, False, "1.2e8"),
        (0.0000123, False, "1.2e-5"),
        (0.9791, True, "97.91%"),
        (1.0, True, "100.0%"),
        (None, False, "–"),
        (math.nan, True, "–"),
    ],
)
def test_values_take_six_characters(value: float | None, percent: bool, text: str) -> None:
    shown = plot_axes.format_value(value, percent=percent)
    assert shown.strip() == text
    assert len(shown) == 6


@given(finite, finite, st.integers(1, 60), st.booleans())
def test_the_y_axis_contains_its_data(a: float, b: float, rows: int, percent: bool) -> None:
    axis, ticks = plot_axes.y_axis(two(a, b), rows, percent=percent)
    assert axis.low < axis.high and max(a, b) <= axis.high * (1 + 1e-9)
    shares = percent and min(a, b) >= 0 and max(a, b) <= 1
    assert axis.low <= min(a, b) or (shares and axis.low <= b)  # an axis of percents may leave the start out
    assert len(ticks) >= 1 or rows < 3


@given(ordinary, ordinary, st.integers(1, 60), st.booleans(), st.booleans())
def test_from_tick_to_tick_there_are_always_as_many_rows(
    a: float, b: float, rows: int, percent: bool, log: bool
) -> None:
    low, high = sorted((abs(a) + 1e-3, abs(b) + 1e-3)) if log else (a, b)
    if percent:
        low, high = low % 1, high % 1
    if log and high < 20 * low:
        return  # 1, 2, 5, 10: their logarithms are not even
    axis, ticks = plot_axes.y_axis(two(low, high), rows, percent=percent, log=log and not percent)
    places = rows_of(axis, ticks, rows)
    assert all(0 <= place < rows for place in places)
    assert len(set(np.diff(places).tolist())) <= 1
    assert all(gap >= 1 for gap in np.diff(places))
    values = [value for value, _ in ticks]
    steps = np.diff(np.log10(values) if log and not percent else values)
    assert not len(steps) or np.allclose(steps, steps[0])


def test_y_axes_are_filled_by_what_they_show() -> None:
    axis, ticks = plot_axes.y_axis(two(0.03, 2.31), 15)
    assert axis.low == 0 and 2.31 < axis.high < 2.8
    assert [label for _, label in ticks] == ["0.0", "0.5", "1.0", "1.5", "2.0"]
    axis, ticks = plot_axes.y_axis(two(0.3, 0.3), 9)
    assert axis.low < 0.3 < axis.high
    axis, ticks = plot_axes.y_axis(two(1e-6, 3e-3), 10, log=True)
    assert [label for _, label in ticks] == ["1e-6", "1e-5", "1e-4", "1e-3", "1e-2"]
    assert [label for _, label in plot_axes.y_axis([], 9, percent=True)[1]][-1] == "100%"


def test_a_spike_stays_in_range() -> None:
    x, y = np.arange(100.0), np.full(100, 0.1)
    y[3] = 7.0
    assert plot_axes.y_axis([(x, y)], 9)[0].high >= 7


def test_percents_end_at_a_hundred_and_forget_the_start() -> None:
    x = np.linspace(0, 4, 41)
    y = np.where(x < 1, 0.1 + 0.8 * x, 0.96)
    axis, ticks = plot_axes.y_axis([(x, y)], 9, percent=True)
    assert 0.8 < axis.low <= 0.96 and ticks[-1] == (1.0, "100%")
    assert rows_of(axis, ticks, 9)[-1] == 8  # the highest row: none is left for what cannot be
    assert plot_axes.y_axis([(x[:5], y[:5])], 9, percent=True)[0].low == 0
    few = np.array([0.3, 0.95, 0.96])  # the evaluations of a run that has just begun: each is worth seeing
    assert plot_axes.y_axis([(np.arange(1.0, 4.0), few)], 9, percent=True)[0].low <= 0.3
    collapse = np.where(x > 3.9, 0.2, y)
    assert plot_axes.y_axis([(x, collapse)], 9, percent=True)[0].low <= 0.2
    assert plot_axes.y_axis([(x, y * 2)], 9, percent=True)[0].high > 1.9  # no shares of 1 after all


@pytest.mark.parametrize("rows", range(9, 41))
def test_shares_from_zero_on_take_most_of_the_height(rows: int) -> None:
    axis, ticks = plot_axes.y_axis([(np.arange(10.0), np.linspace(0.0, 0.83, 10))], rows, percent=True)
    assert axis.low == 0
    assert axis.high < 1.25
    assert [label for _, label in ticks][:: len(ticks) - 1] == ["0%", "100%"]


def test_tick_labels() -> None:
    assert plot_axes.ticks(Range(0, 2.5), 3) == [0, 1, 2]
    assert plot_axes.ticks(Range(0, 0.3), 4) == [0, 0.1, 0.2, 0.3]
    assert plot_axes.ticks(Range(0.02, 5, log=True), 3) == [0.1, 1]
    assert plot_axes.format_ticks([0, 0.5, 1]) == ["0.0", "0.5", "1.0"]
    assert plot_axes.format_ticks([0.9, 0.95, 1], percent=True) == ["90%", "95%", "100%"]
    assert plot_axes.format_ticks([0.995, 1], percent=True) == ["99.5%", "100.0%"]
    assert plot_axes.format_ticks([0.01, 0.1, 1], log=True) == ["0.01", "0.1", "1"]
    assert plot_axes.format_ticks([0, 1e6, 2e6]) == ["0", "1e6", "2e6"]
    assert plot_axes.format_ticks([1.2e-4, 1.25e-4, 1.3e-4]) == ["1.2e-4", "1.25e-4", "1.3e-4"]
    assert plot_axes.format_ticks([0, 1e-4, 2e-4]) == ["0", "1e-4", "2e-4"]
    assert plot_axes.format_ticks([0.50001, 0.50002]) == ["0.50001", "0.50002"]


@given(ordinary, st.floats(1e-7, 1e7), st.integers(2, 40), st.booleans())
@example(1.0, 1.0, 2, False)
def test_no_two_ticks_are_called_the_same(a: float, size: float, rows: int, percent: bool) -> None:
    _, found = plot_axes.y_axis(two(a, a + size * max(abs(a), 1e-3) * 1e-6), rows, percent=percent)
    labels = [label for _, label in found]
    assert len(set(labels)) == len(labels)


@given(st.floats(1e-6, 1), st.floats(1e-6, 1), st.integers(2, 40))
def test_no_accuracy_is_above_a_hundred(a: float, b: float, rows: int) -> None:
    for log in (False, True):
        for data in (two(a, b), []):
            _, found = plot_axes.y_axis(data, rows, percent=True, log=log)
            assert all(float(label.rstrip("%")) <= 100 for _, label in found)


@given(st.integers(1, 200), st.sampled_from([1, 2, 5, 8, 10, 12, 60, 300]))
def test_labels_have_room(columns: int, limit: int) -> None:
    axis = Range(0, limit)
    for first in (0, 2):
        shown = plot_axes.x_ticks(axis, columns, first)
        for (_, label, start), (_, _, after) in itertools.pairwise(shown):
            assert start + len(label) + 3 <= after
        assert all(first <= start and start + len(label) <= columns for _, label, start in shown)


@given(st.floats(-50, 50), st.floats(0.5, 500), st.integers(8, 200), st.integers(-3, 5), st.booleans())
@example(0.0, 10.0, 40, 4, False)  # the name of the axis reaches to where the first label would be
def test_labels_stand_below_their_ticks(low: float, span: float, columns: int, first: int, log: bool) -> None:
    axis = Range(abs(low) + 0.01, abs(low) + span + 0.02, log=True) if log else Range(low, low + span)
    for value, label, start in plot_axes.x_ticks(axis, columns, first):
        place = int(axis.dots(np.array([value]), columns * 2)[0]) // 2
        assert start <= place < start + len(label), (value, label)
