"""The head is found by running, and replaced; the stem takes other channels."""

import pytest
import torch
from torch import nn

from finetui.engine.errors import BadInput
from finetui.engine.models import adapt_stem, find_head, replace_head


class Scrambled(nn.Module):
    """A network whose head is defined first, and used last."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3, bias=False, dtype=torch.float64)
        self.conv = nn.Conv2d(1, 4, 3)
        self.unused = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.conv(x).mean((2, 3)).double()).clamp(-9, 9)


def test_the_head_is_what_runs_last() -> None:
    assert find_head(Scrambled(), torch.zeros(2, 1, 8, 8)) == "head"


def test_a_convolution_can_be_the_head() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 3, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert find_head(model, torch.zeros(2, 1, 8, 8)) == "1"
    replace_head(model, "1", 6, 0)
    assert model(torch.zeros(2, 1, 8, 8)).shape == (2, 6)


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        (nn.Conv2d(1, 4, 3), r"returns \[2, 4, 6, 6\]"),
        (nn.Flatten(), "has no parameters, so there is nothing to train"),
        (nn.Sequential(nn.Flatten(), nn.Linear(7, 2)), r"does not take inputs of the shape \[2, 1, 8, 8\]"),
    ],
)
def test_a_network_without_a_head_is_refused(model: nn.Module, problem: str) -> None:
    with pytest.raises(BadInput, match=problem):
        find_head(model, torch.zeros(2, 1, 8, 8))


def test_a_new_head_is_like_the_old_one_and_comes_from_the_seed() -> None:
    first, second = Scrambled(), Scrambled()
    torch.manual_seed(1)
    expected = torch.rand(2)
    torch.manual_seed(1)
    for model in (first, second):
        replace_head(model, "head", 7, seed=4)
    assert torch.equal(torch.rand(2), expected)
    assert first.head.bias is None
    assert first.head.weight.dtype is torch.float64
    assert first.head.weight.shape == (7, 4)
    assert torch.equal(first.head.weight, second.head.weight)
    with pytest.raises(BadInput, match="neither an nn.Linear nor an nn.Conv2d"):
        replace_head(nn.Sequential(nn.ReLU()), "0", 3, 0)


def test_a_grey_image_is_seen_as_its_rgb_copy() -> None:
    grey = torch.randn(2, 1, 8, 8)
    for channels in (1, 3):
        model = nn.Sequential(nn.Conv2d(channels, 4, 3))
        before = model(grey.expand(-1, channels, -1, -1))
        sentence = adapt_stem(model, 4 - channels)
        assert sentence is not None
        assert "filters of 0" in sentence
        assert torch.allclose(model(grey.expand(-1, 4 - channels, -1, -1)), before, atol=1e-6)
        assert adapt_stem(model, 4 - channels) is None


def test_other_channels_are_refused() -> None:
    with pytest.raises(BadInput, match="images of 3 channels and these have 4"):
        adapt_stem(nn.Sequential(nn.Conv2d(3, 4, 3)), 4)


def test_looking_for_the_head_leaves_no_trace() -> None:
    model = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Dropout(), nn.Linear(4, 3))
    model[2].eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert find_head(model, torch.ones(2, 1, 2, 2)) == "3"
    assert [module.training for module in model.modules()] == [True, True, True, False, True]
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
