"""A plot as a picture for a paper or a page: SVG, or PNG by Pillow, from what is drawn in the terminal."""

import io
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Literal, Protocol
from xml.sax.saxutils import escape

import numpy as np

from finetui.tui.colours.palettes import palette
from finetui.tui.widgets import plot_geometry
from finetui.tui.widgets.plot_axes import DOTS_ACROSS, DOTS_DOWN, Floats, Range, format_value, x_ticks
from finetui.tui.widgets.plot_drawing import PlotContent, Plotter

WIDTH, HEIGHT = 1600, 900  # pixels
_LEFT, _RIGHT, _TOP, _BOTTOM = 110, 1570, 90, 820  # of the canvas
_ROWS, _COLUMNS = 20, 100  # beside which, and below which, ticks are chosen
_TEXT, _SMALL = 28, 24
_CURVES, _BANDS = (tuple(f"{name}-{kind}" for name in ("train", "evaluation", "third")) for kind in ("curve", "band"))
_COLOURS = palette("truecolor", dark=False)

Place = tuple[float, float]
Anchor = Literal["start", "middle", "end"]


class _Canvas(Protocol):
    def polygon(self, places: Sequence[Place], role: str) -> None: ...
    def line(self, places: Sequence[Place], role: str, width: float) -> None: ...
    def text(self, place: Place, text: str, role: str, *, size: int = _SMALL, anchor: Anchor = "start") -> None: ...


class _Svg:
    def __init__(self) -> None:
        self._parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif">',
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="{_COLOURS["background"]}"/>',
        ]

    def polygon(self, places: Sequence[Place], role: str) -> None:
        self._parts.append(f'<polygon points="{_listed(places)}" fill="{_COLOURS[role]}"/>')

    def line(self, places: Sequence[Place], role: str, width: float) -> None:
        style = f'fill="none" stroke="{_COLOURS[role]}" stroke-width="{width:g}" stroke-linejoin="round"'
        self._parts.append(f'<polyline points="{_listed(places)}" {style}/>')

    def text(self, place: Place, text: str, role: str, *, size: int = _SMALL, anchor: Anchor = "start") -> None:
        where = f'x="{place[0]:g}" y="{place[1]:g}" font-size="{size}" text-anchor="{anchor}"'
        self._parts.append(f'<text {where} dominant-baseline="middle" fill="{_COLOURS[role]}">{escape(text)}</text>')

    def content(self) -> bytes:
        return "\n".join([*self._parts, "</svg>\n"]).encode("utf-8", "replace")


class _Png:
    def __init__(self) -> None:
        from PIL import Image, ImageDraw

        self._image = Image.new("RGB", (WIDTH, HEIGHT), _COLOURS["background"])
        self._draw = ImageDraw.Draw(self._image)

    def polygon(self, places: Sequence[Place], role: str) -> None:
        self._draw.polygon(list(places), _COLOURS[role])

    def line(self, places: Sequence[Place], role: str, width: float) -> None:
        self._draw.line(list(places), _COLOURS[role], round(width), joint="curve")

    def text(self, place: Place, text: str, role: str, *, size: int = _SMALL, anchor: Anchor = "start") -> None:
        from PIL import ImageFont

        side = {"start": "lm", "middle": "mm", "end": "rm"}[anchor]
        self._draw.text(place, text, _COLOURS[role], ImageFont.load_default(size=size), anchor=side)

    def content(self) -> bytes:
        file = io.BytesIO()
        self._image.save(file, "PNG")
        return file.getvalue()


def svg(plotter: Plotter, content: PlotContent, title: str) -> bytes:
    """Return what `plotter` shows of `content` as an SVG document, under a title."""
    canvas = _Svg()
    _draw(canvas, plotter, content, title)
    return canvas.content()


def png(plotter: Plotter, content: PlotContent, title: str) -> bytes:
    """Return what `plotter` shows of `content` as a PNG file, under a title."""
    canvas = _Png()
    _draw(canvas, plotter, content, title)
    return canvas.content()


