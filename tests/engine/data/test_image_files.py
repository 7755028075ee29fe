"""Single image files that are easily read wrongly."""

import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageOps
from torchvision.models import get_model_weights
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, PILToTensor, Resize

from finetui.engine.data import jpeg
from finetui.engine.data.choose_decoding import BY_IMAGES
from finetui.engine.data.image_files import (
    DRAFT,
    common_range,
    common_size,
    decode,
    draft_fraction,
    pixel_range,
    read_header,
    read_range,
    to_array,
)
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
    with pytest.raises(Unreadable, match="NaN"):
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


# -- scaled and cut out as torchvision does it -----------------------------------------------------------------


@lru_cache(12)
def textures(height: int, width: int, seed: int = 0) -> dict[str, Image.Image]:
    """Pictures such as photographs have: one that varies over all lengths, one with edges, one of noise."""
    generator = np.random.default_rng(seed)
    across, down = np.fft.fftfreq(width)[None], np.fft.fftfreq(height)[:, None]
    frequency = np.hypot(across, down)
    frequency[0, 0] = np.inf
    spectrum = np.fft.fft2(generator.normal(size=(3, height, width))) / frequency
    smooth = np.fft.ifft2(spectrum).real
    smooth = 120 + 50 * smooth / smooth.std()
    edges = Image.new("RGB", (width, height), (90, 140, 180))
    draw = ImageDraw.Draw(edges)
    for _ in range(60):
        left, top = int(generator.integers(width)), int(generator.integers(height))
        colour = tuple(int(value) for value in generator.integers(0, 256, 3))
        draw.ellipse([left, top, left + width // 9, top + height // 9], fill=colour)
    return {
        "photograph": Image.fromarray(np.clip(smooth, 0, 255).astype(np.uint8).transpose(1, 2, 0).copy()),
        "drawing": edges,
        "noise": Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8)),
    }


@pytest.mark.parametrize("size", [(300, 400), (401, 333), (256, 256), (200, 260), (517, 90)])
@pytest.mark.parametrize("crop", [(224, 224), (160, 192), (224, 301)])
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
def test_resize_and_crop_are_torchvisions(size: tuple[int, int], crop: tuple[int, int], interpolation: str) -> None:
    for mode, channels in (("RGB", 3), ("L", 1)):
        image = textures(*size)["photograph"].convert(mode)
        wanted = Decoding(
            channels=channels, height=crop[0], width=crop[1], resize=232, interpolation=interpolation, draft=DRAFT
        )
        theirs = Compose([Resize(232, InterpolationMode(interpolation)), CenterCrop(crop), PILToTensor()])(image)
        assert np.array_equal(to_array(image, wanted), theirs.numpy())


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "efficientnet_b0", "vit_l_16", "swin_t", "inception_v3"])
def test_pixels_are_those_of_the_transform_that_torchvisions_weights_come_with(name: str) -> None:
    preset = get_model_weights(name).DEFAULT.transforms()
    image = textures(375, 500)["photograph"]
    wanted = Decoding(
        channels=3,
        height=preset.crop_size[0],
        width=preset.crop_size[-1],
        resize=preset.resize_size[0],
        interpolation=preset.interpolation.value,
        draft=DRAFT,
    )
    mean, std = torch.tensor(preset.mean).view(3, 1, 1), torch.tensor(preset.std).view(3, 1, 1)
    ours = (torch.from_numpy(to_array(image, wanted)).float() / 255 - mean) / std
    assert torch.equal(ours, preset(image))


# -- scaled by torch, as new runs have it ----------------------------------------------------------------------

BY_TORCH = Decoding(channels=3, height=224, width=224, resize=256, draft=DRAFT, resampler="torch")


def test_a_run_that_kept_no_resampler_has_pillows_pixels_and_a_new_one_asks_for_torchs() -> None:
    kept = msgspec.json.decode(b'{"channels":3,"height":224,"width":224,"resize":256,"draft":5}', type=Decoding)
    image = textures(375, 500)["noise"]
    theirs = Compose([Resize(256), CenterCrop(224), PILToTensor()])(image)
    assert np.array_equal(to_array(image, kept), theirs.numpy())
    assert not np.array_equal(to_array(image, msgspec.structs.replace(kept, resampler=BY_IMAGES.resampler)), theirs)


