"""Layer groups: named stages from the stem to the head, and every tensor in exactly one of them."""

import pytest
import torch
from torch import nn

from finetui.engine.models import Architecture, LeNet, build, find_head, module_groups


def network(name: str, size: int = 32) -> tuple[nn.Module, str]:
    with torch.device("meta"):
        model = build(Architecture(name=name, num_classes=5, in_channels=3, height=size, width=size), 0)
        return model, find_head(model, torch.zeros(2, 3, size, size))


class Odd(nn.Module):
    """Tensors in every odd place: the model's own, shared ones, a divided module's, buffers alone."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(3))
        self.register_buffer("steps", torch.zeros(1))
        self.scale = nn.BatchNorm2d(1)
        self.body = nn.Module()
        self.body.gain = nn.Parameter(torch.ones(2))
        self.body.first = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.GroupNorm(1, 2))
        self.body.again = nn.Conv2d(1, 2, 3)
        self.body.again.weight = self.body.first[0].weight
        self.body.attention = nn.MultiheadAttention(8, 2)
        self.body.twice = self.body.attention
        self.drop = nn.Dropout()
        self.head = nn.Linear(8, 5)


def test_resnet_is_divided_into_its_stages() -> None:
    model, head = network("resnet18")
    groups = module_groups(model, [head])
    assert [group.name for group in groups] == ["conv1", "layer1", "layer2", "layer3", "layer4", "fc"]
    assert [layer.name for layer in groups[0].layers] == ["conv1", "bn1"]
    assert [layer.normalises for layer in groups[0].layers] == [False, True]
    assert [group.head for group in groups] == [False] * 5 + [True]
    assert groups[1].summary == "2 × BasicBlock"
    assert "layer1.0.bn1" in [layer.name for layer in groups[1].layers]
    assert model.layer1[0].relu in groups[1].modules


def test_a_vision_transformer_is_divided_into_its_blocks() -> None:
    model, head = network("vit_b_16")
    groups = module_groups(model, [head])
    blocks = [f"encoder.layers.encoder_layer_{index}" for index in range(12)]
    assert [group.name for group in groups] == ["conv_proj", *blocks, "heads.head"]
    assert {"class_token", "encoder.pos_embedding"} <= groups[0].parameters.keys()
    assert "class_token" in [layer.name for layer in groups[0].layers]
    assert "encoder.ln" in [layer.name for layer in groups[12].layers]


def test_mobilenet_is_divided_around_its_head() -> None:
    model, head = network("mobilenet_v3_large")
    groups = module_groups(model, [head])
    names = [f"features.{index}" for index in range(17)]
    assert [group.name for group in groups] == [*names, "classifier.0", "classifier.3"]
    # The dropout before the head is the head's: it stays on while only the head trains.
    assert model.classifier[2] in groups[-1].modules


@pytest.mark.parametrize(
    "name", ["vgg11_bn", "densenet121", "swin_v2_t", "convnext_tiny", "maxvit_t", "regnet_x_400mf", "googlenet", "odd"]
)
def test_every_tensor_is_in_exactly_one_layer(name: str) -> None:
    model, head = (Odd(), "head") if name == "odd" else network(name, 224)
    groups = module_groups(model, [head])
    assert len(groups) >= 4
    assert len({group.name for group in groups}) == len(groups)
    layers = [layer for group in groups for layer in group.layers]
    assert len({layer.name for layer in layers}) == len(layers)
    parameters = [name for layer in layers for name in layer.parameters]
    assert sorted(parameters) == sorted(name for name, _ in model.named_parameters())
    assert all(dict(model.named_parameters())[name] is p for layer in layers for name, p in layer.parameters.items())
    owners = [layer.name for layer in layers]
    for buffer, _ in model.named_buffers():
        assert owners.count(buffer.rpartition(".")[0] or buffer) == 1
    modules = [module for group in groups for module in group.modules]
    assert len(set(modules)) == len(modules)
    assert groups[-1].head
    assert [layer.name for layer in groups[-1].layers] == [head]


def test_a_normalisation_at_the_very_beginning_joins_what_follows() -> None:
    model = nn.Sequential(nn.BatchNorm2d(1), nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 3), nn.Conv2d(2, 2, 3))
    assert [group.name for group in module_groups(model)] == ["1", "2", "3"]


def test_what_holds_nearly_everything_is_divided() -> None:
    body = nn.Sequential(nn.Conv2d(50, 50, 3), nn.Conv2d(50, 50, 3))
    model = nn.Sequential(*(nn.Conv2d(1, 1, 1) for _ in range(3)), body, nn.Linear(2, 3))
    assert [group.name for group in module_groups(model, ["4"])] == ["0", "1", "2", "3.0", "3.1", "4"]


def test_attention_stays_whole() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.MultiheadAttention(8, 2), nn.Linear(8, 2))
    assert [group.name for group in module_groups(model, ["2"])] == ["0", "1", "2"]


def test_a_head_that_is_defined_first_comes_last() -> None:
    model = nn.ModuleDict({"head": nn.Linear(2, 3), "body": nn.Conv2d(1, 2, 3), "norm": nn.BatchNorm2d(2)})
    assert [(group.name, group.head) for group in module_groups(model, ["head"])] == [("body", False), ("head", True)]


def test_the_last_group_in_use_is_the_head_unless_told() -> None:
    model = LeNet()
    model.add_feature_head()
    groups = module_groups(model)
    assert [group.name for group in groups if group.head] == ["fc4"]
    assert [group.name for group in groups if not group.in_use] == ["fc1", "fc2", "fc3"]


def test_a_model_that_is_one_layer_is_one_group() -> None:
    (group,) = module_groups(nn.Linear(2, 3))
    assert (group.name, group.head, set(group.parameters)) == ("Linear", True, {"weight", "bias"})
