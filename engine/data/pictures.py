"""Reading one image file, whatever is in it."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from engine.data.split import Unreadable

MOST_PIXELS = 50_000_000
_GREY_MODES = {"1", "L", "LA", "La", "I", "F", "I;16", "I;16B", "I;16L", "I;16N"}
_WIDE_MODES = {"I", "F", "I;16", "I;16B", "I;16L", "I;16N"}
_ORIENTED_FORMATS = {"JPEG", "MPO", "TIFF", "WEBP"}
_ORIENTATION = 0x0112  # EXIF tag; values from 5 on lay the image on its side


class Header(NamedTuple):
    """What a file says about its image before it is decoded; sizes in pixels as a person sees it."""

    height: int
    width: int
    grey: bool


def read_header(path: Path) -> Header:
    """Return the header of the image file `path`. Raises `Unreadable`."""
    try:
        with Image.open(path) as image:
            _check(image)
            width, height = image.size
            if image.format in _ORIENTED_FORMATS and image.getexif().get(_ORIENTATION, 1) >= 5:
                width, height = height, width
            return Header(height, width, image.mode in _GREY_MODES)
    except Unreadable:
        raise
    except Exception as error:
        raise _unreadable(path, error) from error


def decode(path: Path, height: int, width: int, channels: int) -> npt.NDArray[np.uint8]:
    """Return the image file `path` as uint8 `[channels, height, width]`, `channels` 1 or 3. Raises `Unreadable`.

    It is turned as its EXIF data says, transparency is dropped (as torchvision's loader does), 16 bit are scaled to 8,
    of an animation the first frame is taken; another size is scaled by the shorter side, and the middle cut out.
    """
    try:
        with Image.open(path) as image:
            _check(image)
            image.draft("L" if channels == 1 else "RGB", (width, height))  # JPEG decodes to a fraction much faster
            upright = ImageOps.exif_transpose(image) if image.format in _ORIENTED_FORMATS else image
            return to_array(upright, height, width, channels)
    except Unreadable:
        raise
    except Exception as error:
        raise _unreadable(path, error) from error


def to_array(image: Image.Image, height: int, width: int, channels: int) -> npt.NDArray[np.uint8]:
    """Return `image` as uint8 `[channels, height, width]`."""
    if image.mode in _WIDE_MODES:
        image = Image.fromarray(_to_bytes(np.asarray(image)))
    image = image.convert("L" if channels == 1 else "RGB")
    if image.size != (width, height):
        image = ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)
    values: npt.NDArray[np.uint8] = np.array(image)
    return values[None] if channels == 1 else np.ascontiguousarray(values.transpose(2, 0, 1))


def _to_bytes(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Scale 16-bit, 32-bit and floating-point pixels to bytes."""
    low, high = float(values.min()), float(values.max())
    if values.dtype.kind == "f" and low >= 0 and high <= 1:
        scaled = values * 255
    elif low >= 0 and high <= 255:
        scaled = values if values.dtype != np.uint16 else values / 257
    elif low >= 0 and high <= 65535:
        scaled = values / 257
    else:
        scaled = (values - low) * (255 / (high - low))
    pixels: npt.NDArray[np.uint8] = np.rint(scaled).astype(np.uint8)
    return pixels


def _check(image: Image.Image) -> None:
    width, height = image.size
    if width * height > MOST_PIXELS:
        raise Unreadable(f"{width}x{height} pixels, more than {MOST_PIXELS // 1_000_000} million")
    if not width or not height:
        raise Unreadable("no pixels")


def _unreadable(path: Path, error: Exception) -> Unreadable:
    """Return why Pillow could not read `path`; its plugins raise whatever their parsers do."""
    if isinstance(error, Image.DecompressionBombError):
        return Unreadable("a decompression bomb: far more pixels than any photograph")
    if isinstance(error, UnidentifiedImageError):
        try:
            empty = path.stat().st_size == 0
        except OSError:
            empty = False
        return Unreadable("empty" if empty else "not an image that Pillow can read")
    if isinstance(error, OSError) and error.strerror:
        return Unreadable(error.strerror)
    if "truncated" in str(error).lower():
        return Unreadable("truncated image")
    return Unreadable(f"damaged image ({type(error).__name__})")
