"""Looks into a layer: the right numbers, in small images, and nothing touched."""

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given, settings, strategies as st
from torch import nn
from torch.nn import functional as F
from untouched import in_training, untouched

from finetui.engine.errors import BadInput
from finetui.engine.inspection.layer_views import (
    activation_histogram,
    feature_maps,
    histogram,
    weight_filters,
    weight_histogram,
)
from finetui.engine.models import LeNet

ONE = torch.randn(1, 1, 28, 28, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def lenet() -> LeNet:
    torch.manual_seed(0)
    return LeNet()


class Odd(nn.Module):
    """Shared, unused, parametrised and normed modules; outputs in tuples and dicts; work in place."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.relu = nn.ReLU(inplace=True)
        self.again = nn.Conv2d(4, 4, 3, padding=1)
        self.alias = self.again
        self.unused = nn.Linear(2, 2)
        self.spectral = nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4))
        self.wrapped = Wrap()
        self.silent = Silent()
        self.norm = nn.LayerNorm(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.conv(x))
        x = self.again(self.again(x))
        x = self.wrapped(x)["maps"][0]
        self.silent(x)
        self.norm(x.permute(0, 2, 3, 1))
        return self.spectral(x.mean((2, 3)))


class Wrap(nn.Module):
    def forward(self, x: torch.Tensor) -> dict[str, tuple[torch.Tensor]]:
        return {"maps": (x,)}


class Silent(nn.Module):
    def forward(self, x: torch.Tensor) -> None:
        return None


def odd() -> Odd:
    torch.manual_seed(0)
    return Odd()


def test_filters_are_the_weights_with_zero_in_mid_grey(lenet: LeNet) -> None:
    with torch.no_grad():
        lenet.conv1.weight.zero_()
        lenet.conv1.weight[2, 0, 0] = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0])
    page = weight_filters(lenet, "conv1", 1, 4)
    assert (page.first, page.total, page.shape) == (1, 6, (6, 1, 5, 5))
    assert [image.name for image in page.images] == ["1", "2", "3", "4"]
    assert page.images[1].pixels[0].tolist() == [1, 64, 128, 192, 255]
    assert page.images[1].pixels[1:].tolist() == [[128] * 5] * 4
    assert (page.images[0].pixels == 128).all()
    assert (page.statistics.minimum, page.statistics.maximum, page.statistics.mean) == (-2, 2, 0)
    assert page.statistics.zeros == pytest.approx(146 / 150)


def test_filters_of_several_channels_are_shown_slice_by_slice(lenet: LeNet) -> None:
    page = weight_filters(lenet, "conv2", 5, 3)
    assert page.total == 16 * 6
    assert [image.name for image in page.images] == ["0.5", "1.0", "1.1"]
    weight = lenet.conv2.weight.detach()
    expected = 128 + weight[1, 0] / weight.abs().max() * 127
    np.testing.assert_array_equal(page.images[1].pixels, expected.round().numpy())
    assert len(weight_filters(lenet, "conv2", 90, 64).images) == 6


def test_filters_that_see_colours_are_in_colour() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 2))
    with torch.no_grad():
        model[0].weight.zero_()
        model[0].weight[3, 0, 0, 1] = -1
        model[0].weight[3, 2, 1, 0] = 1
    page = weight_filters(model, "0", 0, 64)
    assert (page.total, [image.name for image in page.images]) == (4, ["0", "1", "2", "3"])
    assert page.images[3].pixels.tolist() == [[[128] * 3, [1, 128, 128]], [[128, 128, 255], [128] * 3]]


def test_a_linear_layers_weights_are_folded() -> None:
    model = nn.Sequential(nn.Linear(7, 2))
    with torch.no_grad():
        model[0].weight[:] = torch.arange(7.0) / 6
    page = weight_filters(model, "0", 1, 1)
    assert (page.total, page.images[0].name) == (2, "1")
    assert page.images[0].pixels.tolist() == [[128, 149, 170], [192, 213, 234], [255, 128, 128]]
    assert weight_filters(nn.Sequential(nn.Linear(784, 2)), "0", 0, 1).images[0].pixels.shape == (28, 28)


def test_weights_that_are_not_finite_are_shown_all_the_same(lenet: LeNet) -> None:
    with torch.no_grad():
        lenet.conv1.weight[0, 0, 0] = torch.tensor([torch.nan, torch.inf, -torch.inf, 0.0, 0.0])
    page = weight_filters(lenet, "conv1", 0, 1)
    assert page.images[0].pixels[0].tolist() == [128, 255, 1, 128, 128]
    assert page.statistics.not_finite == 3
    with torch.no_grad():
        lenet.conv1.weight.fill_(torch.nan)
    page = weight_filters(lenet, "conv1", 0, 1)
    assert (page.images[0].pixels == 128).all()
    assert page.statistics.not_finite == 150


def test_other_layers_with_filters() -> None:
    attention = nn.Sequential(nn.MultiheadAttention(8, 2))
    assert weight_filters(attention, "0", 0, 64).shape == (24, 8)  # the projection of queries, keys and values
    assert weight_filters(nn.Sequential(nn.Conv1d(2, 3, 5)), "0", 0, 64).images[5].pixels.shape == (1, 5)
    depthwise = nn.Sequential(nn.Conv2d(4, 4, 3, groups=4))
    assert [image.name for image in weight_filters(depthwise, "0", 0, 64).images] == ["0", "1", "2", "3"]


def test_feature_maps_are_the_output_from_its_smallest_to_its_largest(lenet: LeNet) -> None:
    lenet.eval()
    page = feature_maps(lenet, "conv1", ONE, 4, 64)
    output = lenet.conv1(ONE)[0].detach()
    assert (page.first, page.total, page.shape) == (4, 6, (6, 24, 24))
    assert [image.name for image in page.images] == ["4", "5"]
    expected = (output - output.min()) / (output.max() - output.min()) * 255
    np.testing.assert_allclose(page.images[1].pixels, expected[5], atol=0.51)
    assert (page.statistics.minimum, page.statistics.maximum) == (output.min().item(), output.max().item())
    assert page.statistics.mean == pytest.approx(output.mean().item())


def test_dead_units_are_counted_where_the_layer_is_and_not_after_it() -> None:
    model = odd().eval()
    conv = F.conv2d(ONE, model.conv.weight, model.conv.bias)
    before, after = feature_maps(model, "conv", ONE, 0, 1), feature_maps(model, "relu", ONE, 0, 1)
    assert before.statistics.minimum == pytest.approx(conv.min().item())  # the ReLU works in place
    assert before.statistics.zeros == 0
    assert after.statistics.zeros == pytest.approx((conv < 0).float().mean().item())
    assert after.statistics.minimum == 0


def test_vectors_and_tokens_are_folded() -> None:
    torch.manual_seed(0)
    page = feature_maps(LeNet(), "fc1", ONE, 0, 64)
    assert (page.total, page.shape, page.images[0].pixels.shape) == (1, (120,), (11, 11))
    assert page.images[0].pixels.ravel()[120] == 0
    vit = torchvision.models.VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=5)
    inputs = torch.randn(1, 3, 32, 32)
    tokens = feature_maps(vit, "encoder.layers.encoder_layer_1.mlp", inputs, 15, 64)
    assert (tokens.total, tokens.shape, tokens.images[0].pixels.shape) == (17, (17, 16), (4, 4))
    assert [image.name for image in tokens.images] == ["15", "16"]
    attention = feature_maps(vit, "encoder.layers.encoder_layer_1.self_attention", inputs, 0, 1)
    assert attention.shape == (17, 16)  # a tuple, of which the first is shown
    last = feature_maps(odd(), "norm", ONE, 0, 64)
    assert (last.total, last.images[0].pixels.shape) == (4, (26, 26))  # its channels come last


def test_odd_modules_are_looked_into_as_well() -> None:
    model = odd().eval()
    with torch.no_grad():
        seen = model.again(model.again(F.relu(model.conv(ONE))))
    for layer in ("again", "alias", "wrapped"):  # the last call, the same module, a dict with a tuple in it
        page = feature_maps(model, layer, ONE, 0, 1)
        assert page.shape == (4, 26, 26)
        assert page.statistics.maximum == pytest.approx(seen.max().item())
    model.train()
    with untouched(model):  # spectral norm goes a step on whenever its weight is read in training
        weights = weight_filters(model, "spectral", 0, 4)
    assert weights.statistics.maximum == pytest.approx(model.eval().spectral.weight.max().item())
    assert feature_maps(model, "", ONE, 0, 1).shape == (4,)


def test_a_constant_layer_is_black() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3))
    nn.init.zeros_(model[0].weight)
    nn.init.constant_(model[0].bias, 3.0)
    page = feature_maps(model, "0", ONE, 0, 2)
    assert not page.images[1].pixels.any()
    assert (page.statistics.minimum, page.statistics.maximum) == (3, 3)
    found = activation_histogram(model, "0", ONE)
    assert found.counts.sum() == found.counts[16] == 2 * 26 * 26


@given(
    st.lists(st.floats(width=32, allow_nan=True, allow_infinity=True), max_size=60),
    st.integers(1, 40),
)
@settings(max_examples=100, deadline=None)
def test_a_histogram_counts_each_finite_value_once(values: list[float], bins: int) -> None:
    found = histogram(torch.tensor(values, dtype=torch.float32), bins)
    finite = [value for value in values if np.isfinite(value)]
    assert found.counts.sum() == len(finite)
    assert found.statistics.not_finite == len(values) - len(finite)
    assert len(found.edges) == bins + 1
    assert (np.diff(found.edges) > 0).all()
    for value in finite:
        assert found.edges[0] <= value <= found.edges[-1]


def test_a_histogram_by_hand() -> None:
    found = histogram(torch.tensor([[0.0, 1.0], [2.0, 4.0], [torch.nan, 4.0]]), bins=4)
    assert found.edges.tolist() == [0, 1, 2, 3, 4]
    assert found.counts.tolist() == [1, 1, 1, 2]
    assert found.shape == (3, 2)
    assert found.statistics.zeros == pytest.approx(1 / 6)
    assert found.statistics.mean == pytest.approx(11 / 5)
    for dtype in (torch.float16, torch.bfloat16, torch.float64, torch.int64):
        assert histogram(torch.tensor([0, 1, 2, 4], dtype=dtype), bins=4).counts.tolist() == [1, 1, 1, 1]
    assert histogram(torch.tensor([True, False, True]), bins=2).counts.tolist() == [1, 2]
    assert histogram(torch.tensor([3 + 4j])).statistics.mean == 5


def test_a_large_tensor_is_counted_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    values = torch.randn(1000)
    whole = histogram(values)
    monkeypatch.setattr("finetui.engine.inspection.layer_views._PIECE", 7)
    assert histogram(values).counts.tolist() == whole.counts.tolist()


def test_the_histograms_of_a_layer(lenet: LeNet) -> None:
    weights = weight_histogram(lenet, "fc1")
    assert weights.counts.sum() == 256 * 120
    assert weights.shape == (120, 256)
    activations = activation_histogram(lenet, "fc1", ONE)
    assert activations.counts.sum() == 120
    assert weight_histogram(torchvision.models.resnet18(), "layer1.0.bn1").counts[16] == 64


@pytest.mark.parametrize("build", [LeNet, odd, torchvision.models.resnet18])
def test_nothing_of_a_training_is_touched(build) -> None:
    torch.manual_seed(0)
    inputs = torch.randn(2, 3, 64, 64) if build is torchvision.models.resnet18 else torch.cat([ONE, ONE])
    model = in_training(build(), inputs)
    layer = {LeNet: "conv2", odd: "conv"}.get(build, "layer2.0.conv1")
    kept = inputs.clone()
    with untouched(model):
        weight_filters(model, layer, 0, 10)
        weight_histogram(model, layer)
        feature_maps(model, layer, inputs[:1], 0, 2)
        activation_histogram(model, layer, inputs[:1])
    assert torch.equal(inputs, kept)


def test_nothing_is_touched_by_a_failure_midway() -> None:
    class Fails(LeNet):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if not self.training:
                torch.rand(1)
                self.conv1(x)
                raise ValueError("no more")
            return super().forward(x)

    model = in_training(Fails(), ONE)
    with untouched(model), pytest.raises(BadInput, match="no more"):
        feature_maps(model, "conv1", ONE, 0, 1)


def test_what_cannot_be_shown_is_refused() -> None:
    model, resnet = odd(), torchvision.models.resnet18()
    refused = (
        (lambda: weight_filters(model, "no\x1bne", 0, 1), r"no layer 'no\\x1bne'"),
        (lambda: weight_filters(model, "relu", 0, 1), "relu has no weights of its own$"),
        (lambda: weight_filters(resnet, "layer1", 0, 1), "layer1 has no weights of its own; look at .*layer1.0.conv1"),
        (lambda: weight_histogram(resnet, ""), "the network has no weights of its own; look at .* conv1"),
        (lambda: weight_filters(resnet, "bn1", 0, 1), r"bn1 has no filters to draw.*\[64\]"),
        (lambda: feature_maps(model, "unused", ONE, 0, 1), "unused .* is not reached"),
        (lambda: feature_maps(model, "silent", ONE, 0, 1), "silent .* returns no tensor"),
        (lambda: activation_histogram(model, "nose", ONE), "no layer 'nose'"),
        (lambda: feature_maps(model, "conv", ONE, 4, 1), "conv has 4 images.* no number 4"),
        (lambda: weight_filters(model, "conv", -1, 1), "no number -1"),
        (lambda: weight_filters(model, "conv", 0, 0), "1 to 256"),
        (lambda: weight_filters(model, "conv", 0, 257), "1 to 256"),
    )
    for ask, says in refused:
        with pytest.raises(BadInput, match=says):
            ask()
