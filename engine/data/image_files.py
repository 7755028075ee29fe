"""Reading one image file, whatever is in it."""

import io
import os
import stat
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from finetui.engine.data.jpeg import decoded_jpeg
from finetui.engine.data.resizing import crop_start, is_by_torch, resized, scaled_size
from finetui.engine.data.split import Unreadable
from finetui.engine.protocol.values import Decoding

MOST_PIXELS = 50_000_000
_GREY_MODES = {"1", "L", "LA", "La", "I", "F", "I;16", "I;16B", "I;16L", "I;16N"}
_16_BIT_MODES = {"I;16", "I;16B", "I;16L", "I;16N"}
MODES_OF_32_BITS = {"I", "F"}
WIDE_MODES = MODES_OF_32_BITS | _16_BIT_MODES
_USUAL_RANGES = ((0.0, 1.0), (0.0, 255.0), (0.0, 65535.0))
_JPEG = {"JPEG", "MPO"}
_FILTERS: dict[str, Image.Resampling] = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_LARGEST_SIDE = 224  # what images of different sizes are brought to at most, the usual size for pretrained networks
_SMALLEST_SIDE = 8
_ORIENTATION = 0x0112  # EXIF tag
_SIDEWAYS = 5  # values from here on lay the image on its side
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


# How many times what it is scaled to a JPEG file must still have after it was decoded to a fraction of its size. From 5
# on the result is within half a level of 255, on average, of what full decoding gives: of photographs, drawings and
# noise alike; measured in test_image_files.py.
DRAFT = 5


class Header(NamedTuple):
    """What a file says about its image before it is decoded; sizes in pixels as a person sees it, `size` in bytes.

    `mode` is Pillow's, `jpeg` whether it can be decoded to a fraction of its size.
    """

    height: int
    width: int
    grey: bool
    mode: str = "L"
    jpeg: bool = False
    size: int = 0


class PixelRange(NamedTuple):
    """The lowest and the highest pixel of a picture with more than 8 bits."""

    low: float
    high: float
    is_float: bool
    is_16_bit: bool


def read_header(path: str) -> Header:
    """Return the header of the image file `path`. Raises `Unreadable`."""
    try:
        _check_is_file(path)
        with Image.open(path) as image:
            _check(image)
            width, height = image.size
            if _orientation(image) >= _SIDEWAYS:
                width, height = height, width
            size = os.stat(path).st_size  # noqa: PTH116  # a path of a million
            return Header(height, width, is_grey(image), image.mode, image.format in _JPEG, size)
    except Unreadable:
        raise
    except Exception as error:
        raise _unreadable(path, error) from error


def decode(path: str, decoding: Decoding) -> npt.NDArray[np.uint8]:
    """Return the image file `path` as `decoding` has it, uint8 `[C, H, W]`. Raises `Unreadable`.

    It is turned as its EXIF data says, transparency is dropped (as torchvision's loader does), 16 bit are scaled to 8,
    of an animation the first frame is taken.
    """
    try:
        _check_is_file(path)
        data = Path(path).read_bytes()  # as a whole: piece by piece, as Pillow does it, takes longer
        with Image.open(io.BytesIO(data)) as image:
            _check(image)
            orientation = _orientation(image)
            turn = _TURNS.get(orientation)
            if decoding.draft == 1:  # the larger side twice, since the image may lie on its side
                image.draft(_mode(decoding), (max(decoding.height, decoding.width),) * 2)
            elif (fraction := draft_fraction(image, decoding, orientation)) > 1:
                return _drafted(image, decoding, orientation, fraction)
            elif turn is None and image.mode == _mode(decoding) and is_by_torch(decoding):
                pixels = decoded_jpeg(data, image)
                if pixels is not None:
                    return resized(pixels, decoding)
            return to_array(image if turn is None else image.transpose(turn), decoding)
    except Unreadable:
        raise
    except Exception as error:
        raise _unreadable(path, error) from error


def draft_fraction(image: Image.Image | Header, decoding: Decoding, orientation: int = 1) -> int:
    """Return to which part of its size `image` of this `orientation` is decoded: 1 for all of it, or 2, 4, 8."""
    is_jpeg = image.jpeg if isinstance(image, Header) else image.format in _JPEG
    if not decoding.draft or not is_jpeg:
        return 1
    size = (image.height, image.width) if orientation < _SIDEWAYS else (image.width, image.height)
    larger = (
        min(size) / decoding.resize if decoding.resize else min(size[0] / decoding.height, size[1] / decoding.width)
    )
    return next((part for part in (8, 4, 2) if larger >= part * decoding.draft), 1)


