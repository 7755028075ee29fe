"""Images in the 256 colours of xterm's table."""

import numpy as np
import numpy.typing as npt

from finetui.tui.colours.palettes import AGAINST_256, FOR_256, sent_as

_LEVELS = np.array([0, 95, 135, 175, 215, 255])  # of the colour cube
_BETWEEN = (_LEVELS[1:] + _LEVELS[:-1]) / 2
_GREYS = np.array([0, *range(8, 239, 10), 255])  # black, the ramp, white
_SENT_GREYS = np.array([sent_as(number)[0] for number in (16, *range(232, 256), 231)], dtype=np.uint8)
_STRENGTHS, _SHADES = len(FOR_256), len(FOR_256[0])
_TINTS = np.array([[sent_as(number) for number in row] for row in FOR_256 + AGAINST_256], dtype=np.uint8)


def reduced(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return `image`, uint8 `[H, W, 3]`, in the nearest colours of the table (in RGB), as Rich sends them."""
    parts = image.astype(np.int32)
    cube = _LEVELS[np.searchsorted(_BETWEEN, parts)]
    place = np.clip(np.rint((parts.mean(2) + 2) / 10), 0, len(_GREYS) - 1).astype(int)
    grey = _GREYS[place][:, :, None]
    is_grey = ((grey - parts) ** 2).sum(2) <= ((cube - parts) ** 2).sum(2)
    is_grey |= (cube == cube[:, :, :1]).all(2)  # Rich never sends the cube's own greys
    return np.where(is_grey[:, :, None], _SENT_GREYS[place][:, :, None], cube).astype(np.uint8)


def tinted(grey: npt.NDArray[np.float64], values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Return a grey image, `[H, W]` from 0 to 255, darkened, with tints from the table for `values`, -1 to 1."""
    found = np.repeat(np.rint(grey * 0.6).astype(np.uint8)[:, :, None], 3, 2)
    strength = np.rint(np.minimum(np.abs(values), 1) * _STRENGTHS).astype(int)
    shade = np.minimum(grey * _SHADES / 256, _SHADES - 1).astype(int)
    row = np.where(values > 0, 0, _STRENGTHS) + strength - 1
    return np.where((strength > 0)[:, :, None], _TINTS[np.maximum(row, 0), shade], found)
