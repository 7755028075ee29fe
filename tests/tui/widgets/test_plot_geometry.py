"""What a plot shows where: ranges, ticks, labels, and which points are drawn."""

import itertools
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp

from finetui.tui.widgets import plot_geometry
from finetui.tui.widgets.plot_geometry import DOTS_ACROSS, DOTS_DOWN, Range

any_floats = hnp.arrays(np.float64, st.integers(0, 60), elements=st.floats(width=64))
finite = st.floats(-1e90, 1e90, allow_nan=False)
positive = st.floats(1e-90, 1e90)


def test_usable_leaves_out_what_cannot_be_drawn_and_sorts_by_x() -> None:
    x, y = plot_geometry.usable([3, 1, 2, math.nan, 4, 5], [30, math.nan, 20, 1, math.inf, -50])
    assert x.tolist() == [2, 3, 5]
    assert y.tolist() == [20, 30, -50]
    assert plot_geometry.usable([3, 1, 2, 5], [30, 0, 20, -50], log=True)[1].tolist() == [20, 30]


@given(hnp.arrays(np.float64, st.integers(1, 300), elements=finite), st.integers(1, 40), st.randoms())
def test_extremes_keeps_the_least_and_the_greatest_of_every_column(y, columns, random) -> None:
    column_of = np.sort(np.array([random.randrange(columns) for _ in y]))
    kept = plot_geometry.extremes(column_of, y)
    assert kept.tolist() == sorted(set(kept.tolist()))
    for column in set(column_of.tolist()):
        all_of_it, kept_of_it = y[column_of == column], y[kept[column_of[kept] == column]]
        assert 1 <= len(kept_of_it) <= 2
        assert (kept_of_it.min(), kept_of_it.max()) == (all_of_it.min(), all_of_it.max())


@pytest.mark.parametrize(
    ("least", "step"), [(0.1, 0.1), (0.11, 0.2), (0.3, 0.5), (0.7, 1), (1, 1), (3, 5), (5.1, 10), (1e-7, 1e-7)]
)
def test_nice_step(least: float, step: float) -> None:
    assert plot_geometry.nice_step(least) == step


def test_x_axis_climbs_a_ladder_up_to_the_limit() -> None:
    highs = [plot_geometry.x_range(0, last, 8).high for last in (0.001, 0.1, 0.11, 0.6, 1.5, 3.4, 5.1, 8)]
    assert highs == [0.01, 0.1, 0.2, 1, 2, 5, 8, 8]
    assert plot_geometry.x_range(0, 9, 8).high == 10  # longer than planned: the plan is no limit


@given(st.floats(0.01, 1e6), st.floats(0.01, 1e6))
def test_a_curve_fills_at_least_forty_percent_of_the_width(last: float, limit: float) -> None:
    axis = plot_geometry.x_range(0, last, limit)
    assert axis.low == 0 and axis.high >= last * (1 - 1e-9)
    assert last >= 0.4 * axis.high * (1 - 1e-9)


@given(finite, finite, st.floats(width=64))
def test_the_x_axis_contains_its_data(a: float, b: float, limit: float) -> None:
    first, last = min(a, b), max(a, b)
    axis = plot_geometry.x_range(first, last, limit)
    slack = 1e-9 * max(abs(first), abs(last))
    assert axis.low <= first + slack and axis.high >= last - slack and axis.low < axis.high


def test_zoomed_data_do_not_start_at_zero() -> None:
    axis = plot_geometry.x_range(8.3, 9.9, 10)
    assert 8 <= axis.low <= 8.3 and 9.9 <= axis.high <= 10


@given(finite, finite)
def test_the_y_axis_contains_its_data(a: float, b: float) -> None:
    axis = plot_geometry.y_range(min(a, b), max(a, b))
    assert axis.low <= min(a, b) and axis.high >= max(a, b) and axis.low < axis.high


@given(positive, positive)
def test_the_log_axis_contains_its_data(a: float, b: float) -> None:
    axis = plot_geometry.log_range(min(a, b), max(a, b))
    assert axis.log and 0 < axis.low <= min(a, b) and axis.high >= max(a, b) and axis.low < axis.high


def test_y_axes_have_nice_ends() -> None:
    assert (plot_geometry.y_range(0.03, 2.31).low, plot_geometry.y_range(0.03, 2.31).high) == (0, 2.5)
    assert plot_geometry.y_range(0, 0).high == 1
    constant = plot_geometry.y_range(0.3, 0.3)
    assert constant.low < 0.3 < constant.high
    axis = plot_geometry.log_range(0.03, 2.31)
    assert (axis.low, axis.high) == (pytest.approx(0.02), 5)


def test_a_spike_stays_in_range() -> None:
    x, y = np.arange(100.0), np.full(100, 0.1)
    y[3] = 7.0
    assert plot_geometry.choose_y_range([(x, y)]).high >= 7


