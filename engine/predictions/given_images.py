"""The images that a watched loop gave with its predictions: files, or arrays that are kept beside them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from finetui.engine.errors import BadInput, reason_of
from finetui.engine.files import replacing
from finetui.engine.predictions.file import Predictions, load_predictions
from finetui.engine.predictions.images import for_people, picture, reduce
from finetui.engine.protocol.commands import FetchImages
from finetui.engine.protocol.events import Images, Picture
from finetui.engine.text import clean

MOST_IMAGES = 256  # in one answer
_MOST_BYTES = 2**30  # of arrays that are kept
_ARRAYS = "images"


def kept_beside(predictions: Path) -> Path:
    """Return the file that keeps the arrays of what is in the file `predictions`."""
    return predictions.with_suffix(".pixels")


def as_people_see(images: Sequence[Any] | npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Return `images` of one size, `[n, C, H, W]` or `[n, H, W]`, bytes or floats, as uint8 `[n, H, W, 1 or 3]`.

    Images whose last dimension is 1, 3 or 4, where the first is not, have their channels there. Floats are shown as
    `for_people` does. Raises `BadInput` for anything else, and for more than a gigabyte.
    """
    try:
        first = _channels_first(np.asarray(images[0]))
        shown = for_people(first)
        if len(images) * shown.nbytes > _MOST_BYTES:
            raise BadInput(f"{len(images):,} images of {shown.shape} are more than a gigabyte; give the paths of files")
        kept = np.empty((len(images), *shown.shape), dtype=np.uint8)
        for place, image in enumerate(images):
            kept[place] = for_people(_channels_first(np.asarray(image)))
    except (ValueError, TypeError, IndexError) as error:
        raise BadInput(f"the images cannot be shown: {reason_of(error)}; give uint8 or float [n, C, H, W]") from error
    return kept


def _channels_first(image: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if image.ndim == 2:
        return image[None]
    if image.ndim != 3:
        raise BadInput(f"an image has 2 or 3 dimensions, and one of {image.shape} was given")
    return image.transpose(2, 0, 1) if image.shape[0] not in (1, 3, 4) and image.shape[2] in (1, 3, 4) else image


def keep(path: Path, images: npt.NDArray[np.uint8]) -> None:
    """Write `images`, uint8 `[n, H, W, C]`, to `path`. Raises OSError."""
    from safetensors.numpy import save  # takes a while to import

    with replacing(path, synced=False) as file:
        file.write(save({_ARRAYS: images}))


def answer(question: FetchImages, predictions: Path) -> Images:
    """Return the images that `question` asks for, of those in the file `predictions`. Raises `BadInput`."""
    if len(question.indices) > MOST_IMAGES:
        raise BadInput(f"at most {MOST_IMAGES} images can be asked for at a time, not {len(question.indices)}")
    found = load_predictions(predictions)
    rows = {int(index): row for row, index in enumerate(found.index)}
    arrays = _arrays(kept_beside(predictions), len(found)) if not len(found.files) else None
    return Images(
        command=question,
        pictures=tuple(_picture(index, rows.get(index), found, arrays, question.side) for index in question.indices),
    )


def _arrays(path: Path, count: int) -> Any:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        return None
    try:
        arrays = safe_open(path, framework="numpy").get_slice(_ARRAYS)
    except (OSError, SafetensorError) as error:
        raise BadInput(f"{path} cannot be read: {reason_of(error)}") from error
    return arrays if arrays.get_shape()[0] == count else None


def _picture(index: int, row: int | None, found: Predictions, arrays: Any, side: int) -> Picture:
    if row is None:
        return Picture(index=index, problem=f"there is no image {index}; there are {len(found):,}")
    path = found.files.path(row)
    if path:
        return _decoded(index, path, max(side, 0))
    if arrays is None:
        return Picture(index=index, problem="the loop gave no images with its predictions")
    return picture(reduce(arrays[row : row + 1][0], max(side, 0)), index, f"image {index}")


def _decoded(index: int, path: str, side: int) -> Picture:
    from PIL import Image, UnidentifiedImageError

    name = clean(path, 4096)
    try:
        with Image.open(path) as image:
            if side:
                image.draft(None, (2 * side, 2 * side))  # a JPEG file is decoded to no more than is shown
            pixels = np.asarray(image.convert("L" if image.mode in ("1", "L") else "RGB"))
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return Picture(index=index, name=name, problem=f"{name} cannot be read: {reason_of(error, 100)}")
    return picture(reduce(pixels.reshape(*pixels.shape[:2], -1), side), index, name)
