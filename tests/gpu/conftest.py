"""What needs a GPU: `make gpu` runs it, without a network, on data that comes with finetui or is generated."""

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from finetui.engine.data import ImageData
from finetui.engine.data.user_datasets import from_datasets

CUDA = torch.cuda.is_available()
# `FINETUI_TEST_DEVICE=cpu` tries the tests themselves on a machine without a GPU; what is CUDA's own is skipped.
DEVICE = os.environ.get("FINETUI_TEST_DEVICE", "cuda")


@pytest.fixture(autouse=True)
def _nothing_is_left_on_the_gpu() -> Iterator[None]:
    if DEVICE == "cuda" and not CUDA:
        pytest.skip("needs a GPU with CUDA, and torch sees none here")
    yield
    torch.compiler.reset()
    if CUDA:
        torch.cuda.empty_cache()


@pytest.fixture
def gpu() -> str:
    """The name of the device that is tested."""
    return DEVICE


@pytest.fixture
def cuda() -> torch.device:
    """A real GPU."""
    if not CUDA:
        pytest.skip("needs a GPU with CUDA, and torch sees none here")
    return torch.device("cuda")


@pytest.fixture
def full_float32() -> Iterator[None]:
    """Products in float32 without TensorFloat-32, by which torch computes convolutions on CUDA."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, matmul.allow_tf32
    cudnn.allow_tf32 = matmul.allow_tf32 = False
    yield
    cudnn.allow_tf32, matmul.allow_tf32 = before


class Generated(torch.utils.data.Dataset):
    """Images of coloured noise around a colour for each of four classes."""

    classes = ("red", "green", "blue", "grey")

    def __init__(self, count: int, side: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.labels = torch.arange(count) % 4
        colours = torch.tensor([[190, 60, 60], [60, 190, 60], [60, 60, 190], [110, 110, 110]])
        noise = torch.randint(0, 60, (count, 3, side, side), generator=generator)
        self.images = (colours[self.labels][:, :, None, None] + noise).to(torch.uint8)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.images[index], int(self.labels[index])


@pytest.fixture
def generated() -> Callable[..., ImageData]:
    """Return a maker of generated images on a device."""

    def make(device: str, side: int = 64, train: int = 160, test: int = 40, **settings: Any) -> ImageData:
        return from_datasets(Generated(train, side, 0), Generated(test, side, 1), torch.device(device), **settings)

    return make
