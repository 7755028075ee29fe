"""A small residual network with batch normalisation, for images of one channel, some of which takes no part in it."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class NormedNetwork(nn.Module):
    """Two convolutions around a residual block; `spare` has parameters that the forward pass does not use."""

    def __init__(self, seed: int = 0, dropout: float = 0.0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.stem = nn.Conv2d(1, 8, 5, stride=3, bias=False)
            self.norm1 = nn.BatchNorm2d(8)
            self.inner = nn.Conv2d(8, 8, 3, padding=1, bias=False)
            self.norm2 = nn.BatchNorm2d(8)
            self.mixed = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
            self.spare = nn.Parameter(torch.ones(3))
            self.drop = nn.Dropout(dropout)
            self.fc = nn.Linear(8, 10)

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu(self.norm1(self.stem(images)))
        x = F.relu(x + self.norm2(self.inner(x)))
        x = self.mixed[0](x.mean((2, 3)))  # the second one takes no part either
        return self.fc(self.drop(x))
