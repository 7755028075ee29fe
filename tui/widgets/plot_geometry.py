"""The arithmetic of a line plot: what is drawn where. Pure functions over numpy arrays; no Textual.

plotext draws the curves, on a figure of our own: its global figure and the terminal are never touched. `draw` must
not run in two threads at once.
"""

import functools
import itertools
import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Dots = tuple[tuple[int, int], ...]
Chars = npt.NDArray[np.str_]

DOTS_ACROSS, DOTS_DOWN = 2, 4  # the dots of one braille character
_HUGE = 1e100  # values are cut to this, so that no difference of two of them overflows
_SHORTEST_SPAN = 0.01  # of an x axis, in epochs
_PERCENT_FLOORS = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999)
_GLYPH_SPACING = 2  # columns from one point glyph to the next, so that they stay apart
_LONGEST_LINE = 2500  # dots up and down in one line; plotext takes about 1 µs for each

_BRAILLE = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])  # what each dot adds to U+2800

_loaded = threading.Event()
_loading = threading.Lock()


def preload() -> None:
    """Import plotext and draw a first dot, 0.3 s; made to be called in a thread, any number of times."""
    with _loading:
        if not _loaded.is_set():
            draw(((0, 0), (1, 1)), (1, 1))
            _loaded.set()


def is_loaded() -> bool:
    """Return whether `preload` has finished (`sys.modules` also lists modules that are still being imported)."""
    return _loaded.is_set()


@dataclass(frozen=True)
class Range:
    """The part of an axis that is shown, `low` < `high`; both are positive if `log`."""

    low: float
    high: float
    log: bool = False

    def fraction(self, values: Floats) -> Floats:
        """Return where `values` lie: 0 at `low`, 1 at `high`."""
        if self.log:
            low, high = math.log10(self.low), math.log10(self.high)
            return (np.log10(values) - low) / (high - low)
        return (values - self.low) / (self.high - self.low)

    def dots(self, values: Floats, count: int) -> Ints:
        """Return the nearest of `count` dots; values out of range get dots up to one range away."""
        return np.rint(np.clip(self.fraction(values), -1.0, 2.0) * (count - 1)).astype(np.int64)


def usable(x: npt.ArrayLike, y: npt.ArrayLike, *, log: bool = False) -> tuple[Floats, Floats]:
    """Return the points that can be drawn, x rising: finite, and with a positive y if `log`."""
    xs, ys = np.asarray(x, dtype=np.float64).ravel(), np.asarray(y, dtype=np.float64).ravel()
    count = min(len(xs), len(ys))
    xs, ys = xs[:count], ys[:count]
    keep = np.isfinite(xs) & np.isfinite(ys)
    if log:
        keep &= ys > 0
    xs, ys = np.clip(xs[keep], -_HUGE, _HUGE), np.clip(ys[keep], 1 / _HUGE if log else -_HUGE, _HUGE)
    if np.any(xs[1:] < xs[:-1]):
        order = np.argsort(xs, kind="stable")
        xs, ys = xs[order], ys[order]
    return xs, ys


def extremes(columns: Ints, y: Floats) -> Ints:
    """Return the indices, rising, of the least and the greatest `y` in each column: at most two a column."""
    if not len(y):
        return np.empty(0, dtype=np.int64)
    order = np.lexsort((y, columns))  # by column, then by y: a column's first is its least, its last its greatest
    edge = np.flatnonzero(np.diff(columns[order])) + 1
    first, last = np.concatenate(([0], edge)), np.concatenate((edge, [len(y)])) - 1
    kept = np.zeros(len(y), dtype=bool)  # np.unique would import numpy.ma on its first call, 35 ms
    kept[order[np.concatenate((first, last))]] = True
    return np.flatnonzero(kept)


def nice_step(least: float) -> float:
    """Return the smallest of ..., 0.1, 0.2, 0.5, 1, 2, 5, 10, ... that is not smaller than `least` (> 0)."""
    exponent = math.floor(math.log10(least))
    for power in (exponent, exponent + 1):
        for mantissa in (1, 2, 5):
            step = float(f"{mantissa}e{power}")
            if step >= least * (1 - 1e-9):
                return step
    return float(f"1e{exponent + 2}")


def x_range(first: float, last: float, limit: float) -> Range:
    """Return the x axis for data from `first` to `last` in a run planned until `limit`.

    The end climbs a ladder of nice numbers, so that it seldom changes and the curve still fills 40 % of the width.
    The start is 0, unless only a later part of the run is shown.
    """
    capped = math.isfinite(limit) and limit > 0
    if 0 <= first <= last / 2 or first == last >= 0:
        high = nice_step(max(last, _SHORTEST_SPAN))
        return Range(0.0, min(high, limit) if capped and limit >= last and limit > 0 else high)
    span = max(last - first, _SHORTEST_SPAN, 1e-6 * max(abs(first), abs(last)))
    step = nice_step(span / 5)
    low, high = math.floor(first / step) * step, math.ceil(last / step) * step
    if capped and low < last <= limit < high:
        high = limit
    return Range(low, high if high > low else low + step)


