"""What a plot shows where: which points are drawn, and with which dots."""

import itertools
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp

from finetui.tui.widgets import plot_axes, plot_geometry
from finetui.tui.widgets.plot_axes import DOTS_ACROSS, DOTS_DOWN, Range

any_floats = hnp.arrays(np.float64, st.integers(0, 60), elements=st.floats(width=64))
finite = st.floats(-1e90, 1e90, allow_nan=False)


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
    y_axis, _ = plot_axes.y_axis([(x, y)], size[1], log=log)
    plot_axes.y_axis([(x, y)], size[1], percent=True)
    x_axis = plot_axes.x_range(x[0], x[-1], limit) if len(x) else Range(0, 1)
    plot_axes.x_ticks(x_axis, size[0])
    dots = plot_geometry.line_dots(x, y, (x_axis, y_axis), size)
    assert bool(dots) == bool(len(x))
    assert all(0 <= across < size[0] * 2 for across, _ in dots)
    assert all(0 <= up < size[1] * 4 for _, up in dots)
    plot_geometry.point_cells(x, y, (x_axis, y_axis), size)


def test_plotext_is_imported_by_preload_only() -> None:
    code = (
        "import sys, finetui.tui.widgets.line_plot; from finetui.tui.widgets import plot_geometry\n"
        "assert 'plotext._plotter' not in sys.modules and not plot_geometry.is_loaded()\n"
        "plot_geometry.preload()\n"
        "assert 'plotext._plotter' in sys.modules and plot_geometry.is_loaded()\n"
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
    edges = [(1, 6), *[(3, 3)] * 5, (2, 3), (2, 4), (1, 4), (0, 4)]  # each meets the one before it
    wanted = {(column, up) for column, (low, high) in enumerate(edges) for up in range(low, high + 1)}
    assert lit(plot_geometry.band(x, y, axes, size)) == wanted
    assert lit(plot_geometry.band(np.empty(0), np.empty(0), axes, size)) == set()
    # What lies beyond the axis is cut off, as it is from a line.
    assert lit(plot_geometry.band(x, y + 50, axes, size)) == set()


def test_one_value_in_each_column_is_a_line_without_gaps() -> None:
    x, y = np.arange(10.0), np.array([0.0, 7.0, 1.0, 6.0, 0.0, 0.0, 7.0, 7.0, 2.0, 5.0])
    dots = lit(plot_geometry.band(x, y, (Range(0, 9), Range(0, 7)), (5, 2)))
    levels = [sorted(up for across, up in dots if across == column) for column in range(10)]
    assert all(found == list(range(found[0], found[-1] + 1)) for found in levels)
    assert all(max(a) >= min(b) and min(a) <= max(b) for a, b in itertools.pairwise(levels))


def test_a_part_begins_and_ends_where_the_line_enters_and_leaves_it() -> None:
    x, y = np.array([0.0, 2.0, 4.0, 6.0]), np.array([0.0, 2.0, 0.0, 2.0])
    assert [part.tolist() for part in plot_geometry.within(x, y, 1.0, 5.0)] == [[1, 2, 4, 5], [1, 2, 0, 1]]
    assert [part.tolist() for part in plot_geometry.within(x, y, 2.5, 3.0)] == [[2.5, 3], [1.5, 1]]
    assert [part.tolist() for part in plot_geometry.within(x, y, 7.0, 9.0)] == [[], []]
    assert plot_geometry.within(x, y, -1, 9)[0] is x
