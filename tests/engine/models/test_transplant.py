"""Weights from files, and where they fit."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision import models

from finetui.engine.checkpoints.state_dict import read_state_dict
from finetui.engine.errors import BadInput
from finetui.engine.models import Architecture, apply_transplant, build, plan_transplant


def resnet(num_classes: int = 5, in_channels: int = 3) -> nn.Module:
    size = {"height": 32, "width": 32}
    return build(Architecture(name="resnet18", num_classes=num_classes, in_channels=in_channels, **size), 1).eval()


@pytest.fixture(scope="module")
def saved() -> nn.Module:
    torch.manual_seed(0)
    return models.resnet18(num_classes=5).eval()


def test_a_saved_state_dict_gives_the_same_logits(saved: nn.Module, tmp_path: Path) -> None:
    torch.save(saved.state_dict(), tmp_path / "resnet.pth")
    weights = read_state_dict(tmp_path / "resnet.pth")
    model = resnet()
    moved = plan_transplant(model, weights)
    apply_transplant(model, weights, moved)
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(model(images), saved(images))
    assert not moved.fresh
    assert not moved.dropped
    assert moved.sentence() == "weights kept in all layers"


def test_a_head_for_other_classes_is_dropped_and_said(saved: nn.Module) -> None:
    model = resnet(num_classes=7)
    fresh_head = model.fc.weight.clone()
    moved = plan_transplant(model, saved.state_dict())
    apply_transplant(model, saved.state_dict(), moved)
    assert moved.fresh == ("fc.weight", "fc.bias")
    assert moved.dropped[0] == ("fc.weight", "other shape: 5×512, not 7×512")
    expected = "weights kept in conv1, bn1, layer1, layer2, layer3, layer4; new in fc; dropped fc (other shape)"
    assert moved.sentence() == expected
    assert torch.equal(model.fc.weight, fresh_head)
    assert torch.equal(model.conv1.weight, saved.conv1.weight)


def test_layers_can_be_told_to_start_anew(saved: nn.Module) -> None:
    moved = plan_transplant(resnet(), saved.state_dict(), skip=["fc"])
    assert moved.fresh == ("fc.weight", "fc.bias")
    assert moved.sentence().endswith("new in fc; dropped fc (reinitialised)")


def test_three_channel_filters_are_summed_for_grey_images(saved: nn.Module) -> None:
    model = resnet(in_channels=1)
    moved = plan_transplant(model, saved.state_dict())
    apply_transplant(model, saved.state_dict(), moved)
    assert moved.adapted == ("conv1.weight",)
    assert "conv1.weight adapted to the images' channels" in moved.sentence()
    grey = torch.randn(2, 1, 32, 32)
    assert torch.allclose(model(grey), saved(grey.expand(-1, 3, -1, -1)), atol=1e-4)


def test_a_plan_needs_no_memory(saved: nn.Module) -> None:
    with torch.device("meta"):
        model = resnet(num_classes=7)
    assert plan_transplant(model, saved.state_dict()) == plan_transplant(resnet(num_classes=7), saved.state_dict())


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
@pytest.mark.parametrize("wrapper", ["", "model", "state_dict", "model_state_dict"])
def test_wrappers_come_off(prefix: str, wrapper: str, tmp_path: Path) -> None:
    content = {f"{prefix}fc.weight": torch.ones(2, 3), f"{prefix}fc.bias": torch.zeros(2)}
    torch.save({wrapper: content, "epoch": 3} if wrapper else content, tmp_path / "net.pt")
    assert list(read_state_dict(tmp_path / "net.pt")) == ["fc.weight", "fc.bias"]


def test_known_names_are_translated(saved: nn.Module) -> None:
    weights = {f"backbone.{name}": tensor for name, tensor in saved.state_dict().items()}
    moved = plan_transplant(resnet(), weights)
    assert not moved.fresh
    assert ("backbone.conv1.weight", "conv1.weight") in moved.renamed
    dense = nn.ModuleDict({"denselayer1": nn.ModuleDict({"norm1": nn.BatchNorm2d(2), "conv2": nn.Conv2d(2, 2, 1)})})
    old = {"denselayer1.norm.1.weight": torch.ones(2), "denselayer1.conv.2.bias": torch.ones(2)}
    assert [new for _, new in plan_transplant(dense, old).renamed] == [
        "denselayer1.norm1.weight",
        "denselayer1.conv2.bias",
    ]
    vit = nn.ModuleDict({"mlp": nn.Sequential(nn.Linear(2, 2), nn.GELU(), nn.Identity(), nn.Linear(2, 2))})
    old = {"mlp.linear_1.weight": torch.ones(2, 2), "mlp.linear_2.weight": torch.ones(2, 2)}
    assert [new for _, new in plan_transplant(vit, old).renamed] == ["mlp.0.weight", "mlp.3.weight"]


def test_a_tensors_own_name_has_precedence_over_a_translated_one() -> None:
    model = nn.ModuleDict({"fc": nn.Linear(1, 1)})
    weights = {"net.fc.weight": torch.ones(1, 1), "fc.weight": torch.zeros(1, 1), "fc.bias": torch.zeros(1)}
    moved = plan_transplant(model, weights)
    assert moved.reused == ("fc.weight", "fc.bias")
    assert moved.dropped == (("net.fc.weight", "not in this network"),)


def test_a_long_list_is_cut_short() -> None:
    layers = {f"layer{index}": nn.Linear(1, 1) for index in range(9)}
    moved = plan_transplant(nn.ModuleDict(layers), {f"layer{index}.bias": torch.ones(1) for index in range(9)})
    assert moved.sentence() == (
        "weights kept in layer0.bias, layer1.bias, layer2.bias, layer3.bias, layer4.bias, layer5.bias and 3 more; "
        "new in layer0.weight, layer1.weight, layer2.weight, layer3.weight, layer4.weight, layer5.weight and 3 more"
    )


def test_files_that_hold_no_weights_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    with pytest.raises(BadInput, match=r"net.pt cannot be read: No such file"):
        read_state_dict(path)
    path.write_bytes(b"no weights at all")
    with pytest.raises(BadInput, match=r"net.pt .*damaged"):
        read_state_dict(path)
    path.write_bytes(b"")
    with pytest.raises(BadInput, match=r"net.pt .*damaged"):
        read_state_dict(path)
    torch.save({"epoch": 3, "names": ["a"]}, path)
    with pytest.raises(BadInput, match=r"net.pt holds no named tensors"):
        read_state_dict(path)
    torch.save(nn.Linear(2, 2), path)
    with pytest.raises(BadInput, match=r"net.pt .*could run code; .*save the network's state_dict"):
        read_state_dict(path)


def test_damaged_files_are_refused(saved: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    torch.save({"fc.weight": torch.ones(100, 100)}, path)
    whole = bytearray(path.read_bytes())
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadInput, match=r"net.pt .*damaged"):
        read_state_dict(path)
    whole[len(whole) // 2] ^= 1  # within the tensor: torch itself would load it
    path.write_bytes(whole)
    with pytest.raises(BadInput, match=r"net.pt is damaged"):
        read_state_dict(path)
