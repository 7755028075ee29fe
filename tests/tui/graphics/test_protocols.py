"""Sixels and Kitty's images, read back as a terminal reads them."""

import re
from base64 import b64decode
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image as PillowImage
from rich.cells import cell_len
from rich.color import Color, ColorSystem
from rich.segment import Segment
from textual.strip import Strip

from finetui.tui.graphics.cells import CellSize
from finetui.tui.graphics.protocols import encode, kitty_deletion, kitty_id, kitty_image, kitty_lines, sixels_at

BACKGROUND = (10, 20, 30)
SIXELS = re.compile(r"#(\d+)(?:;2;(\d+);(\d+);(\d+))?|!(\d+)([?-~])|([?-~])|([$-])")


def sixel_pixels(data: str) -> np.ndarray:
    """Return what sixels show, in hundredths, int `[H, W, 3]`; -1 where they leave the ground as it is."""
    header = re.match(r'\x1bP[\d;]*q"1;1;(\d+);(\d+)', data)
    assert header is not None
    assert data.endswith("\x1b\\")
    width, height = int(header[1]), int(header[2])
    shown = np.full((-(-height // 6) * 6, width, 3), -1)
    palette: dict[int, tuple[int, ...]] = {}
    band = column = colour = 0
    for match in SIXELS.finditer(data[header.end() : -2]):
        number, *parts, count, repeated, single, move = match.groups()
        if number is not None:
            colour = int(number)
            if parts[0] is not None:
                palette[colour] = tuple(int(part) for part in parts)
        elif move == "$":
            column = 0
        elif move == "-":
            band, column = band + 6, 0
        else:
            bits, length = ord(repeated or single) - 63, int(count or 1)
            for row in range(6):
                if bits >> row & 1:
                    shown[band + row, column : column + length] = palette[colour]
            column += length
    return shown[:height]


def kitty_pixels(data: str) -> tuple[dict[str, str], np.ndarray]:
    """Return the keys of the first message, and the image that all messages carry."""
    messages = re.findall(r"\x1b_G([^;\x1b]*);([^\x1b]*)\x1b\\", data)
    assert "".join(f"\x1b_G{keys};{payload}\x1b\\" for keys, payload in messages) == data
    parsed = [dict(pair.split("=") for pair in keys.split(",")) for keys, _ in messages]
    assert [keys["m"] for keys in parsed] == ["1"] * (len(parsed) - 1) + ["0"]
    assert all(len(payload) <= 4096 for _, payload in messages)
    image = PillowImage.open(BytesIO(b64decode("".join(payload for _, payload in messages))))
    return parsed[0], np.asarray(image)


def expected(image: np.ndarray, factor: int, cells: tuple[int, int], cell: CellSize) -> np.ndarray:
    rgb = image.repeat(factor, 0).repeat(factor, 1)
    rgb = rgb if rgb.shape[2] == 3 else rgb.repeat(3, 2)
    whole = np.empty((cells[1] * cell.height, cells[0] * cell.width, 3), np.uint8)
    whole[:] = BACKGROUND
    top, left = (whole.shape[0] - rgb.shape[0]) // 2, (whole.shape[1] - rgb.shape[1]) // 2
    whole[top : top + rgb.shape[0], left : left + rgb.shape[1]] = rgb
    return whole


images = st.tuples(st.integers(1, 7), st.integers(1, 7), st.sampled_from((1, 3))).flatmap(
    lambda shape: arrays(np.uint8, shape)
)
cells = st.builds(CellSize, st.integers(4, 9), st.integers(8, 19))


@settings(max_examples=40, deadline=None)
@given(image=images, wide=st.integers(2, 9), high=st.integers(1, 5), cell=cells)
@pytest.mark.parametrize("mode", ["sixel", "kitty"])
def test_graphics_show_the_image_enlarged_by_a_whole_factor_in_whole_cells(mode, image, wide, high, cell) -> None:
    placed = encode(image, None, mode=mode, room=(wide, high), cell=cell, background=BACKGROUND)
    factor = min(wide * cell.width // image.shape[1], high * cell.height // image.shape[0])
    assert placed.wide == -(-image.shape[1] * factor // cell.width) <= wide
    assert placed.high == -(-image.shape[0] * factor // cell.height) <= high
    truth = expected(image, factor, (placed.wide, placed.high), cell)
    if mode == "sixel":
        shown = sixel_pixels(placed.data)
        assert shown.shape == truth.shape
        assert np.abs(shown - truth / 2.55).max() <= 0.51
    else:
        _, shown = kitty_pixels(kitty_image(placed, kitty_id(0, "truecolor")))
        assert np.array_equal(shown, truth)


def test_a_large_image_is_reduced_by_means() -> None:
    image = np.zeros((100, 40, 1), np.uint8)
    image[::2] = 200
    placed = encode(image, None, mode="kitty", room=(10, 2), cell=CellSize(5, 10), background=BACKGROUND)
    _, shown = kitty_pixels(kitty_image(placed, kitty_id(0, "truecolor")))
    assert (placed.wide, placed.high) == (2, 2)  # 8 x 20 pixels: a fifth
    assert set(shown[:, 1:-1, 0].ravel()) <= {80, 120}
    assert shown.shape == (20, 10, 3)


def test_an_overlay_tints_what_graphics_show() -> None:
    overlay = np.array([[1.0, 0.0, -1.0]], np.float32)
    image = np.full((1, 3, 1), 100, np.uint8)
    placed = encode(image, overlay, mode="kitty", room=(3, 1), cell=CellSize(4, 4), background=BACKGROUND)
    _, shown = kitty_pixels(kitty_image(placed, kitty_id(0, "truecolor")))
    left, middle, right = (shown[1, x].astype(int) for x in (1, 5, 10))
    assert left[0] > left[2] + 50
    assert right[2] > right[0] + 50
    assert middle.max() == middle.min()


def test_sixels_are_drawn_at_their_cell_and_the_cursor_comes_back() -> None:
    placed = encode(
        np.zeros((2, 2, 1), np.uint8), None, mode="sixel", room=(2, 1), cell=CellSize(5, 10), background=BACKGROUND
    )
    drawn = sixels_at(placed, 7, 3)
    assert drawn.startswith("\x1b7\x1b[4;8H\x1bP")
    assert drawn.endswith("\x1b\\\x1b8")


@pytest.mark.parametrize("system", ["truecolor", "256"])
def test_the_cells_name_the_image_that_was_sent(system: str) -> None:
    seen = set()
    placed = encode(
        np.eye(9, dtype=np.uint8), None, mode="kitty", room=(9, 3), cell=CellSize(5, 9), background=BACKGROUND
    )
    for turn in range(150):
        known_as = kitty_id(turn, system)
        keys, _ = kitty_pixels(kitty_image(placed, known_as))
        assert (keys["a"], keys["U"], keys["c"], keys["r"], keys["q"]) == (
            "T",
            "1",
            str(placed.wide),
            str(placed.high),
            "2",
        )
        colour = kitty_lines(placed, known_as, BACKGROUND)[0][0].style.color
        if system == "truecolor":
            red, green, blue = colour.triplet
            shown = red << 16 | green << 8 | blue
        else:
            shown = colour.downgrade(ColorSystem.EIGHT_BIT).number
        assert shown == known_as.number == int(keys["i"])
        assert f"i={shown}," in kitty_deletion(known_as)
        seen.add(shown)
    assert len(seen) == 150
    assert Color.parse("red")  # the identities are colours


def test_each_cell_says_which_part_it_shows_however_a_line_is_cut() -> None:
    placed = encode(
        np.eye(40, dtype=np.uint8), None, mode="kitty", room=(30, 15), cell=CellSize(5, 10), background=BACKGROUND
    )
    lines = kitty_lines(placed, kitty_id(5, "truecolor"), BACKGROUND)
    assert len(lines) == placed.high
    found = set()
    for line in lines:
        strip = Strip(line)
        assert strip.cell_length == placed.wide
        for piece in (*strip.divide([3, 8, placed.wide]), strip.crop(2, 7)):
            assert piece.cell_length == sum(cell_len(segment.text) for segment in piece)
            for segment in piece:
                assert segment.text[0] == "\U0010eeee"
                assert len(segment.text) == 3
        found |= {segment.text[1:] for segment in line}
    assert len(found) == placed.wide * placed.high
    assert [ord(char) for char in lines[0][0].text[1:]] == [0x305, 0x305]
    assert [ord(char) for char in lines[2][1].text[1:]] == [0x30E, 0x30D]
    assert isinstance(lines[0][0], Segment)
