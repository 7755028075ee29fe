"""Explanations: that they point where the answer is, and that asking changes nothing."""

import numpy as np
import pytest
import torch
import torchvision
from captum.attr import LayerGradCam
from torch import nn
from torch.nn import functional as F
from untouched import in_training, untouched

from finetui.engine.errors import BadInput
from finetui.engine.inspection.explain import METHODS, explain
from finetui.engine.models import LeNet
from finetui.engine.protocol.commands import EXPLANATIONS

ONE = torch.randn(1, 1, 28, 28, generator=torch.Generator().manual_seed(0))
COLOUR = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))


class Corner(nn.Module):
    """Its class 1 is the brightness of the upper left quarter, and nothing else; class 0 is minus that."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3, padding=1)
        self.late = nn.Conv2d(2, 2, 3, padding=1)
        for conv in (self.conv, self.late):
            nn.init.constant_(conv.weight, 0.1)
            nn.init.zeros_(conv.bias)
        self.drop = nn.Dropout(0.9)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.late(F.relu(self.conv(x)))
        bright = self.drop(x)[:, :, :12, :12].mean((1, 2, 3))
        return torch.stack([-bright, bright], dim=1)


class Probe(nn.Module):
    """A head on a backbone that computes without gradients, as people write it."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Conv2d(1, 4, 5)
        self.head = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            features = self.backbone(x).mean((2, 3))
        return self.head(features)


def mlp() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 16), nn.ReLU(inplace=True), nn.Linear(16, 10))


def small_vgg() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8)),
        *(nn.Conv2d(8, 8, 3), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(7), nn.Flatten(), nn.Linear(392, 20)),
        *(nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(20, 10)),
    )


def small_vit() -> nn.Module:
    return torchvision.models.VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=5)


def test_the_methods_are_those_that_can_be_asked_for() -> None:
    assert METHODS == EXPLANATIONS


@pytest.mark.parametrize("method", METHODS)
def test_it_points_at_the_corner_that_the_answer_depends_on(method: str) -> None:
    found = explain(Corner().train(), torch.ones(1, 1, 28, 28), method=method, target=1)
    assert found.values.shape == (28, 28)
    assert found.values.dtype == np.float32
    assert found.values.max() == 1
    if method == "grad-cam":  # its weights are means over the whole map, the map is what the layer sees
        assert found.layer == "late"
        assert found.values.min() >= 0
        return
    inside, outside = found.values[:12, :12], found.values[16:, 16:]
    assert inside.mean() > 0.3
    assert np.abs(outside).max() == 0
    against = explain(Corner().train(), torch.ones(1, 1, 28, 28), method=method, target=0)
    assert np.array_equal(against.values, -found.values)


def test_grad_cam_shows_where_the_last_convolution_sees_the_class() -> None:
    image = torch.zeros(1, 1, 28, 28)
    image[..., :8, :8] = 1
    found = explain(Corner(), image, method="grad-cam", target=1)
    assert np.unravel_index(found.values.argmax(), (28, 28)) < (8, 8)
    assert found.values[16:, 16:].max() == 0
    assert explain(Corner(), image, method="grad-cam", target=0).values.max() == 0  # nothing speaks for it


def test_grad_cam_is_its_formula() -> None:
    torch.manual_seed(0)
    model = LeNet().eval()
    maps = model.conv2(F.max_pool2d(F.relu(model.conv1(ONE)), 2))
    logit = model.fc3(F.relu(model.fc2(F.relu(model.fc1(F.max_pool2d(F.relu(maps), 2).flatten(1))))))[0, 3]
    (gradient,) = torch.autograd.grad(logit, maps)
    expected = F.relu((gradient.mean((2, 3), keepdim=True) * maps).sum(1, keepdim=True))
    expected = F.interpolate(expected, size=(28, 28), mode="bilinear")[0, 0].detach().numpy()
    found = explain(model, ONE, method="grad-cam", target=3)
    assert found.layer == "conv2"
    np.testing.assert_allclose(found.values * found.scale, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("resnet18", "layer4"),
        ("vgg11", "features"),
        ("densenet121", "features"),
        ("efficientnet_b0", "features"),
        ("mobilenet_v3_small", "features"),
        ("convnext_tiny", "features"),
        ("squeezenet1_1", "features"),
        ("shufflenet_v2_x0_5", "conv5"),
        ("mnasnet0_5", "layers"),
    ],
)
def test_grad_cam_looks_at_the_layer_that_is_customary(name: str, layer: str) -> None:
    torch.manual_seed(0)
    assert explain(torchvision.models.get_model(name), COLOUR, method="grad-cam", target=3).layer == layer


