"""A network with its preprocessing in front and its probabilities behind: what ONNX and pt2 files hold."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from finetui.engine.data import Transform
from finetui.engine.models.outputs import outputs_of


class PixelNetwork(nn.Module):
    """Takes pixels `[B, C, H, W]`, uint8 or with `is_float` float32; returns logits and probabilities `[B, classes]`.

    The operations are those of `InputTransform`, in their order; each is one that IEEE 754 rounds, so that any runtime
    computes the same bits of it (but where the image is resized).
    """

    def __init__(self, network: nn.Module, transform: Transform, temperature: float, *, is_float: bool) -> None:
        super().__init__()
        self.network = network
        self._size = (transform.height, transform.width)
        self.takes_floats = is_float
        self._temperature = temperature
        for name in ("mean", "std"):
            values = torch.tensor(getattr(transform, name), dtype=torch.float32).view(1, -1, 1, 1)
            self.register_buffer(name, values)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits, as the network gives them, and the probabilities at the temperature; float32."""
        values = pixels.to(torch.float32)
        if not self.takes_floats:
            values = values / 255
        if self._size[0] and tuple(values.shape[2:]) != self._size:
            shrinks = values.shape[2] > self._size[0] or values.shape[3] > self._size[1]
            values = F.interpolate(values, self._size, mode="bilinear", antialias=shrinks)
        values = (values - self.get_buffer("mean")) / self.get_buffer("std")
        logits = outputs_of(self.network(values)).logits.float()
        scaled = logits if self._temperature == 1 else logits / self._temperature
        return logits, scaled.softmax(1)