@pytest.mark.parametrize("size", [(375, 500), (333, 257), (256, 256), (61, 700), (3, 2), (1, 9), (1100, 2500)])
@pytest.mark.parametrize("crop", [(224, 224), (190, 301)])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_torch_scales_as_pillow_does_to_a_twentieth_of_a_level(
    size: tuple[int, int], crop: tuple[int, int], interpolation: str
) -> None:
    for texture in textures(*size).values():
        for mode, channels in (("RGB", 3), ("L", 1)):
            image = texture.convert(mode)
            wanted = msgspec.structs.replace(
                BY_TORCH, channels=channels, height=crop[0], width=crop[1], interpolation=interpolation
            )
            ours = to_array(image, wanted)
            pillow = to_array(image, msgspec.structs.replace(wanted, resampler="pillow"))
            error = np.abs(ours.astype(int) - pillow)
            assert ours.shape == wanted.shape
            assert error.mean() <= 0.05
            assert error.max() <= 2


@pytest.mark.parametrize("changed", [{"resize": 0}, {"interpolation": "lanczos"}, {"interpolation": "nearest"}])
def test_what_torch_cannot_scale_alike_is_pillows(changed: dict[str, object]) -> None:
    image = textures(375, 500)["noise"]
    wanted = msgspec.structs.replace(BY_TORCH, **changed)
    pillow = msgspec.structs.replace(wanted, resampler="pillow")
    assert np.array_equal(to_array(image, wanted), to_array(image, pillow))


