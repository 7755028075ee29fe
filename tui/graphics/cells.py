"""From pixels to character cells. A half block is two square pixels, one above the other."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from rich.color import Color
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from finetui.engine.predictions.images import reduce_by
from finetui.tui.colours.depth import Depth
from finetui.tui.colours.palettes import Rgb, palette, rgb
from finetui.tui.graphics.reduced import reduced, tinted

Image = npt.NDArray[np.uint8]
Overlay = npt.NDArray[np.float32]

_RAMP = np.array([ord(char) for char in " .:-=+*#%@"], dtype=np.uint32)  # from empty to full
_FOR, _AGAINST = (rgb(palette("truecolor", dark=True)[role]) for role in ("for", "against"))
_STRONG = 0.5  # of the largest magnitude: marked where there are no colours


class CellSize(NamedTuple):
    """A character cell in pixels."""

    width: int
    height: int


HALF_BLOCKS = CellSize(1, 2)


class Fit(NamedTuple):
    """An image in cells: enlarged (`factor` > 0) or reduced (`factor` < 0) by a whole factor; 1 leaves it."""

    factor: int
    width: int  # in pixels
    height: int
    cells_wide: int
    cells_high: int


def fit(shape: tuple[int, ...], cells_wide: int, cells_high: int, cell: CellSize = HALF_BLOCKS) -> Fit:
    """Return how an image of `shape` (height, width, ...; none of them 0) fits best into so many cells."""
    height, width = shape[:2]
    room_wide, room_high = max(cells_wide, 1) * cell.width, max(cells_high, 1) * cell.height
    factor = min(room_wide // width, room_high // height)
    if factor >= 1:
        width, height = width * factor, height * factor
    else:
        factor = -max(-(-width // room_wide), -(-height // room_high))
        width, height = -(-width // -factor), -(-height // -factor)
    return Fit(factor, width, height, -(-width // cell.width), -(-height // cell.height))


def scaled(image: Image, factor: int) -> Image:
    """Return `image` enlarged by a whole factor, pixel by pixel, or reduced by means over squares (see `Fit`)."""
    if factor == 1:
        return image
    if factor > 0:
        return image.repeat(factor, 0).repeat(factor, 1)
    return reduce_by(image, -factor)


def coloured(image: Image, overlay: Overlay | None) -> Image:
    """Return `image`, uint8 `[H, W, 1 or 3]`, in RGB; with `overlay` (`[h, w]`, -1 to 1) in grey, tinted by it."""
    if overlay is None:
        return image if image.shape[2] == 3 else image.repeat(3, 2)
    values = resampled(overlay, *image.shape[:2])[:, :, None]
    grey = image.mean(2, keepdims=True) * 0.6
    strength = np.minimum(np.abs(values), 1) * 0.8
    tint = np.where(values > 0, np.array(_FOR), np.array(_AGAINST))
    return np.asarray(np.rint(grey * (1 - strength) + tint * strength), dtype=np.uint8)


def _tinted(image: Image, overlay: Overlay) -> Image:
    return tinted(image.mean(2), resampled(overlay, *image.shape[:2]))


def resampled(overlay: Overlay, height: int, width: int) -> Overlay:
    """Return `overlay` on an image of another size: the value nearest to each pixel's centre; NaN counts as 0."""
    rows = (np.arange(height) * 2 + 1) * overlay.shape[0] // (2 * height)
    columns = (np.arange(width) * 2 + 1) * overlay.shape[1] // (2 * width)
    return np.asarray(np.nan_to_num(overlay[rows][:, columns]))


def with_channels(image: Image) -> Image:
    """Return `image`, uint8 `[H, W]` or `[H, W, 1 or 3]`, as `[H, W, C]`."""
    return image[:, :, None] if image.ndim == 2 else image


def strips(
    image: Image,
    cells_wide: int,
    cells_high: int,
    *,
    ascii: bool = False,  # noqa: A002
    dark: bool = True,
    background: Rgb = (0, 0, 0),
    overlay: Overlay | None = None,
    depth: Depth = "truecolor",
) -> list[Strip]:
    """Return `image`, uint8 `[H, W]` or `[H, W, 1 or 3]`, as `cells_high` lines of `cells_wide` cells, in their middle.

    Around it is `background`. With `ascii` cells are shades, of light on a `dark` theme or the other way round; then
    what speaks strongly for the class in `overlay` (`[h, w]`, -1 to 1) is in reverse, what speaks against underlined.
    Of 256 colours (`depth`) the nearest ones are chosen here: Rich would turn dark ones into navy.
    """
    image = with_channels(image)
    found = fit(image.shape, cells_wide, cells_high)
    base = _style((255, 255, 255) if dark else (0, 0, 0), background) if ascii else _style(background, background)
    if ascii:
        map_ = None if overlay is None else resampled(overlay, found.height, found.width)
        drawn = _shades(scaled(image, found.factor), map_, dark, base)
    else:
        whole = coloured(image, overlay) if depth != "256" or overlay is None else _tinted(image, overlay)
        whole = scaled(whole, found.factor)
        drawn = _blocks(reduced(whole) if depth == "256" else whole, background)
    return centred(drawn, found.cells_wide, cells_wide, cells_high, base)


