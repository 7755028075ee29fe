"""The input that the configuration of a published network states."""

from typing import NamedTuple

from finetui.engine.protocol.values import Interpolation


class OwnInput(NamedTuple):
    """The input that a network's own configuration states.

    `mean` and `std` are of each channel of pixels in [0, 1]; the shorter side is scaled to `resize` pixels (0: so that
    the image covers the input) with the filter `interpolation`, and `height` x `width` are cut out of the middle. What
    is not stated is empty or 0.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    height: int
    width: int
    resize: int
    interpolation: Interpolation | None
