"""A run from before val was known goes on with its images, whatever else its folder holds by now."""

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image

from finetui.engine.checkpoints import checkpoint
from finetui.engine.data import load
from finetui.engine.data.image_data import ImageData
from finetui.engine.data.recorded_data import RecordedData
from finetui.engine.errors import BadInput
from finetui.engine.inspection.opened_checkpoint import evaluate_checkpoint
from finetui.engine.protocol.config import DataConfig
from finetui.engine.protocol.description import DataDescription
from finetui.engine.runs.folder import RunFolder
from finetui.engine.session.replay import replay_run
from finetui.engine.session.session import Session


def put(folder: Path, count: int, bright: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        pixels = np.random.default_rng(index).integers(0, 80, (28, 28)) + bright
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{index}.png")


def put_classes(folder: Path, count: int) -> None:
    for label, name in enumerate("ab"):
        put(folder / name, count, 120 * label)


def make_old(folder: RunFolder) -> None:
    """Take out of a run's files what versions that knew no val did not write."""
    for path in (folder.last, folder.best):
        about, weights, training = checkpoint.load(path)
        for key in ("watched", "tested"):
            del training[key]
        checkpoint.save(path, msgspec.structs.replace(about, description=None), weights, training)
    lines = [json.loads(line) for line in folder.journal.read_text().splitlines()]
    for line in lines:
        if line["type"] == "run_prepared":
            del line["description"]
    folder.journal.write_text("".join(json.dumps(line) + "\n" for line in lines))
    folder.images.unlink()


@pytest.mark.parametrize("val", ["val", "dev"])
def test_a_flat_test_folder_and_val_change_nothing_for_an_old_run(
    tmp_path: Path, make_config, recorder, val: str
) -> None:
    root = tmp_path / "d"
    put_classes(root / "train", 20)
    folder = Session(make_config(data=str(root), batch_size=8, name="old")).run().folder
    assert folder is not None
    make_old(folder)
    before = evaluate_checkpoint(folder.best, device="cpu")
    put_classes(root / val, 5)
    put(root / "test", 7)
    after = evaluate_checkpoint(folder.best, device="cpu")
    assert (after.part, after.report.n, after.report.loss) == ("test", 8, before.report.loss)
    assert replay_run(folder).different_at is None
    config = make_config(data=str(root), batch_size=8, epochs=2, name="old")
    assert Session(config, resume=folder, sinks=[recorder]).run().state == "finished"
    with pytest.raises(BadInput, match="has no val part"):
        evaluate_checkpoint(folder.best, device="cpu", part="val")
    new = Session(make_config(data=str(root), batch_size=8, name="new")).run().folder
    assert new is not None
    assert evaluate_checkpoint(new.best, device="cpu").part == "val"


@pytest.mark.parametrize(
    ("there", "trained_on", "tested_on"),
    [
        (("train", "val", "test"), 40, ("test", 10)),
        (("train", "valid"), 40, ("valid", 10)),
        (("Training", "Validation"), 40, ("Validation", 10)),
        (("train", "dev"), 32, ("train", 8)),
        (("train",), 32, ("train", 8)),
        ((), 32, ("", 8)),
    ],
)
def test_the_parts_of_then(tmp_path: Path, there: tuple[str, ...], trained_on: int, tested_on: tuple[str, int]) -> None:
    root = tmp_path / "d"
    for part in there or ("",):
        put_classes(root / part, 5 if part.lower() in ("val", "valid", "validation", "dev", "test") else 20)
    request = DataConfig(name=str(root))
    known = RecordedData(DataDescription(request=request, kind="folder", classes=(), parts={}))
    data: ImageData = load(request, torch.device("cpu"), known=known)
    assert list(data.parts) == ["train", "test"]
    assert data.test is not None
    assert (len(data.train), len(data.test)) == (trained_on, tested_on[1])
    assert data.test.file(0).startswith(str(root / tested_on[0]))
