"""JPEG files decoded by libjpeg-turbo, straight to an array."""

import numpy as np
import numpy.typing as npt
from PIL import Image

try:
    import simplejpeg
except ImportError:  # no package for this machine: Pillow gives the same pixels, and takes a third longer
    simplejpeg = None

_SPACES = {"L": "GRAY", "RGB": "RGB"}


def decoded_jpeg(data: bytes, image: Image.Image) -> npt.NDArray[np.uint8] | None:
    """Return the pixels of the file `data`, which Pillow has opened as `image`, uint8 `[H, W, C]`: those that Pillow
    decodes. None: they are Pillow's to decode, since it is no JPEG file, has other colours, or is damaged.
    """
    if simplejpeg is None or image.format != "JPEG" or image.mode not in _SPACES:
        return None
    try:
        pixels: npt.NDArray[np.uint8] = simplejpeg.decode_jpeg(data, _SPACES[image.mode])
    except ValueError:  # Pillow finds words for it, or decodes what is there
        return None
    return pixels if pixels.shape[:2] == (image.height, image.width) else None
