"""Pictures scaled by torch and cut out as torchvision's `Resize` and `CenterCrop` do it."""

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from finetui.engine.protocol.values import Decoding

_FILTERS = ("bilinear", "bicubic")


def is_by_torch(decoding: Decoding) -> bool:
    """Whether pictures that are not decoded to a fraction of their size are scaled by torch."""
    return decoding.resampler == "torch" and decoding.resize > 0 and decoding.interpolation in _FILTERS


def resized(pixels: npt.NDArray[np.uint8], decoding: Decoding) -> npt.NDArray[np.uint8]:
    """Return `pixels`, uint8 `[h, w, C]`, as `decoding` has them, uint8 `[C, H, W]`; black where they do not reach.

    torch's filters are Pillow's with weights of 16 bits in place of 32: half the time, and pixels that differ by one
    level of 255, rarely two, in less than one of twenty. They are the same with and without AVX.
    """
    height, width = pixels.shape[:2]
    width, height = scaled_size((width, height), decoding.resize)
    values = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    scaled = F.interpolate(values, (height, width), mode=decoding.interpolation, antialias=True)
    left, top = crop_start(width, decoding.width), crop_start(height, decoding.height)
    if left < 0 or top < 0:  # the negative of what is added is cut off
        scaled = F.pad(scaled, (-left, left + decoding.width - width, -top, top + decoding.height - height))
    else:
        scaled = scaled[:, :, top : top + decoding.height, left : left + decoding.width]
    found: npt.NDArray[np.uint8] = scaled[0].contiguous().numpy()
    return found


def scaled_size(size: tuple[int, int], resize: int) -> tuple[int, int]:
    """Return what a picture of this `size`, (width, height), becomes when its shorter side is scaled to `resize`."""
    long = int(resize * max(size) / min(size))
    return (resize, long) if size[0] <= size[1] else (long, resize)


def crop_start(have: int, want: int) -> int:
    """Return where the middle `want` of `have` pixels begins in torchvision's `center_crop`; below 0 if outside."""
    return -((want - have) // 2) if want > have else round((have - want) / 2)
