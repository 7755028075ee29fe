"""Images for terminals that draw pixels: Sixel, and Kitty's protocol with its placeholder cells.

Both take an image that fills whole cells, so that nothing is left for the terminal to scale. Of textual-image only the
Sixel encoder is used: its widgets and renderables ask the terminal when they are imported, which takes keys from
Textual, and send Kitty's images past Textual's own writer.
"""

from base64 import b64encode
from io import BytesIO
from typing import Literal, NamedTuple

import numpy as np
from rich.color import Color, ColorSystem
from rich.color_triplet import ColorTriplet
from rich.segment import Segment
from rich.style import Style

from finetui.tui.colours.palettes import Rgb
from finetui.tui.graphics.cells import CellSize, Fit, Image, Overlay, coloured, fit, scaled, with_channels

_PALETTE = 256  # colours that Sixel terminals have at a time
_PLACEHOLDER = "\U0010eeee"
_CHUNK = 4096  # characters of base64 in one message, by the protocol
# Kitty's rowcolumn-diacritics.txt: the combining character that stands for row or column n is the n-th of these.
_SPANS = (
    "305 30D-30E 310 312 33D-33F 346 34A-34C 350-352 357 35B 363-36F 483-487 592-595 597-599 59C-5A1 5A8-5A9 "
    "5AB-5AC 5AF 5C4 610-617 657-65B 65D-65E 6D6-6DC 6DF-6E2 6E4 6E7-6E8 6EB-6EC 730 732-733 735-736 73A 73D "
    "73F-741 743 745 747 749-74A 7EB-7F1 7F3 816-819 81B-823 825-827 829-82D 951 953-954 F82-F83 F86-F87 "
    "135D-135F 17DD 193A 1A17 1A75-1A7C 1B6B 1B6D-1B73 1CD0-1CD2 1CDA-1CDB 1CE0 1DC0-1DC1 1DC3-1DC9 1DCB-1DCC "
    "1DD1-1DE6 1DFE 20D0-20D1 20D4-20D7 20DB-20DC 20E1 20E7 20E9 20F0 2CEF-2CF1 2DE0-2DFF A66F A67C-A67D "
    "A6F0-A6F1 A8E0-A8F1 AAB0 AAB2-AAB3 AAB7-AAB8 AABE-AABF AAC1 FE20-FE26 10A0F 10A38 1D185-1D189 "
    "1D1AA-1D1AD 1D242-1D244"
)
_DIACRITICS = [
    chr(code)
    for first, _, last in (span.partition("-") for span in _SPANS.split())
    for code in range(int(first, 16), int(last or first, 16) + 1)
]
_MOST_CELLS = len(_DIACRITICS)


class Placed(NamedTuple):
    """An image as a terminal takes it, and the cells that it fills."""

    data: str  # sixels, or a PNG file in base64
    wide: int
    high: int


def encode(
    image: Image,
    overlay: Overlay | None,
    *,
    mode: Literal["sixel", "kitty"],
    room: tuple[int, int],
    cell: CellSize,
    background: Rgb,
) -> Placed:
    """Return `image`, uint8 `[H, W]` or `[H, W, 1 or 3]`, as large as it fits into `room` (cells wide and high).

    This takes up to a tenth of a second: it is work for a thread.
    """
    from PIL import Image as PillowImage

    room = min(room[0], _MOST_CELLS), min(room[1], _MOST_CELLS)
    image = with_channels(image)
    found = fit(image.shape, *room, cell)
    pixels = canvas(image, overlay, found, cell, background)
    if mode == "kitty":
        file = BytesIO()
        PillowImage.fromarray(pixels).save(file, "png", compress_level=1)
        data = b64encode(file.getvalue()).decode("ascii")
    else:
        data = _sixels(pixels)
    return Placed(data, found.cells_wide, found.cells_high)


