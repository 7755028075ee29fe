"""What a run saw, against what is there later: new, lost and moved images are told, names mean what they meant."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from finetui.engine.data.recorded_data import load_images
from finetui.engine.errors import BadInput
from finetui.engine.inspection.opened_checkpoint import evaluate_checkpoint, open_checkpoint
from finetui.engine.predictions.file import load_predictions
from finetui.engine.protocol.config import DataConfig, ModelConfig, RunConfig, RunSection, TrainingConfig, is_factory
from finetui.engine.protocol.events import Log
from finetui.engine.protocol.paths import same_code
from finetui.engine.runs.folder import RunFolder, how_it_began
from finetui.engine.runs.resume import resumable
from finetui.engine.session.session import Session

NETS = """
from torch import nn

def Seq(num_classes=10):
    return nn.Sequential(nn.Flatten(), nn.Linear(28 * 28, num_classes))
"""


def write(folder: Path, names: range, seed: int = 0) -> None:
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.fromarray(random.integers(0, 256, (28, 28)).astype(np.uint8)).save(folder / f"{name}.png")


def train(data: str, name: str = "run", model: str = "lenet", **settings: object) -> RunFolder:
    training = {"epochs": 1, "batch_size": 8, "lr": 0.001, "seed": 5, "device": "cpu", "fast": "off"} | settings
    config = RunConfig(
        data=DataConfig(name=data),
        model=ModelConfig(name=model),
        training=TrainingConfig(**training),
        run=RunSection(name=name, runs_dir="runs"),
    )
    folder = Session(config).run().folder
    assert folder is not None
    return folder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for label in ("cat", "dog"):
        write(tmp_path / "photos" / label, range(20), seed=len(label))
    return tmp_path


def scored(path: Path) -> set[str]:
    opened = open_checkpoint(path, device="cpu")
    try:
        found = opened.predictions(opened.evaluate())
        return {found.files.path(row) for row in range(len(found))}
    finally:
        opened.close()


def test_images_that_came_later_are_told_and_never_mix_up_the_parts(here: Path, recorder) -> None:
    folder = train("./photos", epochs=2)
    held_out = scored(folder.last)
    write(here / "photos" / "cat", range(100, 130), seed=9)
    assert scored(folder.last) == held_out
    (told,) = (line for line in evaluate_checkpoint(folder.last, device="cpu").notices if "not the images" in line)
    assert told == "these are not the images that the run saw: 30 images new and not used"
    resumed = RunFolder(Path(shutil.copytree(folder.path, here / "runs" / "again")))
    Session(resumable(resumed, "best"), resume=resumed, resume_from="best", sinks=[recorder]).run()
    assert told in [event.message for event in recorder.of(Log)]
    # Without the run's folder nobody knows which images these were.
    alone = Path(shutil.copy(folder.last, here / "alone.ckpt"))
    with pytest.raises(BadInput, match=r"scored on test images .* copy images\.safetensors from its run's folder"):
        evaluate_checkpoint(alone, device="cpu")
    shutil.copy(folder.images, here)
    assert scored(alone) == held_out


def test_lost_and_moved_and_changed_images_are_counted(here: Path) -> None:
    for label in ("cat", "dog"):
        write(here / "parts" / "train" / label, range(12), seed=1)
        write(here / "parts" / "test" / label, range(50, 56), seed=2)
    folder = train("parts")
    before = load_images(folder.images)
    assert [len(before[part]) for part in ("train", "test")] == [24, 12]
    parts = here / "parts"
    (parts / "train" / "cat" / "3.png").rename(parts / "test" / "cat" / "3.png")
    (parts / "test" / "dog" / "50.png").unlink()
    Image.new("L", (28, 28)).save(parts / "train" / "dog" / "0.png")
    write(parts / "test" / "dog", range(70, 72))
    told = evaluate_checkpoint(folder.last, device="cpu").notices[0]
    for words in ("2 images new", "1 image gone", "1 image of another size", "1 image moved to another part"):
        assert words in told


def test_the_description_is_in_journal_checkpoint_and_predictions(here: Path) -> None:
    folder = train("photos")
    began = how_it_began(folder)
    assert began is not None
    description = began.description
    assert description is not None
    assert (description.request.name, description.kind) == (str(here / "photos"), "folder")
    assert (description.split, description.seed, description.classes) == ("drawn", 5, ("cat", "dog"))
    assert load_predictions(folder.last_predictions).origin.description == description
    opened = open_checkpoint(folder.last, device="cpu")
    opened.close()
    assert (opened.about.description, opened.about.head) == (description, "fc3")


def test_a_folder_that_has_moved_is_known_by_its_images(here: Path) -> None:
    folder = train("photos")
    held_out = {Path(path).name for path in scored(folder.last)}
    (here / "photos").rename(here / "moved")
    opened = open_checkpoint(folder.last, data=str(here / "moved"), device="cpu")
    found = opened.predictions(opened.evaluate())
    opened.close()
    assert {Path(found.files.path(row)).name for row in range(len(found))} == held_out
    assert opened.subject.data.differences == ()


@pytest.mark.parametrize("name", ["my:folder", "./my:folder"])
def test_a_folder_with_a_colon_in_its_name_is_no_code(here: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "photos").rename(here / "my:folder")
    folder = train(name)
    monkeypatch.chdir("/")
    assert evaluate_checkpoint(folder.last, device="cpu").report.n == 8
    assert resumable(folder, "last").data.name == str(here / "my:folder")


def test_code_is_what_was_trained_with_however_it_is_named(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "nets.py").write_text(NETS)
    folder = train("photos", model="nets.py:Seq")
    (here / "other").mkdir()
    monkeypatch.chdir(here / "other")
    for model in (str(here / "nets.py:Seq"), "../nets.py:Seq"):
        assert evaluate_checkpoint(folder.last, model=model, device="cpu").report.n == 8
        resumable(folder, "last", model=model)
    (here / "other" / "nets.py").write_text(NETS)
    for model in ("lenet", "nets.py:Seq", "../nets.py:Other"):
        with pytest.raises(BadInput, match="if you trust it, pass it"):
            evaluate_checkpoint(folder.last, model=model, device="cpu")
    (here / "nets.py").rename(here / "other" / "moved.py")
    assert evaluate_checkpoint(folder.last, model="nets.py:Seq", device="cpu").report.n == 8


def test_what_names_code() -> None:
    assert is_factory("nets:Seq")
    assert is_factory("/a b/nets.py:Seq")
    assert not is_factory("/photos/my:folder")
    assert same_code("nets:Seq", "./nets.py:Seq")
    assert not same_code("nets.py:Seq", "nets.py:Other")