def _draw(canvas: _Canvas, plotter: Plotter, content: PlotContent, title: str) -> None:
    x_axis, y_axis, ticks, data = plotter.axes(content, _ROWS)
    _draw_axes(canvas, x_axis, y_axis, ticks, content.x_label)
    canvas.text((_LEFT, 44), title, "foreground", size=_TEXT)
    for number, (place, text) in enumerate(mark for mark in content.marks if x_axis.low <= mark[0] <= x_axis.high):
        across = _x(x_axis, place)
        canvas.line([(across, _TOP), (across, _BOTTOM)], "plot-mark", 1)
        canvas.text((across + 6, _TOP + 16 + 28 * (number % 4)), text, "plot-axis", size=20)
    axes, size = (x_axis, y_axis), ((_RIGHT - _LEFT) // DOTS_ACROSS, (_BOTTOM - _TOP) // DOTS_DOWN)
    lines = plotter.lines(content, data, axes, size)
    for (_, banded), style, (x, y) in zip(lines, plotter.series, data, strict=True):
        if banded:
            span, low, high = plot_geometry.envelope(x, y, axes, size)
            edge = [_pixel(dot) for dot in zip(span.tolist(), high.tolist(), strict=True)]
            back = [_pixel(dot) for dot in zip(span.tolist(), (low - 1).tolist(), strict=True)]
            canvas.polygon([*edge, *reversed(back)], _BANDS[style.look])
    for (dots, _), style in zip(lines, plotter.series, strict=True):
        for piece in _in_sight(dots):
            canvas.line([_pixel(dot) for dot in piece], _CURVES[style.look], 3)
        for across, up in (_pixel(dot) for dot in dots if style.points and _is_inside(dot)):
            diamond = [(across - 8, up), (across, up - 8), (across + 8, up), (across, up + 8)]
            canvas.polygon(diamond, _CURVES[style.look])
    best = plotter.best(content, axes)
    if best is not None:
        across, up = _x(x_axis, best[0]), _BOTTOM - float(y_axis.fraction(_array(best[1]))[0]) * (_BOTTOM - _TOP)
        canvas.polygon(_star(across, up), _CURVES[plotter.series[-1].look])
    _draw_legend(canvas, plotter, content)


def _draw_axes(canvas: _Canvas, x_axis: Range, y_axis: Range, ticks: Sequence[tuple[float, str]], label: str) -> None:
    for value, text in ticks:
        up = _BOTTOM - float(y_axis.fraction(_array(value))[0]) * (_BOTTOM - _TOP)
        canvas.line([(_LEFT, up), (_RIGHT, up)], "panel", 1)
        canvas.text((_LEFT - 12, up), text, "plot-axis", anchor="end")
    for value, text, _ in x_ticks(x_axis, _COLUMNS):
        across = _x(x_axis, value)
        canvas.line([(across, _BOTTOM), (across, _BOTTOM + 8)], "plot-axis", 1)
        canvas.text((across, _BOTTOM + 28), text, "plot-axis", anchor="middle")
    canvas.line([(_LEFT, _TOP), (_LEFT, _BOTTOM), (_RIGHT, _BOTTOM)], "plot-axis", 2)
    canvas.text(((_LEFT + _RIGHT) / 2, _BOTTOM + 60), label, "plot-axis", anchor="middle")


def _draw_legend(canvas: _Canvas, plotter: Plotter, content: PlotContent) -> None:
    right = float(_RIGHT)
    for index in reversed(range(len(plotter.series))):
        style = plotter.series[index]
        value = format_value(plotter.value(content, index), percent=plotter.percent).strip()
        text = f"{style.name} {value}".strip()
        canvas.text((right, 44), text, _CURVES[style.look], anchor="end")
        right -= 12.5 * len(text) + 8
        canvas.line([(right - 36, 44), (right - 6, 44)], _CURVES[style.look], 4)
        right -= 60


def _star(x: float, y: float) -> list[Place]:
    sizes = (18.0, 8.0) * 5
    turns = [math.pi * (corner / 5 - 0.5) for corner in range(10)]
    return [(x + size * math.cos(turn), y + size * math.sin(turn)) for size, turn in zip(sizes, turns, strict=True)]


def _array(value: float) -> Floats:
    return np.array([value])


def _x(axis: Range, x: float) -> float:
    return _LEFT + float(axis.fraction(_array(x))[0]) * (_RIGHT - _LEFT)


def _is_inside(dot: tuple[int, int]) -> bool:
    return 0 <= dot[1] <= _BOTTOM - _TOP


def _in_sight(dots: plot_geometry.Dots) -> Iterator[plot_geometry.Dots]:
    """Yield the pieces of a line that are within the canvas, each from and to where it crosses an edge."""
    piece: list[tuple[int, int]] = []
    for before, after in itertools.pairwise(dots):
        if _is_inside(before) or _is_inside(after):
            piece = piece or [before]
            piece.append(after)
        elif piece:
            yield tuple(piece)
            piece = []
    if piece:
        yield tuple(piece)


def _pixel(dot: tuple[int, int]) -> Place:
    return _LEFT + dot[0], min(max(_BOTTOM - dot[1], _TOP), _BOTTOM)


def _listed(places: Sequence[Place]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in places)
