"""Augmentation of whole batches on the device, with parameters drawn for each image.

torchvision's own v2 transforms give all images of a batch the same parameters; these are v2 transforms, too, so they
compose with those, but draw for each image.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms import v2

from finetui.engine.data.transform import Part


class BatchAffine(v2.Transform):  # type: ignore[misc]  # torchvision has no types
    """Shifts, turns, scales and flips each image of a float batch `[B, C, H, W]` in [0, 1]; edges become black.

    `shift` is the largest shift as a share of the side, `degrees` the largest angle, `scale` the range of factors.
    """

    def __init__(
        self, *, shift: float, degrees: float, scale: tuple[float, float] = (1.0, 1.0), flip: bool = False
    ) -> None:
        super().__init__()
        self.shift = shift
        self.degrees = degrees
        self.scale = scale
        self.flip = flip
        self.generator: torch.Generator | None = None
        self.part: Part | None = None

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the parameters: for each image a matrix `[2, 3]` from the result's coordinates to the image's."""
        images = flat_inputs[0]
        count, device, generator = len(images), images.device, self.generator
        first, total = self.part or (0, count)

        def draw(low: float, high: float) -> Tensor:
            draws = torch.rand(total, device=device, generator=generator)[first : first + count]
            return low + (high - low) * draws

        angle = draw(-self.degrees, self.degrees) * (math.pi / 180)
        factor = 1 / draw(*self.scale)
        # Coordinates run from -1 to 1 along either side, so a turn must know how long these are.
        aspect = images.shape[-1] / images.shape[-2]
        mirror = torch.where(draw(0, 1) < 0.5, -1.0, 1.0) if self.flip else torch.ones(count, device=device)
        cos, sin = torch.cos(angle) * factor, torch.sin(angle) * factor
        x, y = 2 * draw(-self.shift, self.shift), 2 * draw(-self.shift, self.shift)
        rows = (cos * mirror, -sin / aspect, x, sin * aspect * mirror, cos, y)
        return {"theta": torch.stack(rows, dim=1).view(count, 2, 3)}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Return the batch after its transformation."""
        grid = F.affine_grid(params["theta"].to(inpt.dtype), list(inpt.shape), align_corners=False)
        return F.grid_sample(inpt, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


class BatchJitter(v2.Transform):  # type: ignore[misc]
    """Changes brightness and contrast of each image of a float batch `[B, C, H, W]` in [0, 1] by up to `amount`."""

    def __init__(self, amount: float) -> None:
        super().__init__()
        self.amount = amount
        self.generator: torch.Generator | None = None
        self.part: Part | None = None

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw two factors for each image."""
        count, device = len(flat_inputs[0]), flat_inputs[0].device
        first, total = self.part or (0, count)
        draws = torch.rand((2, total, 1, 1, 1), device=device, generator=self.generator)[:, first : first + count]
        brightness, contrast = 1 + self.amount * (2 * draws - 1)
        return {"brightness": brightness, "contrast": contrast}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Return the batch after its change."""
        bright = inpt * params["brightness"]
        mean = bright.mean(dim=(1, 2, 3), keepdim=True)
        return (mean + (bright - mean) * params["contrast"]).clamp_(0, 1)


# By name; the parameters are those of torchvision's examples, made mild for small images.
STEPS: dict[str, tuple[BatchAffine | BatchJitter, ...]] = {
    "light": (BatchAffine(shift=0.07, degrees=10),),
    "standard": (BatchAffine(shift=0.07, degrees=10, scale=(0.85, 1.15), flip=True), BatchJitter(0.2)),
}
