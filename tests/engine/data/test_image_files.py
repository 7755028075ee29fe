"""Single image files that are easily read wrongly."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from finetui.engine.data.image_files import common_size, decode, read_header
from finetui.engine.data.split import Unreadable
from finetui.engine.protocol.values import Decoding


def wide(values: list[list[float]], kind: str) -> np.ndarray:
    return np.array(values, dtype=kind)


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        (wide([[0, 257, 65535]], "<u2"), [0, 1, 255]),
        (wide([[0, 100, 200]], "<u2"), [0, 0, 1]),  # dark, not 8 bit
        (wide([[0, 100, 200]], "<i4"), [0, 100, 200]),
        (wide([[0, 257, 65535]], "<i4"), [0, 1, 255]),
        (wide([[-5, 0, 5]], "<i4"), [0, 128, 255]),
        (wide([[-5, -5, -5]], "<i4"), [0, 0, 0]),
        (wide([[0, 0.5, 1]], "<f4"), [0, 128, 255]),
    ],
)
def test_deep_pixels_are_scaled(tmp_path: Path, pixels: np.ndarray, expected: list[int]) -> None:
    Image.fromarray(pixels).save(tmp_path / "x.tiff")
    assert decode(str(tmp_path / "x.tiff"), Decoding(channels=1, height=1, width=3)).ravel().tolist() == expected


def test_dark_big_endian_pixels_are_no_bytes(tmp_path: Path) -> None:
    data = wide([[0, 100, 200]], ">u2").tobytes()
    Image.frombytes("I;16B", (3, 1), data).save(tmp_path / "x.tiff")
    with Image.open(tmp_path / "x.tiff") as image:
        assert image.mode == "I;16B"
    assert decode(str(tmp_path / "x.tiff"), Decoding(channels=1, height=1, width=3)).ravel().tolist() == [0, 0, 1]


def test_pixels_that_are_no_numbers(tmp_path: Path) -> None:
    Image.fromarray(wide([[0, np.nan, 1]], "<f4")).save(tmp_path / "x.tiff")
    with pytest.raises(Unreadable, match="no numbers"):
        decode(str(tmp_path / "x.tiff"), Decoding(channels=1, height=1, width=3))


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_all_orientations_in_all_formats(tmp_path: Path, suffix: str, orientation: int) -> None:
    """Pillow's own way is the measure."""
    from PIL import ImageOps

    noise = np.random.default_rng(0).integers(0, 256, (2, 3, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"x.{suffix}"
    Image.fromarray(noise).save(path, exif=exif, quality=95)
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB")).transpose(2, 0, 1)
    header = read_header(str(path))
    assert (header.height, header.width) == expected.shape[1:]
    assert np.array_equal(decode(str(path), Decoding(channels=3, height=header.height, width=header.width)), expected)


def test_damaged_exif_data_does_not_cost_the_image(tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    Image.new("RGB", (8, 8), (200, 0, 0)).save(path, exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert decode(str(path), Decoding(channels=3, height=8, width=8))[0, 0, 0] > 190
    assert read_header(str(path)).height == 8


def test_the_size_that_images_are_brought_to() -> None:
    assert common_size([(10, 20)] * 3) == (10, 20)
    assert common_size([(300, 300)] * 3) == (224, 224)
    assert common_size([(10, 20), (30, 20), (50, 40)]) == (20, 20)
    assert common_size([(2, 3), (3, 3)]) == (8, 8)
