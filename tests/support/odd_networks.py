"""Networks as people write them: each is a factory, called with `num_classes`, for images of 1x28x28."""

import torch
from torch import nn
from torch.nn import functional as F


def body(channels: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, 8, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(2)
    )


class Plain(nn.Module):
    channels = 1

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.body = body(self.channels)
        self.fc = nn.Linear(32, num_classes)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x).flatten(1)

    def forward(self, x: torch.Tensor) -> object:
        return self.fc(self.features(x))


class Coloured(Plain):
    """Makes grey images RGB itself."""

    channels = 3

    def forward(self, x):
        return super().forward(x.expand(-1, 3, -1, -1))


class Shortcut(nn.Module):
    """Its first convolution is not the first that is registered; without a default, of any number of channels."""

    def __init__(self, num_classes, channels=1):
        super().__init__()
        self.shortcut = nn.Conv2d(4, 8, 1, 2)
        self.stem = nn.Conv2d(channels, 4, 3, padding=1)
        self.conv = nn.Conv2d(4, 8, 3, 2, 1)
        self.fc = nn.Linear(8, num_classes)

    def forward(self, x):
        x = F.relu(self.stem(x))
        return self.fc(F.relu(self.conv(x) + self.shortcut(x)).mean((2, 3)))


def for_rgb(num_classes):
    return Shortcut(num_classes, channels=3)


class Lazy(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.conv = nn.LazyConv2d(4, 3, 2)
        self.norm = nn.LazyBatchNorm2d()
        self.fc = nn.LazyLinear(num_classes)

    def forward(self, x):
        return self.fc(F.relu(self.norm(self.conv(x))).flatten(1))


class Cosine(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.body = body()
        self.head = CosineHead(32, num_classes)

    def forward(self, x):
        return self.head(self.body(x).flatten(1))


class CosineHead(nn.Module):
    def __init__(self, features, num_classes):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(num_classes, features))
        self.scale = nn.Parameter(torch.tensor(10.0))

    def forward(self, x):
        return self.scale * F.linear(F.normalize(x, dim=1), F.normalize(self.weight, dim=1))


class Prototypes(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.body = body()
        self.prototypes = nn.Parameter(torch.randn(num_classes, 32))

    def forward(self, x):
        return -torch.cdist(self.body(x).flatten(1), self.prototypes)


class Auxiliary(Plain):
    """Returns a tuple while it trains."""

    def __init__(self, num_classes):
        super().__init__(num_classes)
        self.aux = nn.Linear(32, num_classes)

    def forward(self, x):
        found = self.features(x)
        return (self.fc(found), self.aux(found)) if self.training else self.fc(found)


class Dictionary(Plain):
    def forward(self, x):
        return {"features": self.features(x), "logits": super().forward(x)}


class Result:
    def __init__(self, logits):
        self.loss, self.logits = None, logits


class HuggingFace(Plain):
    def forward(self, x):
        return Result(super().forward(x))


def scripted(num_classes):
    return torch.jit.script(nn.Sequential(body(), nn.Flatten(), nn.BatchNorm1d(32), nn.Linear(32, num_classes)))


def traced(num_classes):
    network = nn.Sequential(body(), nn.Flatten(), nn.Linear(32, num_classes))
    return torch.jit.trace(network, torch.zeros(2, 1, 28, 28))


class Squeezing(nn.Module):
    """Takes no batch of one."""

    def __init__(self, num_classes):
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 28)
        self.fc = nn.Linear(8, num_classes)

    def forward(self, x):
        return self.fc(self.conv(x).squeeze().flatten(1))


class Stateful(Plain):
    """Has extra state, of plain types and tensors."""

    def __init__(self, num_classes):
        super().__init__(num_classes)
        self.calls = 0

    def get_extra_state(self):
        return {"calls": self.calls, "ones": torch.ones(2)}

    def set_extra_state(self, state):
        self.calls = state["calls"]

    def forward(self, x):
        self.calls += self.training
        return super().forward(x)


class Unsavable(Plain):
    def get_extra_state(self):
        return {1.5}

    def set_extra_state(self, state):
        pass


class Ten(Plain):
    """Ignores the number of classes."""

    def __init__(self, num_classes):
        super().__init__(10)


class TenCosine(Cosine):
    def __init__(self, num_classes):
        super().__init__(10)


class OneLogit(Plain):
    def __init__(self, num_classes):
        super().__init__(1)

    def forward(self, x):
        return torch.sigmoid(super().forward(x))


class Halved(Plain):
    def forward(self, x):
        return super().forward(x).bfloat16()


class Viewing(Plain):
    def features(self, x):
        x = self.body(x)
        return x.view(len(x), -1)


class InPlace(Plain):
    def forward(self, x):
        return super().forward(x.sub_(0.5).mul_(2))


class Frozen(Plain):
    def __init__(self, num_classes):
        super().__init__(num_classes)
        self.body.requires_grad_(False)


class FrozenAltogether(Plain):
    def __init__(self, num_classes):
        super().__init__(num_classes)
        self.requires_grad_(False)


class Double(Plain):
    def __init__(self, num_classes):
        super().__init__(num_classes)
        self.double()


class Empty(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.num_classes = num_classes

    def forward(self, x):
        return x.flatten(1)[:, : self.num_classes]


class Features(Plain):
    """Returns a dict without logits."""

    def forward(self, x):
        return {"features": self.features(x)}
