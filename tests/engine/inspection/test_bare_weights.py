"""A state dict of plain torch's in the place of a checkpoint."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision import models
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Normalize, Resize, ToTensor

import finetui
from finetui.engine.errors import BadInput
from finetui.engine.protocol.requests import BareWeights

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture
def network(tmp_path: Path) -> nn.Module:
    torch.manual_seed(0)
    found = models.resnet18(num_classes=3).eval()
    torch.save(
        {"state_dict": {f"module.{name}": tensor for name, tensor in found.state_dict().items()}}, tmp_path / "w.pt"
    )
    return found


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    for number in range(18):
        path = tmp_path / "photos" / ("train" if number % 2 else "test") / "abc"[number % 3] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 256, (5, 7, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((90, 70), Image.Resampling.BICUBIC).save(path)
    return tmp_path / "photos"


GIVEN = BareWeights(mean=MEAN, std=STD, resize=72, crop=64, interpolation="bicubic")


def test_scores_are_those_of_plain_torch(network: nn.Module, photos: Path, tmp_path: Path) -> None:
    theirs = Compose([Resize(72, InterpolationMode.BICUBIC), CenterCrop(64), ToTensor(), Normalize(MEAN, STD)])
    files = sorted((photos / "test").glob("*/*.png"), key=lambda path: (path.parent.name, str(path)))
    with torch.inference_mode():
        logits = network(torch.stack([theirs(Image.open(file).convert("RGB")) for file in files]))
    labels = torch.tensor(["abc".index(file.parent.name) for file in files])
    found = finetui.evaluate_checkpoint(tmp_path / "w.pt", data=str(photos), model="resnet18", bare=GIVEN, device="cpu")
    assert found.report.n == 9
    assert found.report.loss == pytest.approx(nn.functional.cross_entropy(logits, labels).item(), rel=1e-5)
    assert found.report.accuracy == pytest.approx((logits.argmax(1) == labels).float().mean().item())
    (one,) = finetui.classify(tmp_path / "w.pt", files[:1], model="resnet18", bare=GIVEN, device="cpu")
    assert dict(one.top) == pytest.approx(dict(zip("012", logits[0].softmax(0).tolist(), strict=True)), rel=1e-4)


def test_what_is_missing_is_asked_for(network: nn.Module, photos: Path, tmp_path: Path) -> None:
    place = {"data": str(photos), "device": "cpu"}
    with pytest.raises(BadInput, match="give --mean and --std"):
        finetui.evaluate_checkpoint(tmp_path / "w.pt", model="resnet18", **place)
    with pytest.raises(BadInput, match="have 3 classes, and 2 are named"):
        finetui.evaluate_checkpoint(
            tmp_path / "w.pt", model="resnet18", bare=BareWeights(mean=MEAN, std=STD, classes=("a", "b")), **place
        )
    with pytest.raises(BadInput, match=r"122 keys: conv1\.weight.*name their network with --model"):
        finetui.evaluate_checkpoint(tmp_path / "w.pt", bare=GIVEN, **place)
    with pytest.raises(BadInput, match="name their network with --model"):  # before the normalisation is asked for
        finetui.evaluate_checkpoint(tmp_path / "w.pt", **place)
    with pytest.raises(BadInput, match="name it with --data"):
        finetui.evaluate_checkpoint(tmp_path / "w.pt", bare=GIVEN, model="resnet18", device="cpu")


def test_there_is_nothing_to_calibrate_in_it(network: nn.Module, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"calibrate needs a finetui checkpoint; .*w\.pt has only weights"):
        finetui.calibrate(tmp_path / "w.pt", data=str(photos), model="resnet18", device="cpu")


def test_weights_for_other_classes_than_the_datas_are_refused(network: nn.Module, photos: Path, tmp_path: Path) -> None:
    for part in ("train", "test"):
        (photos / part / "d").mkdir(parents=True)
        Image.new("RGB", (90, 70)).save(photos / part / "d" / "x.png")
    with pytest.raises(BadInput, match="have 3 classes, and photos has 4; name theirs with --classes"):
        finetui.evaluate_checkpoint(tmp_path / "w.pt", data=str(photos), model="resnet18", bare=GIVEN, device="cpu")


def test_grey_photographs_become_colour_for_such_weights(network: nn.Module, photos: Path, tmp_path: Path) -> None:
    for path in photos.glob("*/*/*.png"):
        Image.open(path).convert("L").save(path)
    found = finetui.evaluate_checkpoint(tmp_path / "w.pt", data=str(photos), model="resnet18", bare=GIVEN, device="cpu")
    assert found.report.n == 9
