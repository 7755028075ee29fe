"""The data of a finetune: its parent's images stay in their parts, and what is new since is used."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image

from finetui.engine.protocol.config import (
    DataConfig,
    FinetuneConfig,
    ModelConfig,
    RunConfig,
    RunSection,
    TrainingConfig,
)
from finetui.engine.runs.folder import RunFolder
from finetui.engine.session.session import Session
from finetui.engine.setup.prepare import Prepared, prepare


def write(folder: Path, names: range) -> None:
    random = np.random.default_rng(len(str(folder)))
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.fromarray(random.integers(0, 256, (28, 28)).astype(np.uint8)).save(folder / f"{name:03}.png")


@pytest.fixture
def parent(tmp_path: Path) -> RunFolder:
    for label in ("cat", "dog"):
        write(tmp_path / "photos" / label, range(20))
    folder = Session(configuration(tmp_path)).run().folder
    assert folder is not None
    return folder


def configuration(root: Path, **training: object) -> RunConfig:
    settings = {"epochs": 1, "batch_size": 8, "lr": 0.001, "seed": 5, "device": "cpu", "fast": "off"} | training
    run = RunSection(name="parent", runs_dir=str(root / "runs"))
    return RunConfig(data=DataConfig(name=str(root / "photos")), training=TrainingConfig(**settings), run=run)


def finetuned(root: Path, parent: RunFolder, model: ModelConfig | None = None, **training: object) -> Prepared:
    config = msgspec.structs.replace(
        configuration(root, **training),
        finetune=FinetuneConfig(parent=str(parent.last), recipe="full"),
        model=model or ModelConfig(),
    )
    return prepare(config, lambda *_: None, lambda: False)


def files(prepared: Prepared) -> dict[str, set[str]]:
    return {
        part: {"/".join(Path(split.file(index)).parts[-2:]) for index in range(len(split))}
        for part, split in prepared.data.parts.items()
    }


@pytest.mark.parametrize("how", [{}, {"seed": 9}, {"model": ModelConfig(crop=24)}])
def test_nothing_that_the_parent_trained_on_is_tested_on(tmp_path: Path, parent: RunFolder, how: dict) -> None:
    before = files(prepare(configuration(tmp_path), lambda *_: None, lambda: False))
    write(tmp_path / "photos" / "cat", range(50, 60))
    now = files(finetuned(tmp_path, parent, **how))
    assert not now["test"] & before["train"]
    assert now["train"] >= before["train"]
    assert now["test"] >= before["test"]
    assert len(now["train"] | now["test"]) == 50


def test_new_classes_and_images_are_used(tmp_path: Path, parent: RunFolder) -> None:
    write(tmp_path / "photos" / "horse", range(10))
    write(tmp_path / "photos" / "cat", range(50, 60))
    found = finetuned(tmp_path, parent)
    assert found.data.classes == ("cat", "dog", "horse")
    now = files(found)
    assert {len([name for name in now[part] if name.startswith("horse")]) for part in ("train", "test")} == {8, 2}
    assert len(now["train"] | now["test"]) == 60