def test_percents_end_at_a_hundred_and_forget_the_start() -> None:
    x = np.linspace(0, 4, 41)
    y = np.where(x < 1, 0.1 + 0.8 * x, 0.96)
    axis = plot_geometry.choose_y_range([(x, y)], percent=True)
    assert (axis.low, axis.high) == (0.95, 1.0)
    assert plot_geometry.choose_y_range([(x[:5], y[:5])], percent=True).low == 0
    collapse = np.where(x > 3.9, 0.2, y)
    assert plot_geometry.choose_y_range([(x, collapse)], percent=True).low == 0
    assert plot_geometry.choose_y_range([(x, y * 2)], percent=True).high > 1.9  # no shares of 1 after all


@given(finite, finite, st.integers(1, 12))
def test_ticks_lie_inside_the_range(a: float, b: float, most: int) -> None:
    axis = plot_geometry.y_range(min(a, b), max(a, b))
    values = plot_geometry.ticks(axis, most)
    assert 1 <= len(values) <= most
    assert all(axis.low <= value <= axis.high for value in values)
    assert len(plot_geometry.format_ticks(values)) == len(values)


@given(positive, positive, st.integers(1, 12))
def test_log_ticks_lie_inside_the_range(a: float, b: float, most: int) -> None:
    axis = plot_geometry.log_range(min(a, b), max(a, b))
    values = plot_geometry.ticks(axis, most)
    assert 1 <= len(values) <= most
    assert all(axis.low <= value <= axis.high for value in values)


def test_tick_labels() -> None:
    assert plot_geometry.ticks(Range(0, 2.5), 3) == [0, 1, 2]
    assert plot_geometry.ticks(Range(0, 0.3), 4) == [0, 0.1, 0.2, 0.3]
    assert plot_geometry.ticks(Range(0.02, 5, log=True), 3) == [0.1, 1]
    assert plot_geometry.format_ticks([0, 0.5, 1]) == ["0.0", "0.5", "1.0"]
    assert plot_geometry.format_ticks([0.9, 0.95, 1], percent=True) == ["90%", "95%", "100%"]
    assert plot_geometry.format_ticks([0.995, 1], percent=True) == ["99.5%", "100.0%"]
    assert plot_geometry.format_ticks([0.01, 0.1, 1], log=True) == ["0.01", "0.1", "1"]
    assert plot_geometry.format_ticks([0, 1e6, 2e6]) == ["0", "1e6", "2e6"]


