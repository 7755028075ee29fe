"""Images in 256 colours."""

import numpy as np
from hypothesis import given, strategies as st
from hypothesis.extra.numpy import arrays
from rich._palettes import EIGHT_BIT_PALETTE
from rich.color import Color, ColorSystem

from finetui.tui.colours.palettes import AGAINST_256, FOR_256, sent_as
from finetui.tui.graphics import strips
from finetui.tui.graphics.reduced import reduced, tinted

NUMBERS = [number for number in range(16, 256) if number not in (59, 102, 145, 188)]
COLOURS = np.array([EIGHT_BIT_PALETTE[number] for number in NUMBERS], dtype=int)


def numbers_of(image: np.ndarray) -> np.ndarray:
    """Return the numbers of xterm's table that Rich sends for an image, `[H, W]`."""
    colours = [
        Color.from_rgb(*pixel).downgrade(ColorSystem.EIGHT_BIT).number for pixel in image.reshape(-1, 3).tolist()
    ]
    return np.array(colours).reshape(image.shape[:2])


@given(image=arrays(np.uint8, st.tuples(st.integers(1, 6), st.integers(1, 6), st.just(3))))
def test_each_pixel_is_sent_as_the_nearest_colour(image: np.ndarray) -> None:
    sent = numbers_of(reduced(image))
    for pixel, number in zip(image.reshape(-1, 3).astype(int), sent.ravel(), strict=True):
        apart = ((COLOURS - pixel) ** 2).sum(1)
        # Where the nearest of the cube is one of its greys, which Rich never sends, a grey of the ramp stands for it.
        assert ((EIGHT_BIT_PALETTE[number] - pixel) ** 2).sum() <= apart.min() + 3 * 12**2


def test_greys_stay_greys() -> None:
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, 2)
    sent = numbers_of(reduced(grey))
    assert all(number in (16, 231) or number >= 232 for number in sent.ravel())
    assert (np.diff([EIGHT_BIT_PALETTE[number][0] for number in sent.ravel()]) >= 0).all()
    assert len(np.unique(sent)) == 26


def test_what_speaks_for_and_against_has_its_own_colours() -> None:
    grey, values = np.full((2, 3), 200.0), np.array([[1, 0.4, 0.05], [-1, -0.4, 0]], dtype=np.float32)
    sent = numbers_of(reduced(tinted(grey, values)))
    assert sent[0, 0] == FOR_256[2][3] and sent[0, 1] == FOR_256[0][3]
    assert sent[1, 0] == AGAINST_256[2][3] and sent[1, 1] == AGAINST_256[0][3]
    assert (sent[:, 2] >= 232).all()


def test_half_blocks_have_only_such_colours() -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    sent = {sent_as(number) for number in NUMBERS}
    for line in strips(image, 20, 10, depth="256"):
        for segment in line:
            for colour in (segment.style.color, segment.style.bgcolor):
                assert tuple(colour.triplet) in sent
