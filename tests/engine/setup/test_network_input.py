"""The input that starting weights need: what options say, else the file, else the data's own; and which it is."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import models
from torchvision.transforms import CenterCrop, InterpolationMode, Resize

from finetui.engine.errors import BadInput
from finetui.engine.protocol.config import (
    DataConfig,
    FinetuneConfig,
    ModelConfig,
    RunConfig,
    RunSection,
    TrainingConfig,
)
from finetui.engine.session.session import Session
from finetui.engine.setup.prepare import prepare
from finetui.engine.setup.prepared import Prepared

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CONFIG = {"mean": MEAN, "std": STD, "input_size": (3, 48, 48), "interpolation": "bicubic", "crop_pct": 0.75}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    for number in range(16):
        path = tmp_path / "photos" / ("train" if number // 2 % 4 else "test") / "ab"[number % 2] / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (70, 90, 3), dtype=np.uint8)).save(path)
    torch.manual_seed(0)
    weights = models.resnet18(num_classes=2).state_dict()
    torch.save(weights, tmp_path / "plain.pt")
    torch.save({"state_dict": weights, "pretrained_cfg": CONFIG}, tmp_path / "stated.pt")
    return tmp_path


def configured(root: Path, file: str = "plain.pt", **model: object) -> RunConfig:
    return RunConfig(
        data=DataConfig(name=str(root / "photos")),
        model=ModelConfig(name="resnet18", weights=str(root / file), **model),
        training=TrainingConfig(epochs=1, batch_size=4, device="cpu", fast="off"),
        run=RunSection(name="run", runs_dir=str(root / "runs")),
    )


def prepared(config: RunConfig) -> Prepared:
    return prepare(config, lambda *_: None, lambda: False)


def test_what_nobody_says_is_assumed_and_told(root: Path) -> None:
    found = prepared(configured(root))
    assert found.transform.mean == found.data.mean
    told = next(notice for notice in found.notices if "normalization" in notice)
    assert "plain.pt is unknown" in told
    assert told.endswith("give --mean and --std")


def test_what_the_file_says_is_used_and_told(root: Path) -> None:
    found = prepared(configured(root, "stated.pt"))
    assert (found.transform.mean, found.transform.std) == (MEAN, STD)
    assert (found.transform.height, found.transform.width) == (48, 48)
    assert any("images are normalized by" in notice and "stated.pt" in notice for notice in found.notices)
    stored = found.data.train.item(0).permute(1, 2, 0).numpy().astype(int)
    theirs = CenterCrop(48)(Resize(64, InterpolationMode.BICUBIC)(Image.open(found.data.train.file(0))))
    assert np.abs(stored - np.asarray(theirs)).mean() <= 0.05  # levels: torch's rounding


def test_options_have_precedence_and_reach_the_checkpoint(root: Path) -> None:
    own = {"mean": (0.1, 0.2, 0.3), "std": (0.5, 0.6, 0.7), "resize": 40, "crop": 32, "interpolation": "bilinear"}
    config = configured(root, "stated.pt", **own)
    found = prepared(config)
    assert (found.transform.mean, found.transform.height) == ((0.1, 0.2, 0.3), 32)
    assert any("images are normalized by --mean and --std" in notice for notice in found.notices)
    seen = found.about("run").description
    assert seen is not None
    assert seen.decoding is not None
    assert (seen.decoding.resize, seen.decoding.height, seen.decoding.interpolation) == (40, 32, "bilinear")


def test_a_finetune_takes_its_parents_input_or_what_is_given(root: Path) -> None:
    folder = Session(configured(root, "stated.pt")).run().folder
    assert folder is not None
    child = msgspec.structs.replace(
        configured(root),
        finetune=FinetuneConfig(parent=str(folder.last), recipe="full"),
        model=ModelConfig(name="resnet18"),
    )
    assert prepared(child).transform.mean == MEAN
    given = msgspec.structs.replace(child, model=ModelConfig(name="resnet18", mean=(0.5,) * 3, std=(0.2,) * 3))
    assert prepared(given).transform.std == (0.2,) * 3


@pytest.mark.parametrize(
    ("file", "given", "says"),
    [
        ("plain.pt", {"resize": 30, "crop": 32}, "at most --resize, 30"),
        ("stated.pt", {"resize": 30}, "30 is less than the 48x48 crop"),
    ],
)
def test_a_crop_that_is_larger_than_what_it_is_cut_out_of_is_refused(
    root: Path, file: str, given: dict[str, int], says: str
) -> None:
    with pytest.raises(BadInput, match=says):
        prepared(configured(root, file, **given))