def centred(
    lines: list[list[Segment]], wide: int, cells_wide: int, cells_high: int, style: Style | None
) -> list[Strip]:
    """Return `lines`, each `wide` cells, in the middle of empty cells in `style`."""
    left, top = (cells_wide - wide) // 2, (cells_high - len(lines)) // 2
    right = cells_wide - wide - left
    before = [Segment(" " * left, style)] if left else []
    after = [Segment(" " * right, style)] if right else []
    empty = Strip([Segment(" " * cells_wide, style)], cells_wide)
    padded = [Strip([*before, *line, *after], cells_wide) for line in lines]
    return [*[empty] * top, *padded, *[empty] * (cells_high - top - len(lines))]


@lru_cache(maxsize=8192)
def _colour(packed: int) -> Color:
    return Color.from_rgb(packed >> 16, packed >> 8 & 255, packed & 255)


@lru_cache(maxsize=65536)  # every pair of greys; a style is dearer than the cell that it colours
def _pair(packed: int) -> Style:
    return Style.from_color(_colour(packed >> 24), _colour(packed & 0xFFFFFF))


def _style(over: Rgb, under: Rgb) -> Style:
    return _pair(int.from_bytes(bytes((*over, *under))))


def _blocks(rgb: Image, background: Rgb) -> list[list[Segment]]:
    """Return lines of half blocks; equal neighbours share a segment, so that plain areas cost few bytes."""
    if len(rgb) % 2:
        rgb = np.concatenate([rgb, np.full((1, *rgb.shape[1:]), background, dtype=np.uint8)])
    width = rgb.shape[1]
    parts = rgb.astype(np.int64)
    colours = parts[:, :, 0] << 16 | parts[:, :, 1] << 8 | parts[:, :, 2]
    pairs = (colours[::2] << 24 | colours[1::2]).ravel()
    begins = np.empty(len(pairs), dtype=bool)
    np.not_equal(pairs[1:], pairs[:-1], out=begins[1:])
    begins[::width] = True
    starts = np.flatnonzero(begins)
    ends = [*starts[1:].tolist(), len(pairs)]
    lines: list[list[Segment]] = [[] for _ in range(len(rgb) // 2)]
    for pair, start, end in zip(pairs[starts].tolist(), starts.tolist(), ends, strict=True):
        # A space needs one colour only, and is the same in every font.
        char = " " if pair >> 24 == pair & 0xFFFFFF else "▀"
        lines[start // width].append(Segment(char * (end - start), _pair(pair)))
    return lines


def _shades(image: Image, overlay: Overlay | None, dark: bool, base: Style) -> list[list[Segment]]:
    """Return lines of characters, each as dense as the two pixels that it stands for are light."""
    grey = image.mean(2)
    if len(grey) % 2:
        grey = np.concatenate([grey, grey[-1:]])
        overlay = None if overlay is None else np.concatenate([overlay, overlay[-1:]])
    pairs = grey.reshape(-1, 2, grey.shape[1]).mean(1)
    levels = np.rint((pairs if dark else 255 - pairs) / 255 * (len(_RAMP) - 1)).astype(int)
    if overlay is None:
        return [[Segment("".join(map(chr, row)), base)] for row in _RAMP[levels].tolist()]
    values = overlay.reshape(-1, 2, grey.shape[1]).mean(1)
    signs = (values > _STRONG).astype(int) - (values < -_STRONG).astype(int)
    styles = {0: base, 1: base + Style(reverse=True), -1: base + Style(underline=True)}
    lines = []
    for row, marks in zip(_RAMP[levels], signs, strict=True):
        starts = np.flatnonzero(np.concatenate([[True], marks[1:] != marks[:-1]]))
        pieces = np.split(row, starts[1:])
        lines.append(
            [
                Segment("".join(map(chr, piece.tolist())), styles[int(marks[start])])
                for start, piece in zip(starts, pieces, strict=True)
            ]
        )
    return lines
