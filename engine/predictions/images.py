"""Images as they are sent to dashboards: bytes, reduced to what a terminal can show."""

from typing import Any

import numpy as np
import numpy.typing as npt

from finetui.engine.protocol.events import Picture


def reduce(image: npt.NDArray[np.uint8], side: int) -> npt.NDArray[np.uint8]:
    """Return `image`, uint8 `[H, W, C]`, with no side above `side` (0: as it is): means over squares of whole pixels.

    Squares at the right and lower edge may be cut off by it.
    """
    return reduce_by(image, -(-max(image.shape[:2]) // side) if side else 1)


def reduce_by(image: npt.NDArray[np.uint8], factor: int) -> npt.NDArray[np.uint8]:
    """Return `image`, uint8 `[H, W, C]`, with each square of `factor` x `factor` pixels replaced by its mean."""
    if factor <= 1:
        return image
    height, width, channels = image.shape
    rows, columns = -(-height // factor), -(-width // factor)
    padded = np.zeros((rows * factor, columns * factor, channels), dtype=np.int64)
    padded[:height, :width] = image
    sums = padded.reshape(rows, factor, columns, factor, channels).sum((1, 3))
    counts = np.outer(_counts(height, rows, factor), _counts(width, columns, factor))
    return np.asarray((sums + counts[:, :, None] // 2) // counts[:, :, None], dtype=np.uint8)


def _counts(length: int, squares: int, factor: int) -> npt.NDArray[np.int64]:
    """Return how many of `length` pixels fall into each square."""
    counts = np.full(squares, factor, dtype=np.int64)
    counts[-1] = length - factor * (squares - 1)
    return counts


def for_people(image: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Return a stored image, `[C, H, W]` of bytes or of floats, as uint8 `[H, W, C]` with 1 or 3 channels.

    Floats in [0, 1] are taken as they are, others (normalised ones, say) are stretched from their least to their
    greatest; of more than three channels the first three are shown, of two the first.
    """
    if image.dtype != np.uint8:
        values = np.nan_to_num(image.astype(np.float32), posinf=0.0, neginf=0.0)
        low, high = float(values.min(initial=0)), float(values.max(initial=1))
        if low < 0 or high > 1:
            low, high = float(values.min()), float(values.max())
            values = (values - low) / (high - low or 1.0)
        image = np.rint(values * 255).astype(np.uint8)
    image = image[:3] if len(image) >= 3 else image[:1]
    return np.ascontiguousarray(image.transpose(1, 2, 0))


def picture(image: npt.NDArray[np.uint8], index: int, name: str = "") -> Picture:
    """Return `image`, uint8 `[H, W, C]`, as an event carries it."""
    height, width, channels = image.shape
    return Picture(index=index, height=height, width=width, channels=channels, pixels=image.tobytes(), name=name)


def pixels(picture: Picture) -> npt.NDArray[np.uint8]:
    """Return what `picture` shows, uint8 `[H, W, C]`; without pixels where it has none, or not the right number."""
    shape = (picture.height, picture.width, picture.channels)
    if min(shape) < 0 or len(picture.pixels) != int(np.prod(shape)):
        shape = (0, 0, 1)
    return np.frombuffer(picture.pixels[: int(np.prod(shape))], dtype=np.uint8).reshape(shape)