def y_range(least: float, greatest: float) -> Range:
    """Return a linear y axis that holds every value from `least` to `greatest`, with nice ends."""
    size = max(abs(least), abs(greatest))
    if size < 1 / _HUGE:
        return Range(min(least, 0.0), 1.0)
    if 0 < least < greatest / 2:
        least = 0.0  # zero is near enough to be worth showing
    if greatest - least < 1e-9 * size:  # constant
        least, greatest = least - size / 2, greatest + size / 2
    step = nice_step((greatest - least) / 5)
    low, high = math.floor(least / step + 1e-9) * step, math.ceil(greatest / step - 1e-9) * step
    return Range(min(low, least), max(high, greatest))


def log_range(least: float, greatest: float) -> Range:
    """Return a logarithmic y axis for positive values, from one of 1, 2, 5, 10, ... to another."""
    high = nice_step(greatest)
    low = 1 / nice_step(1 / least)  # the inverses of 1, 2, 5, ... are 1, 0.5, 0.2, ...: nice as well
    low, high = min(low, least), max(high, greatest)
    return Range(low, high, log=True) if high > low * 1.5 else Range(low / 2, high * 2, log=True)


def percent_range(least: float) -> Range:
    """Return a y axis for shares of 1 that ends at 1 and begins at a nice number below `least`, but not below 0."""
    return Range(max(floor for floor in _PERCENT_FLOORS if floor <= max(least, 0.0)), 1.0)


def choose_y_range(data: Sequence[tuple[Floats, Floats]], *, percent: bool = False, log: bool = False) -> Range:
    """Return the y axis for `data`, as `usable` returns it.

    Every value is in range, a spike as well; but an axis of percents leaves the start of the run out once
    the curve has left it, since 10 % accuracy before the first step would flatten all that follows.
    """
    filled = [(x, y) for x, y in data if len(y)]
    if not filled:
        return Range(0.1, 1.0, log=True) if log else Range(0.0, 1.0)
    least, greatest = min(float(y.min()) for _, y in filled), max(float(y.max()) for _, y in filled)
    if log:
        return log_range(least, greatest)
    if not percent or least < 0 or greatest > 1:
        return y_range(least, greatest)
    start = min(x[0] for x, _ in filled)
    later = start + (max(x[-1] for x, _ in filled) - start) / 4
    return percent_range(min(float(y[x >= later].min(initial=math.inf)) for x, y in filled))


