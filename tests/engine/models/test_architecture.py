"""Any network by name: built, fitted to images, refused in words."""

from pathlib import Path

import pytest
import torch

from finetui.engine.errors import BadInput
from finetui.engine.models import Architecture, build, check_model, find_head, fit_input, supports_feature_head

OWN = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.fc1 = nn.Linear(4, 8)
        self.fc2 = nn.Linear(8, num_classes)

    def forward(self, x):
        x = self.norm(self.stem(x)).mean((2, 3))
        return self.fc2(self.fc1(x).relu())

def always_ten(num_classes):
    return Net(10)

def lazy(num_classes):
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(6), nn.ReLU(), nn.Linear(6, num_classes))

def raises(num_classes):
    raise OSError("no such \\x1b[31mfile")

def no_module(num_classes):
    return [num_classes]

def no_argument():
    return Net(10)

def only_32(num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(32 * 32, num_classes))

def a_tuple(num_classes):
    class Two(Net):
        def forward(self, x):
            return x, super().forward(x)
    return Two(num_classes)

def no_head(num_classes):
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
"""


@pytest.fixture
def own(tmp_path: Path) -> str:
    path = tmp_path / "own_net.py"
    path.write_text(OWN)
    return str(path)


def architecture(name: str, **given: object) -> Architecture:
    return Architecture(**({"name": name, "num_classes": 5, "in_channels": 1, "height": 32, "width": 32} | given))


@pytest.mark.parametrize("name", ["lenet", "resnet18", "mobilenet_v3_small", "squeezenet1_1"])
def test_networks_take_grey_images_and_tell_the_classes_apart(name: str) -> None:
    height, width = fit_input(name, 1, 28, 28)
    assert (height, width) == (28, 28)
    model = build(architecture(name, height=height, width=width), 0)
    assert model(torch.randn(2, 1, height, width)).shape == (2, 5)


def test_weights_come_from_the_seed_and_leave_the_global_generator_alone(own: str) -> None:
    for name in ("squeezenet1_1", f"{own}:always_ten"):
        torch.manual_seed(5)
        expected = torch.rand(3)
        torch.manual_seed(5)
        first, second, other = (build(architecture(name), seed).state_dict() for seed in (1, 1, 2))
        assert torch.equal(torch.rand(3), expected)
        assert all(torch.equal(first[key], second[key]) for key in first)
        assert not all(torch.equal(first[key], other[key]) for key in first)


def test_a_misspelt_name_gets_a_suggestion() -> None:
    for check in (check_model, lambda name: build(architecture(name), 0)):
        with pytest.raises(BadInput, match=r"--model.*'resnet81'; did you mean .*resnet18"):
            check("resnet81")


@pytest.mark.parametrize(
    ("name", "images", "expected"),
    [
        ("lenet", (64, 64), (28, 28)),
        ("resnet18", (30, 50), (30, 50)),
        ("densenet121", (28, 28), (32, 32)),
        ("alexnet", (28, 28), (64, 64)),
        ("vit_b_16", (28, 28), (32, 32)),
        ("vit_b_16", (48, 48), (48, 48)),
        ("vit_b_16", (48, 64), (64, 64)),
        ("maxvit_t", (28, 28), (224, 224)),
        ("maxvit_t", (500, 500), (224, 224)),
        ("inception_v3", (28, 28), (96, 96)),
        ("regnet_x_400mf", (28, 28), (28, 28)),
    ],
)
def test_images_are_fitted_to_the_network(name: str, images: tuple[int, int], expected: tuple[int, int]) -> None:
    assert fit_input(name, 3, *images) == expected


def test_what_no_size_fits_is_refused() -> None:
    with pytest.raises(BadInput, match="images of 3 channels and these have 2"):
        fit_input("resnet18", 2, 32, 32)
    with pytest.raises(BadInput, match=r"vit_b_16.*28x28"):
        build(architecture("vit_b_16", height=28, width=28), 0)


def test_on_meta_nothing_is_computed() -> None:
    for name in ("regnet_y_400mf", "vit_b_16", "lenet"):
        size = 28 if name == "lenet" else 32
        with torch.device("meta"):
            model = build(architecture(name, height=size, width=size), 0)
            head = find_head(model, torch.zeros(2, 1, size, size))
        assert head in ("fc", "heads.head", "fc3")
        assert {tensor.device.type for tensor in model.state_dict().values()} == {"meta"}


def test_auxiliary_outputs_are_off() -> None:
    model = build(architecture("googlenet"), 0).train()
    assert isinstance(model(torch.randn(2, 1, 32, 32)), torch.Tensor)


@pytest.mark.parametrize(
    ("name", "head", "taken_out"),
    [
        ("mobilenet_v3_small", "classifier.head", "classifier.0"),
        ("squeezenet1_1", "classifier.1", ""),
        ("resnet18", "fc", ""),
    ],
)
def test_the_feature_head_is_one_linear_layer_on_the_features(name: str, head: str, taken_out: str) -> None:
    plain, model = (build(architecture(name, head=kind), 0) for kind in ("classifier", "features"))
    assert supports_feature_head(plain)
    images = torch.randn(2, 1, 32, 32)
    assert find_head(model, images) == head
    assert model.eval()(images).shape == (2, 5)
    assert not taken_out or f"{taken_out}.weight" not in model.state_dict()


def test_a_classifier_written_in_forward_has_no_feature_head(own: str) -> None:
    name = f"{own}:Net"
    assert not supports_feature_head(build(architecture(name), 0))
    with pytest.raises(BadInput, match="no feature head; use --head replace"):
        build(architecture(name, head="features"), 0)


@pytest.mark.parametrize("factory", ["Net", "always_ten", "lazy"])
def test_a_persons_own_network_is_made_to_fit(own: str, factory: str) -> None:
    name = f"{own}:{factory}"
    check_model(name)
    assert fit_input(name, 1, 28, 28) == (28, 28)
    model = build(architecture(name, height=28, width=28), 3)
    assert model(torch.randn(2, 1, 28, 28)).shape == (2, 5)


def test_a_persons_own_network_gets_the_size_it_takes(own: str) -> None:
    assert fit_input(f"{own}:only_32", 1, 28, 28) == (32, 32)


@pytest.mark.parametrize(
    ("factory", "problem"),
    [
        ("raises", r"own_net.py:raises raised OSError: no such �\[31mfile"),
        ("no_module", "own_net.py:no_module must return an nn.Module, not list"),
        ("no_argument", "own_net.py:no_argument is called with num_classes"),
        ("missing", "has no function or class 'missing'"),
        ("a_tuple", r"must return logits, a tensor .* returns \[2, 1, 32, 32\]"),
        ("no_head", "has no parameters"),
    ],
)
def test_own_code_that_cannot_be_used_is_refused_in_words(own: str, factory: str, problem: str) -> None:
    with pytest.raises(BadInput, match=problem):
        build(architecture(f"{own}:{factory}"), 0)


def test_an_unknown_head_is_refused() -> None:
    with pytest.raises(BadInput, match="no head 'both'"):
        build(architecture("resnet18", head="both"), 0)