@given(st.integers(1, 200), st.sampled_from([1, 2, 5, 8, 10, 12, 60, 300]), st.integers(1, 60))
def test_labels_have_room(columns: int, limit: int, rows: int) -> None:
    axis = Range(0, limit)
    shown = plot_geometry.x_ticks(axis, columns)
    places = (axis.dots(np.array([v for v, _ in shown]), columns * DOTS_ACROSS) // DOTS_ACROSS).tolist()
    for (place, (_, label)), after in zip(zip(places, shown, strict=True), places[1:], strict=False):
        assert place + len(label) + 2 <= after
    beside = plot_geometry.y_ticks(axis, rows)
    places = axis.dots(np.array([v for v, _ in beside]), rows * DOTS_DOWN) // DOTS_DOWN
    assert all(np.diff(places) >= 2)


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
    shown = plot_geometry.format_value(value, percent=percent)
    assert shown.strip() == text
    assert len(shown) == 6


def test_a_line_begins_and_ends_where_the_data_does() -> None:
    axes, size = (Range(0, 10), Range(0, 1)), (20, 5)
    x, y = np.linspace(0, 10, 1000), np.linspace(0, 1, 1000)
    dots = plot_geometry.line_dots(x, y, axes, size)
    assert dots[0] == (0, 0) and dots[-1] == (39, 19)
    assert len(dots) <= 2 * 20


def test_a_line_keeps_a_single_spike() -> None:
    y = np.zeros(1000)
    y[500] = 1
    dots = plot_geometry.line_dots(np.linspace(0, 10, 1000), y, (Range(0, 10), Range(0, 1)), (20, 5))
    assert max(dot[1] for dot in dots) == 19


def test_noise_does_not_make_an_endless_line() -> None:
    random = np.random.default_rng(0)
    x, y = np.linspace(0, 1, 4000), random.random(4000)
    dots = plot_geometry.line_dots(x, y, (Range(0, 1), Range(0, 1)), (200, 60))
    length = sum(abs(b[1] - a[1]) for a, b in itertools.pairwise(dots))
    assert length < 2 * 50 * 4 * 60
    assert (min(d[1] for d in dots), max(d[1] for d in dots)) == (0, 239)


def test_glyphs_stay_apart_and_do_not_move() -> None:
    axes, size = (Range(0, 100), Range(0, 1)), (40, 5)
    few = plot_geometry.point_cells(np.array([0.0, 50, 100]), np.array([0.0, 0.5, 1]), axes, size)
    assert few == [(0, 4), (20, 2), (39, 0)]
    many = plot_geometry.point_cells(np.arange(50.0), np.zeros(50), axes, size)
    more = plot_geometry.point_cells(np.arange(51.0), np.zeros(51), axes, size)
    assert len(many) <= 11 and more[: len(many)] == many
    assert plot_geometry.point_cells(np.array([1.0, 2.0]), np.array([-0.5, 1.5]), axes, size) == []  # outside


def test_plotext_draws_what_it_is_given() -> None:
    chars = plot_geometry.draw(((0, 0), (9, 15)), (5, 4))
    rows = ["".join(row) for row in chars]
    assert chars.shape == (4, 5)
    assert rows[0][4] != " " and rows[3][0] != " "
    assert rows[0][0] == " " and rows[3][4] == " "
    assert all("⠀" < char <= "⣿" or char == " " for row in rows for char in row)


def test_drawing_leaves_the_figure_of_plotext_alone() -> None:
    import plotext

    before = plotext.figure.size(), plotext.figure.build().string()
    plot_geometry.draw(((0, 0), (3, 3)), (300, 90))
    assert (plotext.figure.size(), plotext.figure.build().string()) == before


@pytest.mark.parametrize("log", [False, True])
@given(data=st.tuples(any_floats, any_floats), limit=st.floats(width=64), size=st.tuples(*[st.integers(1, 50)] * 2))
def test_nothing_finite_or_not_raises(data, limit: float, size: tuple[int, int], log: bool) -> None:
    x, y = plot_geometry.usable(*data, log=log)
    y_axis = plot_geometry.choose_y_range([(x, y)], log=log)
    percent_axis = plot_geometry.choose_y_range([(x, y)], percent=True)
    x_axis = plot_geometry.x_range(x[0], x[-1], limit) if len(x) else Range(0, 1)
    for axis in (y_axis, percent_axis):
        plot_geometry.y_ticks(axis, size[1])
    plot_geometry.x_ticks(x_axis, size[0])
    dots = plot_geometry.line_dots(x, y, (x_axis, y_axis), size)
    assert bool(dots) == bool(len(x))
    assert all(0 <= across < size[0] * 2 for across, _ in dots)
    assert all(0 <= up < size[1] * 4 for _, up in dots)
    plot_geometry.point_cells(x, y, (x_axis, y_axis), size)


def test_plotext_is_imported_by_preload_only() -> None:
    code = (
        "import sys, finetui.tui.widgets.line_plot; from finetui.tui.widgets import plot_geometry\n"
        "assert 'plotext' not in sys.modules and not plot_geometry.is_loaded()\n"
        "plot_geometry.preload()\n"
        "assert 'plotext' in sys.modules and plot_geometry.is_loaded()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_means_are_drawn_only_where_a_column_has_two_values() -> None:
    axes, size = (Range(0, 9), Range(0, 1)), (5, 5)
    assert plot_geometry.mean_dots(np.arange(10.0), np.linspace(0, 1, 10), axes, size) == ()
    assert plot_geometry.mean_dots(np.empty(0), np.empty(0), axes, size) == ()
    x = np.repeat(np.arange(10.0), 4)
    y = np.tile([0.0, 0.0, 0.0, 1.0], 10)
    assert plot_geometry.mean_dots(x, y, axes, size) == tuple(
        (column, 5) for column in range(10)
    )  # a quarter of 19 dots


def lit(chars: np.ndarray) -> set[tuple[int, int]]:
    """Return the dots of braille characters as (across, up from the bottom)."""
    places = [(0, 3), (0, 2), (0, 1), (1, 3), (1, 2), (1, 1), (0, 0), (1, 0)]  # of the bits, from the lowest
    return {
        (column * DOTS_ACROSS + across, (len(chars) - 1 - row) * DOTS_DOWN + up)
        for (row, column), char in np.ndenumerate(chars)
        for bit, (across, up) in enumerate(places)
        if char != " " and ord(char) - 0x2800 >> bit & 1
    }


def test_a_band_reaches_from_the_least_to_the_greatest_value_and_closes_gaps() -> None:
    axes, size = (Range(0, 9), Range(0, 7)), (5, 2)
    x, y = np.array([0.0, 0.0, 1.0, 5.0, 9.0, 9.0]), np.array([1.0, 6.0, 3.0, 3.0, 0.0, 4.0])
    edges = [(1, 6), *[(3, 3)] * 5, (2, 3), (2, 4), (1, 4), (0, 4)]
    wanted = {(column, up) for column, (low, high) in enumerate(edges) for up in range(low, high + 1)}
    assert lit(plot_geometry.band(x, y, axes, size)) == wanted
    assert lit(plot_geometry.band(np.empty(0), np.empty(0), axes, size)) == set()
    # What lies beyond the axis is cut off, as it is from a line.
    assert lit(plot_geometry.band(x, y + 50, axes, size)) == set()
