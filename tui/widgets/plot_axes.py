"""The axes of a plot: what part of the numbers is shown, and where its ticks are. Pure functions; no Textual."""

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Points = tuple[Floats, Floats]
Ticks = tuple[tuple[float, str], ...]

DOTS_ACROSS, DOTS_DOWN = 2, 4  # the dots of one braille character
HUGE = 1e100  # values are cut to this, so that no difference of two of them overflows
_SHORTEST_SPAN = 0.01  # of an x axis, in epochs
_HIGHEST_FLOOR = 0.999  # of an axis of percents
_MOST_TICKS = 7  # of a y axis
_QUARTER = 0.25  # 25 % is a nice step between percents as well
_FEW = 12  # values, of which each counts: they are no start that is soon left


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


def log_range(least: float, greatest: float) -> Range:
    """Return a logarithmic y axis for positive values, from one of 1, 2, 5, 10, ... to another."""
    high = nice_step(greatest)
    low = 1 / nice_step(1 / least)  # the inverses of 1, 2, 5, ... are 1, 0.5, 0.2, ...: nice as well
    low, high = min(low, least), max(high, greatest)
    return Range(low, high, log=True) if high > low * 1.5 else Range(low / 2, high * 2, log=True)


def y_axis(data: Sequence[Points], rows: int, *, percent: bool = False, log: bool = False) -> tuple[Range, Ticks]:
    """Return the y axis for `data`, as `usable` returns it, and its ticks, beside a canvas of `rows` (> 0).

    From one tick to the next there are always as many rows. Every value is in range, a spike as well; but an axis of
    percents leaves the start of each curve of many values out once that has left it, since 10 % accuracy before the
    first step would flatten all that follows.
    """
    filled = [(x, y) for x, y in data if len(y)]
    least = greatest = 0.0
    if not filled:
        found = _log_axis(0.1, 1.0, rows) if log else _even_axis(0.0, 1.0, rows)
    else:
        least, greatest = min(float(y.min()) for _, y in filled), max(float(y.max()) for _, y in filled)
        if log:
            found = _log_axis(least, greatest, rows)
        elif percent and least >= 0 and greatest <= 1:
            least = min(float(y[_settled(x)].min()) for x, y in filled)
            found = _lowered(*_even_axis(min(least, _HIGHEST_FLOOR), 1.0, rows, (_QUARTER,)), rows)
        else:
            found = _even_axis(*_widened(least, greatest), rows)
    axis, values = found
    if percent and greatest <= 1:  # there is room above 100 %, but nothing to be called so
        values = [value for value in values if value < 1 + 1e-9] or [axis.low]
    return axis, tuple(zip(values, format_ticks(values, percent=percent, log=log), strict=True))


def _settled(x: Floats) -> npt.NDArray[np.bool_]:
    """Return which values of a curve, at `x`, are not its start."""
    start: float = x[0] if len(x) <= _FEW else x[0] + (x[-1] - x[0]) / 4
    return np.greater_equal(x, start)


def _widened(least: float, greatest: float) -> tuple[float, float]:
    """Return both with some room between them, and with zero where that is near enough to be worth showing."""
    size = max(abs(least), abs(greatest))
    if size < 1 / HUGE:
        return min(least, 0.0), 1.0
    if 0 < least < greatest / 2:
        least = 0.0
    if greatest - least < 1e-9 * size:  # constant
        return least - size / 2, greatest + size / 2
    return least, greatest


