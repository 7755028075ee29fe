"""From pixels to character cells. A half block is two square pixels, one above the other."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from rich.color import Color
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from engine.pictures import reduce_by

Image = npt.NDArray[np.uint8]
_RAMP = " .:-=+*#%@"  # from empty to full
_FOR, _AGAINST = (230, 159, 0), (86, 180, 233)  # as the plots: Okabe and Ito's orange and sky blue
_STRONG = 0.5  # of the largest magnitude: marked where there are no colours


class Fit(NamedTuple):
    """An image in cells: enlarged (`factor` > 0) or reduced (`factor` < 0) by a whole factor; 1 leaves it."""

    factor: int
    width: int
    height: int

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels, before cells round the height up."""
        return self.height, self.width


def fit(shape: tuple[int, ...], cells_wide: int, cells_high: int) -> Fit:
    """Return how an image of `shape` (height, width, ...) fits best into so many cells; sizes in square pixels."""
    height, width = shape[:2]
    room_wide, room_high = max(cells_wide, 1), max(cells_high, 1) * 2
    larger = min(room_wide // width, room_high // height)
    if larger >= 1:
        return Fit(larger, width * larger, height * larger)
    smaller = max(-(-width // room_wide), -(-height // room_high))
    return Fit(-smaller, -(-width // smaller), -(-height // smaller))


def scaled(image: Image, factor: int) -> Image:
    """Return `image` enlarged by a whole factor, pixel by pixel, or reduced by means over squares (see `Fit`)."""
    if factor > 0:
        return image.repeat(factor, 0).repeat(factor, 1)
    return reduce_by(image, -factor)


def coloured(image: Image, overlay: npt.NDArray[np.float32] | None) -> Image:
    """Return `image`, uint8 `[H, W, 1 or 3]`, in RGB; with `overlay` in grey, tinted by it (-1 to 1)."""
    if overlay is None:
        return image if image.shape[2] == 3 else image.repeat(3, 2)
    grey = image.mean(2, keepdims=True) * 0.6
    strength = np.abs(overlay)[:, :, None] * 0.8
    tint = np.where(overlay[:, :, None] > 0, np.array(_FOR), np.array(_AGAINST))
    return np.asarray(np.rint(grey * (1 - strength) + tint * strength), dtype=np.uint8)


def resampled(overlay: npt.NDArray[np.float32], height: int, width: int) -> npt.NDArray[np.float32]:
    """Return `overlay` on an image of another size: the value nearest to each pixel's centre."""
    rows = (np.arange(height) * 2 + 1) * overlay.shape[0] // (2 * height)
    columns = (np.arange(width) * 2 + 1) * overlay.shape[1] // (2 * width)
    return np.asarray(overlay[rows][:, columns])


def strips(
    image: Image,
    cells_wide: int,
    cells_high: int,
    *,
    ascii: bool = False,  # noqa: A002
    dark: bool = True,
    background: tuple[int, int, int] = (0, 0, 0),
    overlay: npt.NDArray[np.float32] | None = None,
) -> list[Strip]:
    """Return `image`, uint8 `[H, W, 1 or 3]`, as `cells_high` lines of `cells_wide` cells, in their middle.

    Around it is `background`. With `ascii` cells are shades, of light on a `dark` terminal or the other way round; then
    what speaks strongly for the class in `overlay` (`[h, w]`, -1 to 1) is in reverse, what speaks against underlined.
    """
    found = fit(image.shape, cells_wide, cells_high)
    shown = scaled(image, found.factor)
    height, width = shown.shape[:2]
    lines = -(-height // 2)
    left, top = (cells_wide - width) // 2, (cells_high - lines) // 2
    map_ = None if overlay is None else resampled(overlay, height, width)
    drawn = _shades(shown, map_, dark) if ascii else _blocks(coloured(shown, map_), background)
    base = Style() if ascii else _style(background, background)
    empty = Strip([Segment(" " * cells_wide, base)], cells_wide)
    padded = []
    for line in drawn[:cells_high]:
        sides = [Segment(" " * left, base)] if left else []
        right = cells_wide - left - width
        padded.append(Strip([*sides, *line, *([Segment(" " * right, base)] if right else [])], cells_wide))
    return [*[empty] * top, *padded, *[empty] * (cells_high - top - len(padded))]


@lru_cache(maxsize=4096)
def _style(over: tuple[int, int, int], under: tuple[int, int, int]) -> Style:
    return Style(color=Color.from_rgb(*over), bgcolor=Color.from_rgb(*under))


def _blocks(rgb: Image, background: tuple[int, int, int]) -> list[list[Segment]]:
    """Return lines of half blocks; equal neighbours share a segment, so that plain areas cost few bytes."""
    if len(rgb) % 2:
        rgb = np.concatenate([rgb, np.full((1, *rgb.shape[1:]), background, dtype=np.uint8)])
    lines = []
    for over, under in zip(rgb[::2], rgb[1::2], strict=True):
        both = np.concatenate([over, under], axis=1)
        starts = np.flatnonzero(np.r_[True, (both[1:] != both[:-1]).any(1)])
        lengths = np.diff(np.r_[starts, len(both)])
        segments = []
        for (r1, g1, b1, r2, g2, b2), length in zip(both[starts].tolist(), lengths.tolist(), strict=True):
            upper, lower = (r1, g1, b1), (r2, g2, b2)
            # A space needs one colour only, and is the same in every font.
            segments.append(Segment((" " if upper == lower else "▀") * length, _style(upper, lower)))
        lines.append(segments)
    return lines


def _shades(image: Image, overlay: npt.NDArray[np.float32] | None, dark: bool) -> list[list[Segment]]:
    """Return lines of characters, each as dense as the two pixels that it stands for are light."""
    grey = image.mean(2)
    if len(grey) % 2:
        grey = np.concatenate([grey, grey[-1:]])
        overlay = None if overlay is None else np.concatenate([overlay, overlay[-1:]])
    pairs = grey.reshape(-1, 2, grey.shape[1]).mean(1)
    levels = np.rint(pairs / 255 * (len(_RAMP) - 1)).astype(int)
    if not dark:
        levels = len(_RAMP) - 1 - levels
    values = np.zeros_like(pairs) if overlay is None else overlay.reshape(-1, 2, grey.shape[1]).mean(1)
    signs = (values > _STRONG).astype(int) - (values < -_STRONG).astype(int)
    lines = []
    for row, marks in zip(levels, signs, strict=True):
        starts = np.flatnonzero(np.r_[True, marks[1:] != marks[:-1]])
        ends = np.r_[starts[1:], len(row)]
        lines.append(
            [
                Segment("".join(_RAMP[level] for level in row[start:end]), _MARKS[int(marks[start])])
                for start, end in zip(starts, ends, strict=True)
            ]
        )
    return lines


_MARKS = {0: Style(), 1: Style(reverse=True), -1: Style(underline=True)}
