"""The tutorial's LeNet-style network (after LeCun et al., "Gradient-based learning applied to document
recognition", 1998), with the tutorial's finetuning head made to work."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

INPUT_SIZE = 28
FEATURES = 16 * 4 * 4


class LeNet(nn.Module):
    """Two convolutions with max pooling, then three linear layers; ReLU between.

    `forward` takes float32 `[B, in_channels, 28, 28]` and returns logits, float32 `[B, num_classes]`.
    """

    def __init__(self, num_classes: int = 10, in_channels: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 6, 5)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(FEATURES, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, num_classes)
        self.fc4: nn.Linear | None = None

    def add_feature_head(self) -> None:
        """Add the tutorial's finetuning head `fc4`: a new linear layer on the 256 flattened features.

        From then on `forward` goes from the features straight to `fc4`. (The tutorial only assigns the layer, so
        that its forward pass never reaches it and its finetuning changes no weight.) `fc1`, `fc2` and `fc3` stay
        in the state dict, as in the tutorial, but take no part.
        """
        self.fc4 = nn.Linear(FEATURES, self.fc3.out_features)

    @property
    def bypassed(self) -> frozenset[str]:
        """Names of the layers that `forward` does not reach."""
        return frozenset() if self.fc4 is None else frozenset({"fc1", "fc2", "fc3"})

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of a batch of images."""
        # The greatest of four, made positive, is the greatest of four that were made positive: the same numbers and the
        # same gradients as with the tutorial's order, for a quarter of the work.
        x = F.relu_(F.max_pool2d(self.conv1(x), 2))
        x = F.relu_(F.max_pool2d(self.conv2(x), 2))
        x = torch.flatten(x, 1)
        if self.fc4 is not None:
            return self.fc4(x)  # type: ignore[no-any-return]
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        return self.fc3(x)  # type: ignore[no-any-return]
