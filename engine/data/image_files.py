"""Reading one image file, whatever is in it."""

import os
import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from finetui.engine.data.split import Unreadable
from finetui.engine.protocol.values import Decoding

MOST_PIXELS = 50_000_000
_GREY_MODES = {"1", "L", "LA", "La", "I", "F", "I;16", "I;16B", "I;16L", "I;16N"}
_WIDE_MODES = {"I", "F", "I;16", "I;16B", "I;16L", "I;16N"}
_LARGEST_SIDE = 224  # what images of different sizes are brought to at most, the usual size for pretrained networks
_SMALLEST_SIDE = 8
_ORIENTATION = 0x0112  # EXIF tag; values from 5 on lay the image on its side
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class Header(NamedTuple):
    """What a file says about its image before it is decoded; sizes in pixels as a person sees it, `size` in bytes."""

    height: int
    width: int
    grey: bool
    size: int = 0


def read_header(path: str) -> Header:
    """Return the header of the image file `path`. Raises `Unreadable`."""
    try:
        with Image.open(path) as image:
            _check(image)
            width, height = image.size
            if _orientation(image) >= 5:
                width, height = height, width
            return Header(height, width, is_grey(image), os.stat(path).st_size)  # noqa: PTH116  # a path of a million
    except Unreadable:
        raise
    except Exception as error:
        raise _unreadable(path, error) from error


def decode(path: str, decoding: Decoding) -> npt.NDArray[np.uint8]:
    """Return the image file `path` as `decoding` has it, uint8 `[C, H, W]`. Raises `Unreadable`.

    It is turned as its EXIF data says, transparency is dropped (as torchvision's loader does), 16 bit are scaled to 8,
    of an animation the first frame is taken; another size is scaled by the shorter side, and the middle cut out.
    """
    try:
        with Image.open(path) as image:
            _check(image)
            turn = _TURNS.get(_orientation(image))
            # JPEG decodes to a fraction much faster; the larger side twice, since the image may lie on its side.
            image.draft("L" if decoding.channels == 1 else "RGB", (max(decoding.height, decoding.width),) * 2)
            return to_array(image if turn is None else image.transpose(turn), decoding)
    except Unreadable:
        raise
    except Exception as error:
        raise _unreadable(path, error) from error


def to_array(image: Image.Image, decoding: Decoding) -> npt.NDArray[np.uint8]:
    """Return `image` as `decoding` has it, uint8 `[C, H, W]`."""
    if image.mode in _WIDE_MODES:
        image = Image.fromarray(_to_bytes(np.asarray(image)))
    image = image.convert("L" if decoding.channels == 1 else "RGB")
    size = decoding.width, decoding.height
    if image.size != size:
        image = ImageOps.fit(image, size, Image.Resampling.BILINEAR)
    values: npt.NDArray[np.uint8] = np.array(image)
    return values[None] if decoding.channels == 1 else np.ascontiguousarray(values.transpose(2, 0, 1))


def decoded_again(values: npt.NDArray[np.uint8], decoding: Decoding) -> npt.NDArray[np.uint8]:
    """Return a picture that is an array already, uint8 `[1 or 3, H, W]`, as `decoding` has it."""
    if values.shape == decoding.shape:
        return np.ascontiguousarray(values)
    picture = values[0] if len(values) == 1 else np.ascontiguousarray(values.transpose(1, 2, 0))
    return to_array(Image.fromarray(picture), decoding)


def _to_bytes(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Scale 16-bit, 32-bit and floating-point pixels to bytes."""
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise Unreadable("pixels that are no numbers")
    low, high = float(values.min()), float(values.max())
    if values.dtype.kind == "f" and low >= 0 and high <= 1:
        scaled = values * 255
    elif values.dtype.itemsize == 2 and low >= 0:
        scaled = values / 257
    elif low >= 0 and high <= 255:
        scaled = values
    elif low >= 0 and high <= 65535:
        scaled = values / 257
    else:
        scaled = (values.astype(np.float64) - low) * (255 / max(high - low, 1e-9))
    pixels: npt.NDArray[np.uint8] = np.rint(scaled).astype(np.uint8)
    return pixels


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