def _sixels(pixels: Image) -> str:
    from PIL import Image as PillowImage
    from textual_image._sixel import image_to_sixels

    packed = pixels.astype(np.int64) @ (1 << 16, 1 << 8, 1)
    colours, places = np.unique(packed, return_inverse=True)
    if len(colours) > _PALETTE:
        return image_to_sixels(PillowImage.fromarray(pixels))
    # Few enough colours to be exact: reducing them would change even these.
    indices = PillowImage.fromarray(places.reshape(packed.shape).astype(np.uint8)).convert("P")
    indices.putpalette(np.stack([colours >> 16, colours >> 8 & 255, colours & 255], 1).astype(np.uint8).tobytes())
    return image_to_sixels(indices)


def canvas(image: Image, overlay: Overlay | None, found: Fit, cell: CellSize, background: Rgb) -> Image:
    """Return `image` as `found` says in the middle of its whole cells, uint8 `[H, W, 3]`; `background` around it."""
    shown = scaled(coloured(image, overlay), found.factor)
    high, wide = found.cells_high * cell.height, found.cells_wide * cell.width
    whole = np.empty((high, wide, 3), dtype=np.uint8)
    whole[:] = background
    top, left = (high - found.height) // 2, (wide - found.width) // 2
    whole[top : top + found.height, left : left + found.width] = shown
    return whole


def sixels_at(placed: Placed, column: int, row: int) -> str:
    """Return what draws `placed` with its upper left corner at a cell (0, 0 is the first), the cursor left in place."""
    return f"\x1b7\x1b[{row + 1};{column + 1}H{placed.data}\x1b8"


class KittyId(NamedTuple):
    """A number that the terminal knows an image by: the colour of the cells that it is shown in."""

    number: int
    colour: ColorTriplet


def _cube(number: int) -> ColorTriplet:
    level = (0, 95, 135, 175, 215, 255)
    return ColorTriplet(level[number // 36], level[number // 6 % 6], level[number % 6])


# Colours of the 256 colour palette that come through unharmed where Rich reduces colours to it.
_ID_COLOURS = [
    16 + number
    for number in range(216)
    if Color.from_triplet(_cube(number)).downgrade(ColorSystem.EIGHT_BIT).number == 16 + number
]


def kitty_id(turn: int, color_system: str | None) -> KittyId:
    """Return the identity of image number `turn`; it comes back after some two hundred others."""
    number = _ID_COLOURS[turn % len(_ID_COLOURS)]
    colour = _cube(number - 16)
    if color_system == "truecolor":
        number = colour.red << 16 | colour.green << 8 | colour.blue
    return KittyId(number, colour)


def kitty_image(placed: Placed, known_as: KittyId) -> str:
    """Return what gives the terminal `placed`, to be shown where `kitty_lines` are; the terminal answers nothing."""
    chunks = [placed.data[start : start + _CHUNK] for start in range(0, len(placed.data), _CHUNK)]
    messages = []
    for index, chunk in enumerate(chunks):
        more = int(index < len(chunks) - 1)
        keys = f"a=T,U=1,i={known_as.number},c={placed.wide},r={placed.high},f=100,q=2,m={more}"
        messages.append(f"\x1b_G{f'm={more},q=2' if index else keys};{chunk}\x1b\\")
    return "".join(messages)


def kitty_deletion(known_as: KittyId) -> str:
    """Return what makes the terminal forget an image."""
    return f"\x1b_Ga=d,d=I,i={known_as.number},q=2\x1b\\"


def kitty_lines(placed: Placed, known_as: KittyId, background: Rgb) -> list[list[Segment]]:
    """Return the cells that show an image: ordinary text, that is moved, covered and wiped out like any other."""
    style = Style(color=Color.from_triplet(known_as.colour), bgcolor=Color.from_rgb(*background))
    # One segment a cell: cut anywhere, each cell still says which part of the image it shows.
    return [
        [Segment(_PLACEHOLDER + _DIACRITICS[row] + _DIACRITICS[column], style) for column in range(placed.wide)]
        for row in range(placed.high)
    ]
