"""The arithmetic of a line plot: what is drawn where. Pure functions over numpy arrays; no Textual.

plotext draws the curves, on a figure of our own: its global figure and the terminal are never touched.
"""

import functools
import itertools
import threading
from typing import Any

import numpy as np
import numpy.typing as npt

from finetui.tui.widgets.plot_axes import DOTS_ACROSS, DOTS_DOWN, HUGE, Floats, Ints, Points, Range
from finetui.tui.widgets.plotext_figure import new_figure

Dots = tuple[tuple[int, int], ...]
Chars = npt.NDArray[np.str_]

_GLYPH_SPACING = 2  # columns from one point glyph to the next, so that they stay apart
_LONGEST_LINE = 2500  # dots up and down in one line; plotext takes about 1 µs for each

_BRAILLE = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])  # what each dot adds to U+2800

_loaded = threading.Event()
_loading = threading.Lock()
_drawing = threading.Lock()  # there is one figure


def preload() -> None:
    """Import plotext and draw a first dot, 0.3 s; made to be called in a thread, any number of times."""
    with _loading:
        if not _loaded.is_set():
            draw(((0, 0), (1, 1)), (1, 1))
            _loaded.set()


def is_loaded() -> bool:
    """Return whether `preload` has finished (`sys.modules` also lists modules that are still being imported)."""
    return _loaded.is_set()


def usable(x: npt.ArrayLike, y: npt.ArrayLike, *, log: bool = False) -> tuple[Floats, Floats]:
    """Return the points that can be drawn, x rising: finite, and with a positive y if `log`."""
    xs, ys = np.asarray(x, dtype=np.float64).ravel(), np.asarray(y, dtype=np.float64).ravel()
    count = min(len(xs), len(ys))
    xs, ys = xs[:count], ys[:count]
    keep = np.isfinite(xs) & np.isfinite(ys)
    if log:
        keep &= ys > 0
    xs, ys = np.clip(xs[keep], -HUGE, HUGE), np.clip(ys[keep], 1 / HUGE if log else -HUGE, HUGE)
    if np.any(xs[1:] < xs[:-1]):
        order = np.argsort(xs, kind="stable")
        xs, ys = xs[order], ys[order]
    return xs, ys


def within(x: Floats, y: Floats, low: float, high: float) -> Points:
    """Return the points from `low` to `high`, and where the line through all of them enters and leaves."""
    if not len(x) or (x[0] >= low and x[-1] <= high):
        return x, y
    inside = (x >= low) & (x <= high)
    edges = np.array([edge for edge in (low, high) if x[0] < edge < x[-1]])
    xs, ys = np.append(x[inside], edges), np.append(y[inside], np.interp(edges, x, y))
    order = np.argsort(xs, kind="stable")
    return xs[order], ys[order]


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


def envelope(x: Floats, y: Floats, axes: tuple[Range, Range], size: tuple[int, int]) -> tuple[Ints, Ints, Ints]:
    """Return columns of dots without a gap, `[n]`, and between which dots the values of each lie.

    Each column reaches to the one before it, so that one value in each of them makes a line.
    """
    across, up = _place(x, y, axes, size)
    if not len(across):
        return (np.empty(0, dtype=np.int64),) * 3
    rows, columns = size[1] * DOTS_DOWN, size[0] * DOTS_ACROSS
    least, greatest = np.full(columns, 2 * rows), np.full(columns, -2 * rows)
    np.minimum.at(least, across, up)
    np.maximum.at(greatest, across, up)
    seen = np.flatnonzero(greatest >= least)
    span = np.arange(seen[0], seen[-1] + 1)
    low, high = (np.rint(np.interp(span, seen, edge[seen])).astype(np.int64) for edge in (least, greatest))
    return span, np.minimum(low, np.append(low[:1], high[:-1])), np.maximum(high, np.append(high[:1], low[:-1]))


def band(x: Floats, y: Floats, axes: tuple[Range, Range], size: tuple[int, int]) -> Chars:
    """Return the characters, `[rows, columns]`, of the area between the least and the greatest y of each column."""
    return filled(*envelope(x, y, axes, size), size)


def filled(span: Ints, low: Ints, high: Ints, size: tuple[int, int]) -> Chars:
    """Return the characters, `[rows, columns]`, of an area as `envelope` returns it."""
    level = np.arange(size[1] * DOTS_DOWN)[::-1, None]  # from the top
    dots = np.zeros((size[1] * DOTS_DOWN, size[0] * DOTS_ACROSS), dtype=bool)
    dots[:, span] = (low <= level) & (level <= high)
    cells = dots.reshape(size[1], DOTS_DOWN, size[0], DOTS_ACROSS)
    codes = (cells * _BRAILLE[:, None, :]).sum(axis=(1, 3), dtype=np.uint32)
    return np.where(codes, codes + 0x2800, ord(" ")).astype(np.uint32).view("<U1")


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
    figure = new_figure()
    figure.canvas("default").axes(False).legend(False)
    for axis in (0, 1):
        figure.ruler(axis).alignment(lim="edge").frequency(0)
    return figure


def draw(line: Dots, size: tuple[int, int]) -> Chars:
    """Return the characters, `[rows, columns]`, of a canvas with one line, spaces where it is not.

    One canvas for each line, so that it is drawn anew only where it has changed.
    """
    with _drawing:
        return _draw(line, size)


def _draw(line: Dots, size: tuple[int, int]) -> Chars:
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
