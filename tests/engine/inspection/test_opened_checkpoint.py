"""Checkpoints are looked at with the data that they were trained beside: the same place, the same division."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from finetui.engine.errors import BadInput, Cancelled
from finetui.engine.inspection.opened_checkpoint import evaluate_checkpoint, open_checkpoint
from finetui.engine.predictions.file import Predictions, load_predictions
from finetui.engine.protocol.config import DataConfig, RunConfig, RunSection, TrainingConfig
from finetui.engine.runs.folder import RunFolder
from finetui.engine.session.session import Session


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run over 60 photos in two classes, that are not divided on disk: its seed, 7, chose the 12 test images.

    The light ones lie elsewhere, and are found only because the run's configuration has links followed.
    """
    root = tmp_path
    random = np.random.default_rng(0)
    for name, least in (("dark", 0), ("light", 60)):
        folder = root / "photos" / name
        folder.mkdir(parents=True)
        for index in range(30):
            pixels = random.integers(least, least + 190, (28, 28)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{index}.png")
    (root / "photos" / "light").rename(root / "elsewhere")
    (root / "photos" / "light").symlink_to(root / "elsewhere", target_is_directory=True)
    config = RunConfig(
        data=DataConfig(name=str(root / "photos"), follow_links=True),
        training=TrainingConfig(epochs=1, batch_size=10, lr=0.01, seed=7, device="cpu"),
        run=RunSection(name="inspected", runs_dir=str(root / "checkpoints")),
    )
    Session(config).run()
    return RunFolder(root / "checkpoints" / "inspected")


def evaluated(path: Path, **how: object) -> Predictions:
    opened = open_checkpoint(path, device="cpu", **how)
    try:
        return opened.predictions(opened.evaluate())
    finally:
        opened.close()


def paths(found: Predictions) -> list[str]:
    return [found.files.path(row) for row in range(len(found))]


def test_a_checkpoint_is_looked_at_with_the_test_images_of_its_run(run: RunFolder) -> None:
    kept, now = load_predictions(run.last_predictions), evaluated(run.last)
    assert len(kept) == 12
    for column in ("index", "label", "predicted"):
        np.testing.assert_array_equal(getattr(now, column), getattr(kept, column))
    for column in ("loss", "confidence"):  # the run may have computed by another path: the last digits differ
        np.testing.assert_allclose(getattr(now, column), getattr(kept, column), rtol=1e-5)
    assert paths(now) == paths(kept)
    assert (now.origin.run, now.origin.step) == (kept.origin.run, kept.origin.step)


def test_away_from_its_run_a_checkpoint_still_knows_which_images_were_held_out(run: RunFolder, tmp_path: Path) -> None:
    alone = Path(shutil.copy(run.last, tmp_path / "alone.ckpt"))
    root = run.path.parents[1]
    (root / "photos" / "light").unlink()
    (root / "elsewhere").rename(root / "photos" / "light")
    for data in (None, str(root / "photos")):
        report = evaluate_checkpoint(alone, data=data, device="cpu")
        assert (report.report.n, report.notices) == (12, ())
        assert paths(evaluated(alone, data=data)) == paths(load_predictions(run.last_predictions))


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"data": "mnist-sample"}, "has dark and light, and mnist-sample has none of these classes"),
        ({"data": "no-such-data"}, "no-such-data"),
        ({"device": "cuda:99"}, "cuda"),
    ],
)
def test_what_does_not_belong_together_is_said(run: RunFolder, how: dict[str, str], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        open_checkpoint(run.last, **{"device": "cpu", **how})


def test_an_evaluation_can_be_stopped(run: RunFolder) -> None:
    opened = open_checkpoint(run.last, device="cpu")
    try:
        with pytest.raises(Cancelled):
            opened.evaluate(stopped=lambda: True)
    finally:
        opened.close()
