"""The bundled digits as a person's own code has them: tensors, a small network with normalisation, loaders."""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

import finetui
from finetui.engine.data.idx import read_pair

_SAMPLE = Path(finetui.__file__).parent / "engine" / "data" / "sample"


class Digits(Dataset):
    """`count` of the bundled MNIST images, float32 `[1, 28, 28]`, and their labels."""

    classes = [f"digit {number}" for number in range(10)]

    def __init__(self, part: str, count: int) -> None:
        images, labels = read_pair(_SAMPLE, part, 10)
        self.images = torch.from_numpy(images[:count].copy()).unsqueeze(1).float() / 255
        self.labels = torch.from_numpy(labels[:count].astype("int64"))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.images[index], self.labels[index]


class DigitNet(nn.Module):
    """A convolution with batch normalisation, another layer, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 5, stride=2)
        self.norm = nn.BatchNorm2d(4)
        self.hidden = nn.Linear(4 * 12 * 12, 16)
        self.head = nn.Linear(16, 10)

    def forward(self, images: Tensor) -> Tensor:
        found = torch.relu(self.norm(self.conv(images)))
        return self.head(torch.relu(self.hidden(found.flatten(1))))


def weights(model: nn.Module) -> dict[str, Tensor]:
    """Return a copy of all that `model` has."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def moved(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    """Return the layers of which some tensor is not the same bit for bit."""
    return {name.rpartition(".")[0] for name, value in before.items() if not torch.equal(value, after[name])}


def trained(model: nn.Module) -> dict[str, Tensor]:
    """Return a copy of the parameters of `model`, which are the same in all processes."""
    return {name: value.detach().clone() for name, value in model.named_parameters()}
