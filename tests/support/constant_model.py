"""A network that says what it is told to, and images to say it of."""

import torch
from torch import nn

from finetui.engine.data import ResidentSplit


class Constant(nn.Module):
    """Says `answers[i]` of the i-th image, whose number is in its first pixel."""

    def __init__(self, answers: list[int]) -> None:
        super().__init__()
        self.answers = torch.tensor(answers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        index = (x[:, 0, 0, 0] * 255).round().long()
        return nn.functional.one_hot(self.answers[index], 3).float() * 5


def split(labels: list[int]) -> ResidentSplit:
    images = torch.zeros(len(labels), 1, 2, 2, dtype=torch.uint8)
    images[:, 0, 0, 0] = torch.arange(len(labels), dtype=torch.uint8)
    return ResidentSplit(images, torch.tensor(labels), (0.0,), (1.0,))
