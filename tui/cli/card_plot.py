"""Curves as SVG."""

from collections.abc import Callable, Iterator

import numpy as np

from finetui.tui.cli.card_facts import Plot
from finetui.tui.colours.palettes import palette
from finetui.tui.state.curves import Floats
from finetui.tui.widgets.plot_axes import Range, format_ticks, ticks, x_range, y_axis

_WIDTH, _HEIGHT = 420, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 12, 28, 24
_ROWS = 8  # for which the ticks of the y axis are chosen
_PALETTE = palette("truecolor", dark=False)
_COLOURS = (_PALETTE["train-curve"], _PALETTE["evaluation-curve"])
_MOST_POINTS = 500


def svg(plot: Plot, text: Callable[[str], str]) -> str:
    """Return `plot` as an SVG element; `text` escapes words."""
    return "".join(_parts(plot, text))


def _parts(plot: Plot, text: Callable[[str], str]) -> Iterator[str]:
    curves = [(name, *_thinned(x, y)) for name, x, y in plot.curves]
    across = x_range(0.0, max(float(x[-1]) for _, x, _ in curves), 0.0)
    up, marks = y_axis([(x, y) for _, x, y in curves], _ROWS, percent=plot.percent)
    yield f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" role="img" font-size="11">'
    yield f'<text x="{_LEFT}" y="16" font-size="13" fill="currentColor">{text(plot.title)}</text>'
    for value, label in marks:
        y = _down(up, np.array([value]))[0]
        yield f'<path d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}" stroke="currentColor" stroke-opacity=".15"/>'
        yield _label(_LEFT - 6, y + 4, "end", text(label.strip()))
    places = ticks(across, 6)
    for value, label in zip(places, format_ticks(places), strict=True):
        x = _right(across, np.array([value]))[0]
        yield _label(x, _HEIGHT - 6, "middle", text(label.strip()))
    for number, (name, x, y) in enumerate(curves):
        colour = _COLOURS[number % len(_COLOURS)]
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(_right(across, x), _down(up, y), strict=True))
        yield f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.6"/>'
        if len(x) == 1:
            yield f'<circle cx="{_right(across, x)[0]:.1f}" cy="{_down(up, y)[0]:.1f}" r="3" fill="{colour}"/>'
        place = _WIDTH - _RIGHT - 60 * (len(curves) - number - 1)
        yield f'<text x="{place}" y="16" text-anchor="end" fill="{colour}">{text(name)}</text>'
    yield "</svg>"


def _label(x: float, y: float, anchor: str, words: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="currentColor">{words}</text>'


def _right(axis: Range, x: Floats) -> Floats:
    return np.asarray(_LEFT + np.clip(axis.fraction(x), 0, 1) * (_WIDTH - _LEFT - _RIGHT), dtype=np.float64)


def _down(axis: Range, y: Floats) -> Floats:
    return np.asarray(
        _HEIGHT - _BOTTOM - np.clip(axis.fraction(y), 0, 1) * (_HEIGHT - _TOP - _BOTTOM), dtype=np.float64
    )


def _thinned(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Return every so many points, the last one among them: no more than a screen shows."""
    step = -(-len(x) // _MOST_POINTS)
    return x[::-1][::step][::-1], y[::-1][::step][::-1]
