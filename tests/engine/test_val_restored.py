"""Val that was drawn from the training images stays what it was at every later door, whatever is in the folder then."""

import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image

from finetui.engine.data import load
from finetui.engine.data.recorded_data import load_images
from finetui.engine.errors import BadInput
from finetui.engine.inspection.opened_checkpoint import evaluate_checkpoint, open_checkpoint
from finetui.engine.predictions.file import load_predictions
from finetui.engine.protocol.config import DataConfig, FinetuneConfig, RunConfig, RunSection, TrainingConfig
from finetui.engine.protocol.events import Log, RunPrepared
from finetui.engine.runs.folder import RunFolder, how_it_began
from finetui.engine.runs.resume import branched, resumable
from finetui.engine.session.replay import replay_run
from finetui.engine.session.session import Session


def write(folder: Path, names: range, seed: int = 0) -> None:
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.fromarray(random.integers(0, 256, (28, 28)).astype(np.uint8)).save(folder / f"{name}.png")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with `photos/CLASS` and `parts/train/CLASS`, `parts/test/CLASS`."""
    monkeypatch.chdir(tmp_path)
    for label in ("cat", "dog"):
        write(tmp_path / "photos" / label, range(20), seed=len(label))
        write(tmp_path / "parts" / "train" / label, range(20), seed=1)
        write(tmp_path / "parts" / "test" / label, range(50, 56), seed=2)
    return tmp_path


def configuration(data: DataConfig, name: str = "run", **settings: object) -> RunConfig:
    training = {"epochs": 2, "batch_size": 8, "lr": 0.001, "seed": 5, "device": "cpu", "fast": "off"} | settings
    return RunConfig(data=data, training=TrainingConfig(**training), run=RunSection(name=name, runs_dir="runs"))


def train(name: str, **settings: object) -> RunFolder:
    folder = Session(configuration(DataConfig(name=name, val=0.2, **settings))).run().folder
    assert folder is not None
    return folder


def parts_at(path: Path, **named: str) -> dict[str, set[str]]:
    """Return the files of each part that are evaluated."""
    opened = open_checkpoint(path, device="cpu", **named)
    try:
        found = {}
        for part in opened.subject.data.parts:
            predictions = opened.predictions(opened.evaluate(part=part), part)
            found[part] = {predictions.files.path(row) for row in range(len(predictions))}
        return found
    finally:
        opened.close()


def told_at(path: Path) -> str:
    opened = open_checkpoint(path, device="cpu")
    opened.close()
    return " ".join(opened.subject.data.differences)


@pytest.mark.parametrize(("name", "test"), [("photos", "auto"), ("photos", "none"), ("parts", "auto")])
def test_the_same_images_are_val_after_others_came(here: Path, name: str, test: str, recorder) -> None:
    folder = train(name, test=test)
    before = parts_at(folder.last)
    assert set(before) == ({"train", "val", "test"} if test == "auto" else {"train", "val"})
    assert {part: len(keys) for part, keys in load_images(folder.images).items()} == {
        part: len(files) for part, files in before.items()
    }
    copied = Path(shutil.copy(folder.last, here / "copied.ckpt"))
    assert parts_at(copied) == before
    assert told_at(copied) == ""
    write(here / name / ("train" if name == "parts" else "") / "cat", range(100, 130), seed=9)
    assert parts_at(folder.last) == before
    assert told_at(folder.last) == "these are not the images that the run saw: 30 images new and not used"
    with pytest.raises(BadInput, match="cannot be scored on val images of .* drawn from the training images"):
        evaluate_checkpoint(copied, device="cpu", part="val")
    if test == "auto":
        assert "may have been" in told_at(copied)
    assert replay_run(folder).different_at is None
    resumed = RunFolder(Path(shutil.copytree(folder.path, here / "runs" / "again")))
    Session(resumable(resumed, "best"), resume=resumed, resume_from="best", sinks=[recorder]).run()
    assert any("30 images new and not used" in event.message for event in recorder.of(Log))
    Session(branched(folder, "last", "twig", 3)).run()
    for later in ("again", "twig"):
        found = RunFolder(here / "runs" / later)
        assert parts_at(found.last) == before
        kept = load_predictions(found.last_predictions)
        assert {kept.files.path(row) for row in range(len(kept))} == before["val"]
        assert kept.origin.part == "val"


def test_the_description_is_of_the_parts_after_val_was_drawn(here: Path) -> None:
    folder = train("parts")
    began = how_it_began(folder)
    assert began is not None
    description = began.description
    assert description is not None
    assert {part: found.count for part, found in description.parts.items()} == {"train": 32, "val": 8, "test": 12}
    assert (description.split, description.request.val, description.request.test) == ("drawn", 0.2, "auto")
    assert began.data.val_size == 8


def test_a_val_folder_that_came_later_is_not_taken_for_the_val_of_the_run(here: Path) -> None:
    folder = train("parts")
    before = parts_at(folder.last)
    for label in ("cat", "dog"):
        write(here / "parts" / "val" / label, range(200, 210), seed=7)
    assert parts_at(folder.last) == before
    assert "20 images new and not used" in told_at(folder.last)


def test_val_images_that_are_gone_are_missed(here: Path) -> None:
    folder = train("photos", test="none")
    val = sorted(parts_at(folder.last)["val"])
    Path(val[0]).unlink()
    assert parts_at(folder.last)["val"] == set(val[1:])
    assert "1 image gone" in told_at(folder.last)
    for path in val[1:]:
        Path(path).unlink()
    with pytest.raises(BadInput, match="put them back"):
        parts_at(folder.last)


def test_a_finetune_has_the_val_of_its_parent(here: Path, recorder) -> None:
    folder = train("photos")
    before = parts_at(folder.last)
    write(here / "photos" / "dog", range(100, 110), seed=9)
    parent = FinetuneConfig(parent=str(folder.last), parent_run="run", recipe="full", head="keep")
    for name, share in (("same", 0.2), ("other", 0.4)):
        config = configuration(DataConfig(name="photos", val=share), name, seed=11, epochs=1)
        Session(msgspec.structs.replace(config, finetune=parent), sinks=[recorder]).run()
        now = parts_at(RunFolder(here / "runs" / name).last)
        # What is new is used, and nothing that was in a part is in another now.
        assert all(now[part] >= before[part] for part in before)
        assert sum(map(len, now.values())) == sum(map(len, before.values())) + 10
    same, other = recorder.of(RunPrepared)
    words = "keeps the val images of the earlier run"
    assert words not in " ".join(same.notices)
    assert words in " ".join(other.notices)


def test_named_data_has_the_same_val_with_the_seed_of_the_run(here: Path) -> None:
    folder = Session(configuration(DataConfig(name="mnist-sample", val=0.1), epochs=1, batch_size=512)).run().folder
    assert folder is not None
    copied = Path(shutil.copy(folder.last, here / "copied.ckpt"))
    opened = open_checkpoint(copied, device="cpu")
    opened.close()
    data = opened.subject.data
    assert data.differences == ()
    assert data.val is not None
    want = load(DataConfig(name="mnist-sample", val=0.1), opened.subject.device, seed=5)
    other = load(DataConfig(name="mnist-sample", val=0.1), opened.subject.device, seed=6)
    assert want.val is not None
    assert data.description == want.description
    assert want.description is not None
    assert other.description is not None
    assert other.description.parts["train"] != want.description.parts["train"]


def test_a_file_that_moves_between_the_parts_of_its_class_is_known_again(here: Path) -> None:
    for label in ("cat", "dog"):
        for part, names in (("train", range(12)), ("val", range(20, 24)), ("test", range(30, 34))):
            write(here / "nested" / label / part, names, seed=len(label + part))
    folder = Session(configuration(DataConfig(name="nested"), epochs=1)).run().folder
    assert folder is not None
    (here / "nested" / "cat" / "train" / "3.png").rename(here / "nested" / "cat" / "val" / "3.png")
    assert told_at(folder.last) == "these are not the images that the run saw: 1 image moved to another part"