KINDS: dict[str, tuple[str, dict[str, object]]] = {
    "colour": ("RGB", {}),
    "grey": ("L", {}),
    "cmyk": ("CMYK", {}),
    "4:4:4": ("RGB", {"subsampling": 0}),
    "4:2:2": ("RGB", {"subsampling": 1}),
    "progressive": ("RGB", {"progressive": True}),
    "restarts": ("RGB", {"restart_marker_blocks": 3}),
    "no YCbCr": ("RGB", {"keep_rgb": True}),
    "poor": ("RGB", {"quality": 12}),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("library", ["simplejpeg", "pillow"])
def test_a_jpeg_has_the_same_pixels_whoever_decodes_it(
    kind: str, library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if library == "simplejpeg":
        pytest.importorskip("simplejpeg")
    else:
        monkeypatch.setattr(jpeg, "simplejpeg", None)
    mode, options = KINDS[kind]
    path = tmp_path / "x.jpg"
    for size in ((375, 500), (301, 257), (17, 9), (2, 1)):
        textures(*size)["photograph"].convert(mode).save(path, **{"quality": 90, **options})
        for channels in (3, 1):
            wanted = msgspec.structs.replace(BY_TORCH, channels=channels)
            assert np.array_equal(decode(str(path), wanted), to_array(Image.open(path), wanted))
        by_itself = jpeg.decoded_jpeg(path.read_bytes(), Image.open(path))
        assert (by_itself is not None) == (library == "simplejpeg" and mode != "CMYK")
        if by_itself is not None:
            assert np.array_equal(by_itself.squeeze(), np.asarray(Image.open(path)).squeeze())


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_jpeg_is_scaled_as_a_person_sees_it(orientation: int, tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    exif = Image.Exif()
    exif[0x0112] = orientation
    textures(375, 500)["photograph"].save(path, exif=exif, quality=90)
    turned = ImageOps.exif_transpose(Image.open(path))
    assert np.array_equal(decode(str(path), BY_TORCH), to_array(turned, BY_TORCH))


def test_a_damaged_jpeg_is_what_pillow_says_of_it(tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    textures(375, 500)["photograph"].save(path, quality=90)
    whole = path.read_bytes()
    pillows = msgspec.structs.replace(BY_TORCH, resampler="pillow")
    for data in (whole[:-2], whole[: len(whole) // 2], whole[:300], whole[:9000] + bytes(40) + whole[9040:]):
        path.write_bytes(data)
        try:
            expected: object = to_array(Image.open(path), BY_TORCH)
        except OSError:
            with pytest.raises(Unreadable) as theirs:
                decode(str(path), pillows)
            with pytest.raises(Unreadable, match=str(theirs.value)):
                decode(str(path), BY_TORCH)
        else:
            assert np.array_equal(decode(str(path), BY_TORCH), expected)


# -- JPEG files decoded to a fraction of their size ------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("part", [2, 4, 8])
def test_a_jpeg_decoded_to_a_fraction_is_within_half_a_level(part: int, channels: int, tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    for quality, extra, resize in ((75, 3, 0), (90, 5, 28)) if part < 8 else ((95, 7, 0),):
        for image in textures(part * DRAFT * 28 + extra, part * DRAFT * 33 + 1, quality).values():
            image.save(path, quality=quality)
            wanted = Decoding(channels=channels, height=24 if resize else 28, width=28, resize=resize, draft=DRAFT)
            header = read_header(str(path))
            assert draft_fraction(header, wanted) == part
            full = to_array(Image.open(path), wanted).astype(float)
            error = np.abs(decode(str(path), wanted) - full).mean()
            assert 0 < error <= 0.5


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_jpeg_is_cut_out_where_it_would_be_in_full(orientation: int, tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    exif = Image.Exif()
    exif[0x0112] = orientation
    textures(1003, 667)["photograph"].save(path, exif=exif, quality=90)
    for wanted in (
        Decoding(channels=3, height=40, width=61, draft=DRAFT),
        Decoding(channels=3, height=30, width=55, resize=60, draft=DRAFT),
    ):
        full = to_array(ImageOps.exif_transpose(Image.open(path)), wanted).astype(float)
        drafted = decode(str(path), wanted)
        assert 0 < np.abs(drafted - full).mean() <= 0.5


def test_a_jpeg_that_is_not_large_is_decoded_in_full(tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    textures(2 * DRAFT * 28 - 1, 2 * DRAFT * 28)["drawing"].save(path)
    wanted = Decoding(channels=3, height=28, width=28, draft=DRAFT)
    assert np.array_equal(decode(str(path), wanted), to_array(Image.open(path), wanted))
    before = msgspec.structs.replace(wanted, draft=1)  # as runs of earlier versions had it
    assert not np.array_equal(decode(str(path), before), decode(str(path), wanted))


# -- one scale for all images ---------------------------------------------------------------------------------


def test_pixels_of_many_bits_have_one_scale() -> None:
    wanted = Decoding(channels=1, height=1, width=3, value_range=(-10.0, 10.0))
    for kind in ("<i4", "<f4"):
        image = Image.fromarray(wide([[-5, 0, 20]], kind))
        assert to_array(image, wanted).ravel().tolist() == [64, 128, 255]


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        ([wide([[0, 0.5]], "<f4"), wide([[0.1, 1]], "<f4")], (0, 1)),
        ([wide([[0, 0.5]], "<f4"), wide([[0.1, 200]], "<f4")], (0, 255)),
        ([wide([[0, 200]], "<i4"), wide([[0, 300]], "<i4")], (0, 65535)),
        ([wide([[0, 200]], "<u2"), wide([[0, 3]], "<u2")], (0, 65535)),
        ([wide([[0, 200]], "<i4"), wide([[-1, 3]], "<i4")], (-1, 200)),
        ([wide([[1, 2]], "<f4"), wide([[3, 1e5]], "<f4")], (1, 1e5)),
    ],
)
def test_the_range_is_that_of_all_images(images: list[np.ndarray], expected: tuple[float, float]) -> None:
    assert common_range([pixel_range(image) for image in images]) == expected


@pytest.mark.parametrize(
    "read", [read_header, read_range, lambda path: decode(path, Decoding(channels=1, height=8, width=8))]
)
def test_a_pipe_is_not_waited_for(tmp_path: Path, read: Callable[[str], object]) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(Unreadable, match="not a file"):
        read(str(tmp_path / "pipe.png"))
