"""Networks that take images of 32x32 alone, and one that ONNX has no operation for."""

import torch
from torch import nn


class Large(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, 2)
        self.head = nn.Linear(4 * 15 * 15, num_classes)

    def forward(self, x):
        return self.head(torch.relu(self.conv(x)).flatten(1))


class NoOnnx(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, 2)
        self.head = nn.Linear(4 * 13 * 13, num_classes)

    def forward(self, x):
        x = torch.special.i1e(self.conv(x))
        return self.head(x.flatten(1))