def ticks(axis: Range, most: int) -> list[float]:
    """Return at most `most` nice values inside the range, rising."""
    most = max(most, 1)
    if axis.log:
        return _log_ticks(axis, most)
    step = nice_step((axis.high - axis.low) / (most + 1))
    found = _multiples(axis, step)
    while len(found) > most:
        step = nice_step(step * 1.5)
        # Where the next step has no multiple in range, the middle one of those found stands for them.
        found = _multiples(axis, step) or [found[len(found) // 2]]
    return found or [axis.low]


def _multiples(axis: Range, step: float) -> list[float]:
    first, last = math.ceil(axis.low / step - 1e-6), math.floor(axis.high / step + 1e-6)
    # Rounded to the digits of the step, 3 * 0.1 is 0.3; cut to the range, no tick falls off its end.
    digits = max(0, -math.floor(math.log10(step)))
    values = (round(k * step, digits) if digits < 300 else k * step for k in range(first, min(last, first + 99) + 1))
    return [min(max(value, axis.low), axis.high) for value in values]


def _log_ticks(axis: Range, most: int) -> list[float]:
    first, last = math.floor(math.log10(axis.low)), math.ceil(math.log10(axis.high))
    for mantissas in ((1, 2, 5), (1, 3), (1,)):
        values = [float(f"{m}e{power}") for power in range(first, last + 1) for m in mantissas]
        found = [value for value in values if axis.low <= value <= axis.high]
        if found and len(found) <= most:
            return found
    return found[:: -(-len(found) // most)] if found else [axis.low]


def format_ticks(values: Sequence[float], *, percent: bool = False, log: bool = False) -> list[str]:
    """Return the labels of an axis' ticks, with as many decimals as they need: all the same, unless `log`."""
    if not values:
        return []
    scaled = [value * 100 for value in values] if percent else list(values)
    size = max(map(abs, scaled))
    least = min(map(abs, scaled)) if log else min((b - a for a, b in itertools.pairwise(scaled)), default=size)
    if size >= 1e5 or least < 1e-4:
        return [_exponent(value) for value in scaled]
    needed = [next((n for n in range(5) if _is_whole(value * 10**n)), 4) for value in scaled]
    if not log:
        needed = [max(needed)] * len(needed)
    sign = "%" if percent else ""
    return [f"{value:.{decimals}f}{sign}" for value, decimals in zip(scaled, needed, strict=True)]


@functools.lru_cache(maxsize=32)
def x_ticks(axis: Range, columns: int) -> Sequence[tuple[float, str]]:
    """Return as many ticks, with their labels, as have room below a canvas of `columns`."""
    for most in range(min(columns // 6 + 1, 20), 0, -1):
        values = ticks(axis, most)
        labels = format_ticks(values, log=axis.log)
        gap = _least_gap(axis, values, columns, DOTS_ACROSS)
        if gap >= max(max(map(len, labels)) + 3, 6):
            return tuple(zip(values, labels, strict=True))
    return []


@functools.lru_cache(maxsize=32)
def y_ticks(axis: Range, rows: int, *, percent: bool = False) -> Sequence[tuple[float, str]]:
    """Return as many ticks, with their labels, as have room beside a canvas of `rows`, with a row between two."""
    for most in range(min(rows // 2 + 1, 6), 0, -1):
        values = ticks(axis, most)
        if most == 1 or _least_gap(axis, values, rows, DOTS_DOWN) >= 2:
            return tuple(zip(values, format_ticks(values, percent=percent, log=axis.log), strict=True))
    return ()


def _least_gap(axis: Range, values: Sequence[float], cells: int, dots: int) -> int:
    places = axis.dots(np.array(values), cells * dots) // dots
    return int(np.diff(places).min(initial=cells))


def _is_whole(value: float) -> bool:
    return abs(value - round(value)) < 1e-6


def _exponent(value: float) -> str:
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent)}" if value else "0"


def format_value(value: float | None, *, percent: bool = False) -> str:
    """Return a value in six characters, so that a row of them does not move; None gives a dash."""
    if value is None or not math.isfinite(value):
        return "–".ljust(6)  # beside its name: at the right it would look like the next glyph
    if percent:
        return f"{value:.2%}".rjust(6) if -0.099 < value < 0.99995 else f"{value:.1%}".rjust(6)[:6]
    for decimals in (4, 3, 2, 1, 0):
        text = f"{value:.{decimals}f}"
        if len(text) <= 6 and (abs(value) >= 0.001 or value == 0):
            return text.rjust(6)
    return _exponent(value).rjust(6)


def line_dots(x: Floats, y: Floats, axes: tuple[Range, Range], size: tuple[int, int]) -> Dots:
    """Return the dots to join for a series, as `usable` returns it, on a canvas of `size` (columns, rows).

    They are counted from the lower left; those outside the y axis are below 0 or beyond the top.
    """
    across, up = _place(x, y, axes, size)
    line: Dots = ()
    for width in (1, 2, 4):  # noise as high as the canvas makes a line so long that drawing it would be felt
        keep = extremes(across // (DOTS_ACROSS * width), y)
        line = _shortest(across[keep].tolist(), up[keep].tolist(), DOTS_ACROSS * width)
        if _length(line) <= _LONGEST_LINE:
            break
    return line


def _length(line: Dots) -> int:
    return sum(abs(b[1] - a[1]) for a, b in itertools.pairwise(line))


def mean_dots(x: Floats, y: Floats, axes: tuple[Range, Range], size: tuple[int, int]) -> Dots:
    """Return the dots to join for the mean of each column of dots; none where no column has two values.

    As `line_dots` otherwise.
    """
    across, _ = _place(x, y, axes, size)
    if not len(across) or np.bincount(across).max() < 2:
        return ()
    line: Dots = ()
    for width in (1, 2, 4):
        counts = np.bincount(across // width)
        columns = np.flatnonzero(counts)
        means = np.bincount(across // width, weights=y)[columns] / counts[columns]
        line = tuple(zip((columns * width).tolist(), axes[1].dots(means, size[1] * DOTS_DOWN).tolist(), strict=True))
        if _length(line) <= _LONGEST_LINE:
            break
    return line


def band(x: Floats, y: Floats, axes: tuple[Range, Range], size: tuple[int, int]) -> Chars:
    """Return the characters, `[rows, columns]`, of the area between the least and the greatest y of each column."""
    across, up = _place(x, y, axes, size)
    if not len(across):
        return np.full(size[::-1], " ", dtype="<U1")
    shape = rows, columns = size[1] * DOTS_DOWN, size[0] * DOTS_ACROSS
    least, greatest = np.full(columns, rows), np.full(columns, -1)
    np.minimum.at(least, across, up)
    np.maximum.at(greatest, across, up)
    seen = np.flatnonzero(greatest >= least)
    span = np.arange(seen[0], seen[-1] + 1)
    low, high = (np.rint(np.interp(span, seen, edge[seen])) for edge in (least, greatest))
    level = np.arange(rows)[::-1, None]  # from the top
    dots = np.zeros(shape, dtype=bool)
    dots[:, span] = (low <= level) & (level <= high)
    cells = dots.reshape(size[1], DOTS_DOWN, size[0], DOTS_ACROSS)
    codes = (cells * _BRAILLE[:, None, :]).sum(axis=(1, 3), dtype=np.uint32)
    return np.where(codes, codes + 0x2800, ord(" ")).astype(np.uint32).view("<U1")


def merged(one: Chars, other: Chars) -> Chars:
    """Return braille characters with the dots of both, `[n]` each."""
    codes = one.astype("<U1").view(np.uint32) | other.astype("<U1").view(np.uint32)
    return codes.view("<U1")


def point_cells(x: Floats, y: Floats, axes: tuple[Range, Range], size: tuple[int, int]) -> list[tuple[int, int]]:
    """Return the (column, row) cells, rows counted from the top, for the glyphs of a series.

    Each is at a value of its own; where they would touch, some are left out.
    """
    across, up = _place(x, y, axes, size)
    columns, rows = across // DOTS_ACROSS, size[1] - 1 - up // DOTS_DOWN
    if len(columns) > 1 and int(np.diff(columns).min()) < _GLYPH_SPACING:
        # The first in each of some fixed buckets of columns, so that a new point moves none of those before it.
        shown = np.diff(columns // _GLYPH_SPACING, prepend=-1) > 0
        columns, rows = columns[shown], rows[shown]
    inside = (rows >= 0) & (rows < size[1])
    return list(zip(columns[inside].tolist(), rows[inside].tolist(), strict=True))


def _place(x: Floats, y: Floats, axes: tuple[Range, Range], size: tuple[int, int]) -> tuple[Ints, Ints]:
    dots_across = size[0] * DOTS_ACROSS
    return np.clip(axes[0].dots(x, dots_across), 0, dots_across - 1), axes[1].dots(y, size[1] * DOTS_DOWN)


def _shortest(across: list[int], up: list[int], width: int) -> Dots:
    """Join the extremes of all buckets of `width` dots, each beginning with the one nearer to the bucket before.

    That moves an extreme within its bucket and halves the length, so the time, of the line through noisy values.
    """
    index = 1
    while index < len(across) - 2:  # the last column ends where the data ends
        pair = across[index] // width == across[index + 1] // width
        if pair and abs(up[index + 1] - up[index - 1]) < abs(up[index] - up[index - 1]):
            up[index], up[index + 1] = up[index + 1], up[index]
        index += 2 if pair else 1
    return tuple(dict.fromkeys(zip(across, up, strict=True)))  # each dot once


@functools.lru_cache(maxsize=1)
def _figure() -> Any:
    """Return a plotext figure of our own without frame; it is used again since making one takes a millisecond."""
    import plotext

    # A figure asks its terminal how large it may be, so it gets one of its own that has no limits.
    figure = type(plotext.figure)(type(plotext.terminal)().limit(False, False))
    figure.canvas("default").axes(False).legend(False)
    for axis in (0, 1):
        figure.ruler(axis).alignment(lim="edge").frequency(0)
    return figure


def draw(line: Dots, size: tuple[int, int]) -> Chars:
    """Return the characters, `[rows, columns]`, of a canvas with one line, spaces where it is not.

    One canvas for each line: on a common one the dots of two lines would be merged and take one colour.
    """
    columns, rows = size
    figure = _figure().plot_size(columns, rows)
    figure.clear.data()
    for axis, length in ((0, columns), (1, rows)):
        figure.ruler(axis).lim(0, length)
    x = [(dot[0] + 0.5) / DOTS_ACROSS for dot in line]
    y = [(dot[1] + 0.5) / DOTS_DOWN for dot in line]
    signal = figure.signal(x, y, marker="braille").lines(True)
    # draw() looks at the colour of every point to choose the next default colour, half of all the time it takes.
    # No colour is used here. Should plotext rename this method, all works the same, slower.
    signal._get_unique_pixels = list
    text = figure.draw(signal).build().string(colorless=True)
    return np.array(list(text.replace("\n", "")), dtype="<U1").reshape(rows, columns)
