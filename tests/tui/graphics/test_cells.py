"""From pixels to cells and back."""

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra.numpy import arrays
from textual.strip import Strip

from finetui.tui.graphics import fit, strips

BACKGROUND = (1, 2, 3)


def pixels_of(lines: list[Strip]) -> np.ndarray:
    """Return what half blocks show, uint8 `[2 x lines, cells, 3]`."""
    rows = []
    for line in lines:
        upper, lower = [], []
        for segment in line:
            assert segment.style is not None
            assert segment.style.color is not None
            assert segment.style.bgcolor is not None
            under = tuple(segment.style.bgcolor.triplet)
            for char in segment.text:
                assert char in " ▀"
                upper.append(under if char == " " else tuple(segment.style.color.triplet))
                lower.append(under)
        rows += [upper, lower]
    return np.array(rows, dtype=np.uint8)


images = st.tuples(st.integers(1, 9), st.integers(1, 9), st.sampled_from((1, 3))).flatmap(
    lambda shape: arrays(np.uint8, shape)
)


@given(image=images, wide=st.integers(1, 40), high=st.integers(1, 20))
def test_what_half_blocks_show_is_the_image_enlarged_or_reduced_by_a_whole_factor(image, wide: int, high: int) -> None:
    found = fit(image.shape, wide, high)
    shown = pixels_of(strips(image, wide, high, background=BACKGROUND))
    assert shown.shape == (2 * high, wide, 3)
    top, left = (high - -(-found.height // 2)) // 2 * 2, (wide - found.width) // 2
    inside = shown[top : top + found.height, left : left + found.width]
    rgb = image if image.shape[2] == 3 else image.repeat(3, 2)
    if found.factor > 0:
        assert np.array_equal(inside, rgb.repeat(found.factor, 0).repeat(found.factor, 1))
    else:
        for y, x in np.ndindex(found.height, found.width):
            f = -found.factor
            square = rgb[y * f : (y + 1) * f, x * f : (x + 1) * f].reshape(-1, 3).astype(float)
            assert np.abs(inside[y, x] - square.mean(0)).max() <= 0.51
    outside = shown.copy()
    outside[top : top + found.height, left : left + found.width] = BACKGROUND
    assert (outside == BACKGROUND).all()


@given(height=st.integers(1, 500), width=st.integers(1, 500), wide=st.integers(1, 200), high=st.integers(1, 100))
def test_the_aspect_is_kept_and_nothing_larger_would_fit(height: int, width: int, wide: int, high: int) -> None:
    found = fit((height, width), wide, high)
    assert found.width <= wide
    assert found.height <= 2 * high
    if found.factor > 0:
        assert (found.width, found.height) == (width * found.factor, height * found.factor)
        assert width * (found.factor + 1) > wide or height * (found.factor + 1) > 2 * high
    else:
        assert (found.width, found.height) == (-(-width // -found.factor), -(-height // -found.factor))
        less = -found.factor - 1
        assert less == 0 or -(-width // less) > wide or -(-height // less) > 2 * high


def test_equal_cells_share_a_segment() -> None:
    plain = np.zeros((28, 28, 1), np.uint8)
    assert all(len(list(line)) <= 3 for line in strips(plain, 40, 20))


def text_of(lines: list[Strip]) -> list[str]:
    return [line.text for line in lines]


@pytest.mark.parametrize("dark", [True, False])
def test_shades_grow_with_the_light_on_a_dark_ground_and_with_the_dark_on_a_light_one(dark: bool) -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(1, 256, 1).repeat(2, 0)
    (line,) = text_of(strips(ramp, 256, 1, ascii=True, dark=dark))
    weights = [" .:-=+*#%@".index(char) for char in line]
    assert weights == sorted(weights, reverse=not dark)
    assert set(weights) == set(range(10))


def test_shades_stand_for_two_pixels_one_above_the_other() -> None:
    image = np.array([[255, 0, 255], [255, 0, 0]], np.uint8)[:, :, None]
    (line,) = text_of(strips(image, 3, 1, ascii=True))
    assert line[0] == "@"
    assert line[1] == " "
    assert line[2] not in "@ "


def test_an_overlay_is_seen_with_colours_and_without() -> None:
    image = np.full((4, 6, 1), 128, np.uint8)
    overlay = np.zeros((2, 3), np.float32)
    overlay[0, 0], overlay[1, 2] = 1.0, -1.0
    shown = pixels_of(strips(image, 6, 2, overlay=overlay)).astype(int)
    assert (shown[:2, :2, 0] > shown[:2, :2, 2]).all()  # orange speaks for it
    assert (shown[2:, 4:, 2] > shown[2:, 4:, 0]).all()  # blue against it
    neutral = shown[:2, 2:4]
    assert (neutral == neutral[0, 0]).all()
    assert len(set(neutral[0, 0].tolist())) == 1
    first, second = strips(image, 6, 2, ascii=True, overlay=overlay)
    marked = [(segment.text, segment.style.reverse, segment.style.underline) for segment in [*first, *second]]
    assert [mark[1:] for mark in marked] == [(True, None), (None, None), (None, None), (None, True)]
    assert len(marked[0][0]) == len(marked[3][0]) == 2


def test_a_page_of_thumbnails_has_few_segments() -> None:
    # The cost of a line is that of its segments: a digit has some twenty in seven lines, not a hundred.
    digit = np.zeros((28, 28, 1), np.uint8)
    digit[4:24, 12:16] = 255
    assert sum(len(list(line)) for line in strips(digit, 14, 7)) < 40