def _drafted(image: Image.Image, decoding: Decoding, orientation: int, fraction: int) -> npt.NDArray[np.uint8]:
    """Return the JPEG `image`, decoded to a `fraction` of its size, as `to_array` returns the whole one."""
    width, height = image.size
    image.draft(_mode(decoding), (width // fraction, height // fraction))
    lying = decoding
    if orientation >= _SIDEWAYS:
        lying = msgspec.structs.replace(decoding, height=decoding.width, width=decoding.height)
    # Turned once it is small: where its size is no multiple of the fraction, its last pixels are not whole ones.
    scaled = _scaled(image.convert(_mode(decoding)), lying, (width, height), fraction)
    turn = _TURNS.get(orientation)
    return _cut(scaled if turn is None else scaled.transpose(turn), decoding)


def to_array(image: Image.Image, decoding: Decoding) -> npt.NDArray[np.uint8]:
    """Return `image` as `decoding` has it, uint8 `[C, H, W]`. Raises `Unreadable`.

    With a `resize`, as torchvision's `Resize(resize, interpolation)` and `CenterCrop((height, width))` have it: bit for
    bit where Pillow is the `resampler`, to a twentieth of a level of 255, on average, where it is torch.
    """
    if image.mode in WIDE_MODES:
        image = Image.fromarray(_to_bytes(np.asarray(image), decoding.value_range))
    if image.mode != _mode(decoding):  # else it would be copied
        image = image.convert(_mode(decoding))
    if is_by_torch(decoding):
        values = np.frombuffer(bytearray(image.tobytes()), np.uint8)  # half the time of `np.array`
        return resized(values.reshape(image.height, image.width, decoding.channels), decoding)
    return _cut(_scaled(image, decoding, image.size), decoding)


def _mode(decoding: Decoding) -> str:
    return "L" if decoding.channels == 1 else "RGB"


def _scaled(image: Image.Image, decoding: Decoding, size: tuple[int, int], fraction: int = 1) -> Image.Image:
    """Return `image` scaled as `decoding` says. It is `fraction` times smaller than `size`, its (width, height)."""
    width, height = size
    target = decoding.width, decoding.height
    left = top = 0.0
    if decoding.resize:
        target = scaled_size(size, decoding.resize)
    elif width / height > target[0] / target[1]:
        left = (width - target[0] / target[1] * height) / 2
    else:
        top = (height - width / (target[0] / target[1])) / 2
    if fraction == 1 and not decoding.resize:  # the same, to the last bit
        return image if size == target else ImageOps.fit(image, target, _FILTERS[decoding.interpolation])
    box = tuple(edge / fraction for edge in (left, top, width - left, height - top))
    return image.resize(target, _FILTERS[decoding.interpolation], box)  # type: ignore[arg-type]  # four of them


def _cut(image: Image.Image, decoding: Decoding) -> npt.NDArray[np.uint8]:
    """Return the middle of `image`, uint8 `[C, H, W]`; black where it does not reach, as torchvision has it."""
    left, top = crop_start(image.width, decoding.width), crop_start(image.height, decoding.height)
    if image.size != (decoding.width, decoding.height):
        image = image.crop((left, top, left + decoding.width, top + decoding.height))
    values: npt.NDArray[np.uint8] = np.array(image)
    return values[None] if decoding.channels == 1 else np.ascontiguousarray(values.transpose(2, 0, 1))


def decoded_again(values: npt.NDArray[np.uint8], decoding: Decoding) -> npt.NDArray[np.uint8]:
    """Return a picture that is an array already, uint8 `[1 or 3, H, W]`, as `decoding` has it."""
    if values.shape == decoding.shape and not decoding.resize:
        return np.ascontiguousarray(values)
    picture = values[0] if len(values) == 1 else np.ascontiguousarray(values.transpose(1, 2, 0))
    return to_array(Image.fromarray(picture), decoding)


def _to_bytes(values: npt.NDArray[Any], value_range: tuple[float, float] | None) -> npt.NDArray[np.uint8]:
    """Scale 16-bit, 32-bit and floating-point pixels to bytes. Raises `Unreadable`."""
    found = pixel_range(values)
    low, high = common_range([found]) if value_range is None else value_range
    if value_range is not None or (low, high) not in _USUAL_RANGES:
        scaled = (np.clip(values, low, high).astype(np.float64) - low) * (255 / max(high - low, 1e-9))
    else:  # to the last bit as it was when each picture had a scale of its own
        scaled = values * 255 if high == 1 else values / (high / 255)
    pixels: npt.NDArray[np.uint8] = np.rint(scaled).astype(np.uint8)
    return pixels


def read_range(path: str) -> PixelRange:
    """Return the range of the pixels in the image file `path`, of one of the `WIDE_MODES`. Raises `Unreadable`."""
    try:
        _check_is_file(path)
        with Image.open(path) as image:
            _check(image)
            return pixel_range(np.asarray(image))
    except Unreadable:
        raise
    except Exception as error:
        raise _unreadable(path, error) from error


def pixel_range(values: npt.NDArray[Any]) -> PixelRange:
    """Return the range of the pixels `values`. Raises `Unreadable` for what is not a number."""
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise Unreadable("pixels that are NaN or infinite")
    return PixelRange(float(values.min()), float(values.max()), values.dtype.kind == "f", values.dtype.itemsize == 2)


def common_range(ranges: Sequence[PixelRange]) -> tuple[float, float]:
    """Return what is scaled to 0 .. 255 where pictures have pixels of these ranges: what their kind of pixels can be
    (0 to 1, 255 or 65535), if all are within that, else what they are.
    """
    low, high = min(found.low for found in ranges), max(found.high for found in ranges)
    if low >= 0:
        if high <= 1 and all(found.is_float for found in ranges):
            return _USUAL_RANGES[0]
        if all(found.is_16_bit for found in ranges):
            return _USUAL_RANGES[2]
        if high <= _USUAL_RANGES[2][1]:
            return _USUAL_RANGES[1] if high <= _USUAL_RANGES[1][1] else _USUAL_RANGES[2]
    return low, high


def _orientation(image: Image.Image) -> int:
    """Return what its camera says about how `image` was held: 1 for upright, to 8."""
    if image.format == "TIFF" or "exif" not in image.info:
        return 1  # TIFF files are turned by Pillow
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # noqa: BLE001  # of damaged EXIF data its parser raises anything; the image may well be whole
        return 1
    return orientation if isinstance(orientation, int) else 1


def common_size(sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Return the height and width that images of these `(height, width)` are brought to."""
    if len(set(sizes)) == 1 and max(sizes[0]) <= _LARGEST_SIDE:
        return sizes[0]
    side = int(statistics.median(min(size) for size in sizes))
    side = max(_SMALLEST_SIDE, min(side, _LARGEST_SIDE))
    return side, side


def settled(wanted: Decoding, sizes: Sequence[tuple[int, int]], *, grey: bool) -> Decoding:
    """Return `wanted` with what it leaves open filled in for pictures of these `(height, width)`, `grey` or not."""
    height, width = (wanted.height, wanted.width) if wanted.height else common_size(sizes)
    channels = wanted.channels or (1 if grey else 3)
    return msgspec.structs.replace(wanted, channels=channels, height=height, width=width)


def is_grey(image: Image.Image) -> bool:
    """Return whether `image` has no colours."""
    return image.mode in _GREY_MODES


def _check(image: Image.Image) -> None:
    width, height = image.size
    if width * height > MOST_PIXELS:
        raise Unreadable(f"{width}x{height} pixels, more than {MOST_PIXELS // 1_000_000} million")
    if not width or not height:
        raise Unreadable("no pixels")
    if image.format == "EPS":
        raise Unreadable("a PostScript program, which is not run")  # Pillow would start Ghostscript for it


def _check_is_file(path: str) -> None:
    """Raise `Unreadable` for a pipe, a socket or a device: to open one may wait for ever. A folder cannot be opened."""
    mode = os.stat(path).st_mode  # noqa: PTH116  # a path of a million
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise Unreadable("not a file")


def _unreadable(path: str, error: Exception) -> Unreadable:
    """Return why Pillow could not read `path`; its plugins raise whatever their parsers do."""
    if isinstance(error, Image.DecompressionBombError):
        return Unreadable("a decompression bomb: far more pixels than any photograph")
    if isinstance(error, UnidentifiedImageError):
        try:
            empty = os.stat(path).st_size == 0  # noqa: PTH116  # a path of a million
        except OSError:
            empty = False
        return Unreadable("empty" if empty else "not an image that Pillow can read")
    if isinstance(error, OSError) and error.strerror:
        return Unreadable(error.strerror)
    if "truncated" in str(error).lower():
        return Unreadable("truncated image")
    return Unreadable(f"damaged image ({type(error).__name__})")