def _even_axis(least: float, greatest: float, rows: int, besides: tuple[float, ...] = ()) -> tuple[Range, list[float]]:
    """Return a linear axis and its ticks, the lowest of them in the lowest row: of all nice steps the best.

    `besides` are steps that are as good as the others, rising.
    """
    most = rows * DOTS_DOWN - 1
    step = nice_step((greatest - least) / 12)
    others = [other for other in besides if other > step]
    best: tuple[float, float, float, int] | None = None  # how good it is, low, step, rows from tick to tick
    while best is None or step <= 2 * (greatest - least):
        low = math.floor(least / step + 1e-9) * step
        # Where the step is as large as the numbers are, rounding could leave the least or the greatest out.
        low = min(low, least)
        gap = int(most // (DOTS_DOWN * (greatest - low) / step)) if greatest > low else rows
        if gap >= 1:
            gap = min(gap, rows)
            count = (rows - 1) // gap + 1
            good = (greatest - least) / (step * most / (DOTS_DOWN * gap))
            good *= (0.5 if gap == 1 and rows > 2 else 1.0) * (0.7 if count < min(4, rows // 3) else 1.0)
            good *= 0.8 if count > _MOST_TICKS or gap > 6 else 1.0
            if best is None or good > best[0] + 1e-9:
                best = good, low, step, gap
        step = nice_step(step * 1.1)
        if others and others[0] < step:
            step = others.pop(0)
    _, low, step, gap = best
    axis = Range(low, max(low + step * most / (DOTS_DOWN * gap), greatest))
    return axis, _rounded([low + k * step for k in range((rows - 1) // gap + 1)], step)


def _lowered(axis: Range, values: list[float], rows: int) -> tuple[Range, list[float]]:
    """Return an axis of shares whose tick at 1 is in the highest row: below, there may be something to see."""
    values = [value for value in values if value < 1 + 1e-9]
    if len(values) < 2 or abs(values[-1] - 1) > 1e-9:
        return axis, values
    step, row = values[1] - values[0], (axis.high - axis.low) * DOTS_DOWN / (rows * DOTS_DOWN - 1)
    spare = min(rows - 1 - round((1 - axis.low) / row), int(axis.low / row + 1e-9))
    down = spare * row
    lower = [values[0] - step * k for k in range(round(down / step + 1), 0, -1) if step * k <= down + 1e-9]
    return Range(axis.low - down, axis.high - down), _rounded([*lower, *values], step)


def _rounded(values: list[float], step: float) -> list[float]:
    digits = max(0, 1 - math.floor(math.log10(step)))
    return [round(value, digits) for value in values] if digits < 300 else values


def _log_axis(least: float, greatest: float, rows: int) -> tuple[Range, list[float]]:
    """Return a logarithmic axis with a tick at each power of ten, or at 1, 2, 5, 10, ... where there are too few."""
    most = rows * DOTS_DOWN - 1
    first = math.floor(math.log10(least) + 1e-9)
    low, decades = min(10.0**first, least), 1
    while low > 0 and math.log10(greatest / low) > 1:
        gap = int(most // (DOTS_DOWN * math.log10(greatest / low) / decades))
        if gap >= min(2, rows):
            axis = Range(low, max(low * 10 ** (decades * most / (DOTS_DOWN * gap)), greatest), log=True)
            values = [float(f"1e{first + decades * k}") for k in range((rows - 1) // gap + 1)]
            if math.log10(greatest / least) < 0.5 * math.log10(axis.high / axis.low):
                break
            return axis, [min(max(value, axis.low), axis.high) for value in values]
        decades += 1
    axis = log_range(least, greatest)
    for count in range(min(rows // 2 + 1, 6), 0, -1):
        values = ticks(axis, count)
        if count == 1 or _least_gap(axis, values, rows, DOTS_DOWN) >= 2:
            break
    return axis, values


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
    """Return the labels of an axis' ticks, with as many decimals as tell them apart: all the same, unless `log`."""
    if not values:
        return []
    scaled = [value * 100 for value in values] if percent else list(values)
    size = max(map(abs, scaled))
    step = min(map(abs, scaled)) if log else min((b - a for a, b in itertools.pairwise(scaled)), default=size)
    if size >= 1e5 or (step < 1e-4 if log else size < 1e-3):
        return [_exponent(value, step) for value in scaled]
    most = 4 if log else max(4, math.ceil(-math.log10(step)) if step > 0 else 4)
    needed = [next((n for n in range(most) if abs(value - round(value, n)) <= 0.01 * step), most) for value in scaled]
    if not log:
        needed = [max(needed)] * len(needed)
    sign = "%" if percent else ""
    return [f"{value:.{decimals}f}{sign}" for value, decimals in zip(scaled, needed, strict=True)]


@functools.lru_cache(maxsize=32)
def x_ticks(axis: Range, columns: int, first: int = 0) -> Sequence[tuple[float, str, int]]:
    """Return as many ticks as have room below a canvas of `columns`: value, label, and the column where that begins.

    Labels are centred below their values as far as the edges allow it, and always reach below them; what would have to
    begin before the column `first` for that is left out. Between two there are always at least three cells.
    """
    for most in range(min(columns // 6 + 1, 20), 0, -1):
        values = ticks(axis, most)
        labels = format_ticks(values, log=axis.log)
        places = axis.dots(np.array(values), columns * DOTS_ACROSS) // DOTS_ACROSS
        found = [
            (value, label, min(max(place - len(label) // 2, first, 0), columns - len(label)))
            for value, label, place in zip(values, labels, places.tolist(), strict=True)
            if place >= first and len(label) <= columns
        ]
        if found and all(a[2] + len(a[1]) + 3 <= b[2] for a, b in itertools.pairwise(found)) and found[0][2] >= first:
            return tuple(found)
    return []


def _least_gap(axis: Range, values: Sequence[float], cells: int, dots: int) -> int:
    places = axis.dots(np.array(values), cells * dots) // dots
    return int(np.diff(places).min(initial=cells))


def _exponent(value: float, step: float = math.inf) -> str:
    """Return `value` as 1.2e-5, with as many digits as tell it from a neighbour that is `step` away."""
    digits = next(n for n in range(1, 10) if n == 9 or abs(float(f"{value:.{n}e}") - value) < 0.01 * step)
    mantissa, exponent = f"{value:.{digits}e}".split("e")
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