def test_of_a_network_of_ones_own_it_looks_at_the_last_maps_before_the_pooling() -> None:
    block = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.MaxPool2d(2))
    model = nn.Sequential(block, nn.Dropout(), nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(72, 5))
    assert explain(model, COLOUR, method="grad-cam", target=3).layer == "0.2"
    assert explain(small_vgg(), COLOUR, method="grad-cam", target=3).layer == "6"

    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = torchvision.models.resnet18(num_classes=5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.backbone(x)

    assert explain(Wrapped(), COLOUR, method="grad-cam", target=3).layer == "backbone.layer4"


@pytest.mark.peers
@pytest.mark.parametrize(
    ("name", "last"), [("resnet18", "layer4"), ("vgg11", "features"), ("squeezenet1_1", "features")]
)
def test_grad_cam_is_that_of_captum_and_pytorch_grad_cam(name: str, last: str) -> None:
    torch.manual_seed(0)
    model = torchvision.models.get_model(name, num_classes=10).eval()
    target = next(label for label in range(10) if explain(model, COLOUR, method="grad-cam", target=label).scale > 1e-6)
    found = explain(model, COLOUR, method="grad-cam", target=target)
    layer = model.get_submodule(last)
    theirs = LayerGradCam(model, layer[-1]).attribute(COLOUR, target, relu_attributions=True)
    theirs = F.interpolate(theirs, size=(64, 64), mode="bilinear")[0, 0].detach().numpy()
    np.testing.assert_allclose(found.values * found.scale, theirs, atol=1e-6 * theirs.max())

    library = pytest.importorskip("pytorch_grad_cam", reason="grad-cam is not installed (extra peers)")
    targets = pytest.importorskip("pytorch_grad_cam.utils.model_targets")
    with library.GradCAM(model=model, target_layers=[layer[-1]]) as cam:
        (map_,) = cam(COLOUR.clone().requires_grad_(), [targets.ClassifierOutputTarget(target)])
    # It stretches the coarse map from its least to its greatest before it enlarges it.
    coarse = LayerGradCam(model, layer[-1]).attribute(COLOUR, target, relu_attributions=True).detach()
    low, high = float(coarse.min()), float(coarse.max())
    np.testing.assert_allclose((found.values * found.scale - low) / (high - low), map_, atol=1e-4)


def test_integrated_gradients_add_up_to_the_difference_in_the_logit() -> None:
    torch.manual_seed(0)
    model = LeNet().eval()
    black = torch.full_like(ONE, -0.42)
    found = explain(model, ONE, method="integrated-gradients", target=7, baseline=black)
    with torch.no_grad():
        difference = (model(ONE) - model(black))[0, 7].item()
    assert abs(difference) > 0.01
    assert found.values.sum() * found.scale == pytest.approx(difference, rel=0.05)
    assert np.abs(found.values).max() == 1


def test_occlusion_is_the_loss_of_what_is_covered() -> None:
    class Sum(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.sum((1, 2, 3), keepdim=True)[:, :, 0, 0]

    image = torch.zeros(1, 1, 14, 14)
    image[..., 6, 6] = 5
    found = explain(Sum(), image, method="occlusion", target=0)
    assert found.scale == 5
    assert {tuple(int(i) for i in place) for place in np.argwhere(found.values)} <= {
        (y, x) for y in range(5, 8) for x in range(5, 8)
    }
    assert found.values[6, 6] == 1


def test_the_baseline_is_what_it_is_compared_with() -> None:
    for method in ("integrated-gradients", "occlusion"):
        found = explain(Corner(), torch.ones(1, 1, 28, 28), method=method, target=1, baseline=torch.ones(1, 1, 28, 28))
        assert found.scale == 0
        assert not found.values.any()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("build", [LeNet, small_vgg, torchvision.models.resnet18])
def test_nothing_of_a_training_is_touched(method: str, build) -> None:
    torch.manual_seed(0)
    images = torch.cat([ONE, ONE]) if build is LeNet else torch.cat([COLOUR, COLOUR])
    model = build()
    in_training(model, images)
    inputs = images[:1].clone()
    with untouched(model):
        found = explain(model, inputs, method=method, target=3)
    assert torch.equal(inputs, images[:1])
    assert not inputs.requires_grad
    with untouched(model), torch.no_grad():
        again = explain(model, inputs, method=method, target=3)
    assert np.array_equal(found.values, again.values)
    assert found.scale > 0 or method == "grad-cam"  # which keeps only what speaks for the class


@pytest.mark.parametrize("method", METHODS)
def test_nothing_is_touched_by_a_failure_midway(method: str) -> None:
    class Fails(LeNet):
        calls = 0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            type(self).calls += 1
            torch.rand(1)
            if type(self).calls >= 3:
                raise ValueError("no more")
            return super().forward(x)

    model = in_training(Fails(), ONE)
    with untouched(model), pytest.raises((ValueError, BadInput), match="no more"):
        explain(model, ONE, method=method, target=0)
        explain(model, ONE, method=method, target=0)


def test_a_first_layer_in_place_leaves_the_image() -> None:
    model = nn.Sequential(
        nn.ReLU(inplace=True), nn.Conv2d(1, 2, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.LazyLinear(3)
    )
    model(ONE.clone())
    inputs = ONE.clone()
    for method in METHODS:
        assert explain(model, inputs, method=method, target=0).scale > 0
        assert torch.equal(inputs, ONE)


def test_what_a_forward_pass_left_on_a_module_does_not_hinder() -> None:
    class Remembers(LeNet):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.seen = self.conv1(x)
            return super().forward(x)

    model = in_training(Remembers(), ONE)
    kept = model.seen
    assert explain(model, ONE, method="grad-cam", target=0).layer == "conv2"
    assert model.seen is kept


def test_a_layer_by_name() -> None:
    found = explain(LeNet(), ONE, method="grad-cam", target=0, layer="conv1")
    assert found.layer == "conv1"
    assert found.values.shape == (28, 28)
    shared = LeNet()
    shared.also = shared.conv1
    again = explain(shared, ONE, method="grad-cam", target=0, layer="also")
    assert again.layer == "also"


@pytest.mark.parametrize("method", ["integrated-gradients", "occlusion"])
@pytest.mark.parametrize("build", [mlp, small_vit])
def test_networks_without_convolutions(method: str, build) -> None:
    torch.manual_seed(0)
    model, inputs = build(), torch.randn(1, 3, 32, 32) if build is small_vit else ONE
    if build is small_vit:
        nn.init.normal_(model.heads.head.weight)  # all zero at first
    with untouched(model):
        assert explain(model, inputs, method=method, target=1).scale > 0
        with pytest.raises(BadInput, match="integrated-gradients and occlusion work"):
            explain(model, inputs, method="grad-cam", target=1)


def test_a_backbone_without_gradients() -> None:
    assert explain(Probe(), ONE, method="occlusion", target=0).scale > 0
    for method in ("grad-cam", "integrated-gradients"):
        with pytest.raises(BadInput, match="no gradient flows back"):
            explain(Probe(), ONE, method=method, target=0)


def test_what_cannot_be_explained_is_refused() -> None:
    refused = (
        ({"method": "magic"}, "no explanation 'magic'"),
        ({"target": 10}, "no class 10: the network has 10"),
        ({"target": -1}, "no class -1"),
        ({"layer": "conv9"}, "no layer 'conv9'"),
        ({"layer": "fc1"}, r"fc1 returns \[1, 120\]"),
        ({"baseline": torch.zeros(1, 3, 28, 28)}, "one image and its baseline"),
    )
    for change, says in refused:
        with pytest.raises(BadInput, match=says):
            explain(LeNet(), ONE, **{"method": "grad-cam", "target": 0} | change)
    for method in METHODS:
        with pytest.raises(BadInput, match="does not take inputs of the shape"):
            explain(LeNet(), COLOUR, method=method, target=0)
        broken = LeNet()
        nn.init.constant_(broken.fc1.weight, float("nan"))
        with pytest.raises(BadInput, match="not finite"):
            explain(broken, ONE, method=method, target=0)
    with pytest.raises(BadInput, match="is not reached by the forward pass"):
        unused = LeNet()
        unused.add_module("unused", nn.Conv2d(1, 1, 1))
        explain(unused, ONE, method="grad-cam", target=0, layer="unused")


def test_a_network_that_cannot_be_copied_is_refused() -> None:
    class Locked(LeNet):
        def __deepcopy__(self, memo: object) -> "Locked":
            raise TypeError("cannot pickle '\x1b[31mlock' object")

    with pytest.raises(BadInput, match=r"cannot be copied.*'�\[31mlock'"):
        explain(Locked(), ONE, method="occlusion", target=0)
