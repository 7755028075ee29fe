"""A network is scored on other data by the names of its classes, however the data is held and numbered."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from finetui.engine.errors import BadInput
from finetui.engine.inspection.answers import Answerer
from finetui.engine.inspection.opened_checkpoint import OpenedCheckpoint, evaluate_checkpoint, open_checkpoint
from finetui.engine.predictions.comparison import compare
from finetui.engine.protocol.commands import FetchImages
from finetui.engine.protocol.config import DataConfig, RunConfig, RunSection, TrainingConfig
from finetui.engine.protocol.events import Images
from finetui.engine.runs.folder import RunFolder
from finetui.engine.session.session import Session

BRIGHTNESS = {"cat": 20, "dog": 120, "horse": 220, "ape": 170}
TESTED = 8


def make(root: Path, names: dict[str, str]) -> Path:
    """Write a folder of the classes `names`, whose images are as bright as their values say."""
    random = np.random.default_rng(0)
    for part, count in (("train", 20), ("test", TESTED)):
        for name, kind in names.items():
            folder = root / part / name
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = random.integers(BRIGHTNESS[kind] - 20, BRIGHTNESS[kind] + 20, (28, 28)).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{index}.png")
    return root


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run that tells cats, dogs and horses apart, by their brightness."""
    root = tmp_path_factory.mktemp("run")
    make(root / "animals", {name: name for name in ("cat", "dog", "horse")})
    config = RunConfig(
        data=DataConfig(name=str(root / "animals")),
        training=TrainingConfig(epochs=8, batch_size=6, lr=0.005, device="cpu", fast="off"),
        run=RunSection(name="animals", runs_dir=str(root / "checkpoints")),
    )
    outcome = Session(config).run()
    assert outcome.report is not None
    assert outcome.report.accuracy == 1
    return RunFolder(root / "checkpoints" / "animals")


def opened(run: RunFolder, data: Path, **how) -> OpenedCheckpoint:
    return open_checkpoint(run.last, data=str(data), device="cpu", **how)


def test_cats_and_dogs_are_right_among_apes(run: RunFolder, tmp_path: Path) -> None:
    data = make(tmp_path / "zoo", {name: name for name in ("ape", "cat", "dog")})
    found = evaluate_checkpoint(run.last, data=str(data), device="cpu")
    report = found.report
    assert (report.n, report.accuracy) == (2 * TESTED, 1.0)
    assert [(row.label, row.support) for row in report.per_class] == [("cat", TESTED), ("dog", TESTED), ("horse", 0)]
    assert report.confusion.tolist() == [[TESTED, 0, 0], [0, TESTED, 0], [0, 0, 0]]
    said = " ".join(found.notices)
    assert f"ape: its {TESTED} images are left out of the score" in said
    assert "horse: an image taken for such a class counts as a mistake" in said


def test_what_is_left_out_is_counted_in_the_part_that_is_scored(run: RunFolder, tmp_path: Path) -> None:
    data = make(tmp_path / "zoo", {name: name for name in ("ape", "cat")})
    shutil.copytree(data / "test", data / "val")
    (data / "val" / "ape" / "0.png").unlink()
    found = evaluate_checkpoint(run.last, data=str(data), device="cpu", part="val")
    assert (found.part, found.report.n) == ("val", TESTED)
    assert f"ape: its {TESTED - 1} images are left out" in " ".join(found.notices)


def test_more_and_fewer_classes_in_any_order_and_spelling(run: RunFolder, tmp_path: Path) -> None:
    for place, names in enumerate(
        ({"dog": "dog", "Cat": "cat"}, {"_horse": "horse", "ape": "ape", "Cat": "cat", "dog": "dog"})
    ):
        found = evaluate_checkpoint(run.last, data=str(make(tmp_path / str(place), names)), device="cpu")
        assert (found.report.n, found.report.accuracy) == (len(set(names) - {"ape"}) * TESTED, 1.0)
        assert "Cat for cat" in " ".join(found.notices)


@pytest.mark.parametrize("loader", ["resident", "stream"])
def test_predictions_keep_each_image_in_its_place(run: RunFolder, tmp_path: Path, monkeypatch, loader: str) -> None:
    data = make(tmp_path / "zoo", {name: name for name in ("ape", "cat", "dog")})
    monkeypatch.setattr(
        "finetui.engine.inspection.opened_checkpoint.DataConfig", lambda name: DataConfig(name=name, loader=loader)
    )
    there = opened(run, data)
    try:
        found = there.predictions(there.evaluate())
        assert found.classes == ("cat", "dog", "horse")
        assert found.index.tolist() == list(range(TESTED, 3 * TESTED))  # those before are apes
        for row in range(len(found)):
            assert Path(found.files.path(row)).parent.name == found.classes[found.label[row]]
        answer = Answerer(there.subject).answer(FetchImages(indices=(int(found.index[0]), 0)))
        assert isinstance(answer, Images)
        assert [Path(picture.name).parent.name for picture in answer.pictures] == ["cat", "ape"]
        assert any("ape" in notice for notice in found.origin.notices)
    finally:
        there.close()


def test_two_networks_with_other_classes_are_compared_on_what_both_know(run: RunFolder, tmp_path: Path) -> None:
    data = make(tmp_path / "zoo", {name: name for name in ("ape", "cat", "dog")})
    config = RunConfig(
        data=DataConfig(name=str(data)),
        training=TrainingConfig(epochs=1, batch_size=6, lr=0.0001, device="cpu", fast="off"),
        run=RunSection(name="zoo", runs_dir=str(tmp_path / "checkpoints")),
    )
    Session(config).run()
    found = []
    for folder in (run, RunFolder(tmp_path / "checkpoints" / "zoo")):
        there = opened(folder, data)
        found.append(there.predictions(there.evaluate()))
        there.close()
    now, before = found
    tested = compare(now, before).mcnemar(now)
    wrong = before.wrong & (before.label != before.classes.index("ape"))
    assert (tested.n, tested.fixed, tested.broken) == (2 * TESTED, int(wrong.sum()), 0)
    assert tested.fixed > 0


def test_where_nothing_matches_it_is_refused_unless_the_position_is_meant(run: RunFolder, tmp_path: Path) -> None:
    data = make(tmp_path / "renamed", {"0": "cat", "1": "dog", "2": "horse"})
    with pytest.raises(BadInput, match="none of these classes, but 0, 1 and 2; .*--classes-by position"):
        opened(run, data)
    there = opened(run, data, classes_by="position")
    try:
        report = there.evaluate()
        assert report.accuracy == 1
        assert [row.label for row in report.per_class] == ["cat", "dog", "horse"]
    finally:
        there.close()
    shutil.rmtree(data / "test" / "2")
    shutil.rmtree(data / "train" / "2")
    with pytest.raises(BadInput, match="has 3 classes, and the data has 2"):
        opened(run, data, classes_by="position")
