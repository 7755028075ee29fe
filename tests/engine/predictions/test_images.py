"""Images as people see them."""

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra.numpy import arrays

from finetui.engine.predictions.images import for_people, picture, pixels, reduce
from finetui.engine.protocol.events import Picture

images = st.tuples(st.integers(1, 12), st.integers(1, 12), st.sampled_from((1, 3))).flatmap(
    lambda shape: arrays(np.uint8, shape)
)


@given(image=images, side=st.integers(0, 14))
def test_no_side_is_larger_than_asked_for_and_pixels_are_means(image: np.ndarray, side: int) -> None:
    small = reduce(image, side)
    if not side or max(image.shape[:2]) <= side:
        assert small is image
        return
    factor = -(-max(image.shape[:2]) // side)
    assert max(small.shape[:2]) <= side
    assert small.shape == (-(-image.shape[0] // factor), -(-image.shape[1] // factor), image.shape[2])
    for y, x in np.ndindex(small.shape[:2]):
        square = image[y * factor : (y + 1) * factor, x * factor : (x + 1) * factor].reshape(-1, image.shape[2])
        assert np.abs(small[y, x] - square.astype(float).mean(0)).max() <= 0.51


@given(image=images)
def test_what_is_sent_is_what_arrives(image: np.ndarray) -> None:
    sent = picture(image, 7, "a name")
    assert (sent.index, sent.name) == (7, "a name")
    assert np.array_equal(pixels(sent), image)


@pytest.mark.parametrize(
    "odd",
    [
        Picture(index=0),
        Picture(index=0, height=2, width=2, channels=1, pixels=b"abc"),
        Picture(index=0, height=-2, width=-2, channels=1, pixels=b"abcd"),
        Picture(index=0, height=10**9, width=10**9, channels=3, pixels=b""),
    ],
)
def test_a_picture_that_is_none_has_no_pixels(odd: Picture) -> None:
    assert pixels(odd).size == 0


def test_floats_in_range_are_taken_as_they_are_and_others_stretched() -> None:
    half = np.full((1, 2, 2), 0.5, np.float32)
    assert (for_people(half) == 128).all()
    normalised = np.array([[[-2.0, 0.0], [1.0, 2.0]]], np.float32)
    assert for_people(normalised)[:, :, 0].tolist() == [[0, 128], [191, 255]]
    odd = np.array([[[np.nan, np.inf], [0.0, 1.0]]], np.float32)
    assert for_people(odd)[:, :, 0].tolist() == [[0, 0], [0, 255]]
    assert (for_people(np.full((1, 2, 2), -3, np.float32)) == 0).all()


@pytest.mark.parametrize(("channels", "shown"), [(1, 1), (2, 1), (3, 3), (4, 3), (12, 3)])
def test_one_or_three_channels_are_shown(channels: int, shown: int) -> None:
    assert for_people(np.zeros((channels, 4, 5), np.uint8)).shape == (4, 5, shown)
