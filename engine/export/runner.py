"""What an opened export is: something that takes pixels and returns logits and probabilities."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from finetui.engine.export.description import Description

Floats = npt.NDArray[np.float32]
# Pixels `[B, C, H, W]`, uint8 or float32, to logits and probabilities `[B, classes]`.
Run = Callable[[npt.NDArray[np.generic]], tuple[Floats, Floats]]


@dataclass(frozen=True)
class Runner:
    """An exported file, opened: what it says of itself, and its network as `run`."""

    description: Description
    run: Run

    def __call__(self, pixels: npt.NDArray[np.generic]) -> tuple[Floats, Floats]:
        """Return logits and probabilities `[B, classes]` of `pixels`, one image at a time where it takes no more."""
        if self.description.dynamic_batch or len(pixels) == 1:
            return self.run(pixels)
        pairs = [self.run(pixels[index : index + 1]) for index in range(len(pixels))]
        logits, probabilities = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
        return logits, probabilities
