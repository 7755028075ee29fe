"""Networks of timm and of Hugging Face go through every door: none of them needs more than the checkpoint."""

import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from finetui.engine.export.classify import classify
from finetui.engine.inspection.answers import Answerer
from finetui.engine.inspection.opened_checkpoint import open_checkpoint
from finetui.engine.predictions.file import Predictions, load_predictions
from finetui.engine.protocol.commands import DescribeModel, ExplainImage, Stop, ViewLayer
from finetui.engine.protocol.config import (
    DataConfig,
    FinetuneConfig,
    ModelConfig,
    RunConfig,
    RunSection,
    TrainingConfig,
)
from finetui.engine.protocol.events import AnyEvent, FeaturesChanged, Log, TrainPoint
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.resume import branched, configuration as settings_of, resumable
from finetui.engine.session.replay import replay_run
from finetui.engine.session.session import Session
from finetui.tui.cli.errors_report import Origin, Place

pytestmark = pytest.mark.peers
pytest.importorskip("timm")
pytest.importorskip("transformers")

import hub_folders  # noqa: E402

SAVED = {"vit": hub_folders.save_vit, "resnet": hub_folders.save_resnet, "timm": hub_folders.save_timm}
# The network, the side of its input (0: as it says), and a layer of it.
MODELS = [
    ("timm:test_resnet", 32, "conv1"),
    ("timm:test_vit", 32, "blocks.1"),
    ("hf:./vit", 0, "vit.layers.1"),
    ("hf:./resnet", 0, "resnet.encoder.stages.1"),
    ("hf:./timm", 32, "conv1"),
]


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of pictures in the current folder, from which a network must be named by a path to be found."""
    here = tmp_path / "here"
    random = np.random.default_rng(0)
    for part in ("train", "test"):
        for label, level in (("cat", 60), ("dog", 180)):
            (here / "photos" / part / label).mkdir(parents=True)
            for index in range(8):
                pixels = np.clip(random.normal(level, 50, (40, 36, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(here / "photos" / part / label / f"{index}.png")
    monkeypatch.chdir(here)
    return here


def configuration(model: str, side: int, name: str, **training: object) -> RunConfig:
    settings = {
        "epochs": 2,
        "batch_size": 8,
        "lr": 0.01,
        "seed": 5,
        "device": "cpu",
        "layer_decay": 0.5,
        "fast": "off",
    } | training
    return RunConfig(
        data=DataConfig(name="./photos"),
        model=ModelConfig(name=model, crop=side, weights="default" if model.startswith("hf:") else "none"),
        training=TrainingConfig(**settings),
        run=RunSection(name=name, runs_dir="runs"),
    )


def evaluated(path: Path) -> Predictions:
    opened = open_checkpoint(path, device="cpu")
    try:
        return opened.predictions(opened.evaluate())
    finally:
        opened.close()


def same(one: Predictions, other: Predictions) -> bool:
    return np.array_equal(one.loss, other.loss)


@pytest.mark.parametrize(("model", "side", "layer"), MODELS, ids=[model for model, _, _ in MODELS])
def test_every_door(model: str, side: int, layer: str, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = model.rpartition("/")[2]
    if name in SAVED:
        SAVED[name](photos / name)
    points: list[AnyEvent] = []
    folder = Session(configuration(model, side, "whole"), sinks=[points.append]).run().folder
    assert folder is not None
    want = load_predictions(folder.last_predictions)
    factors = next(event for event in points if isinstance(event, TrainPoint)).group_rate_factors
    assert factors[-2:] == (0.5, 1.0)
    assert all(low == pytest.approx(high / 2, rel=1e-3) for low, high in itertools.pairwise(factors))
    config = configuration(model, side, "cut")
    cut = Session(config, script=lambda step: Stop() if step >= 1 else None).run().folder
    assert cut is not None

    # As anywhere else: what was there when the network was built is gone.
    (photos.parent / "elsewhere").mkdir()
    monkeypatch.chdir(photos.parent / "elsewhere")
    copied = Path(shutil.copy(folder.last, "copied.ckpt")).absolute()
    assert Session(resumable(folder=cut), resume=cut).run().state == "finished"
    assert same(load_predictions(cut.last_predictions), want)
    replayed = replay_run(folder)
    assert (replayed.complete, replayed.different_at) == (True, None)
    assert replayed.compared >= 2
    if name in SAVED:
        shutil.rmtree(photos / name)
    twig = Session(branched(folder, "last", "twig", 3)).run().folder
    assert twig is not None
    assert same(evaluated(copied), want)
    assert same(Origin(Place(str(copied), Path("runs"), device="cpu")).predictions(), want)
    opened = open_checkpoint(copied, device="cpu")
    answerer = Answerer(opened.subject)
    for question in (
        ExplainImage(index=1, method="occlusion"),
        ViewLayer(layer=layer, view="activations", index=1),
        DescribeModel(),
    ):
        answer = answerer.answer(question)
        assert not getattr(answer, "problem", ""), answer
    opened.close()
    files = sorted((photos / "photos" / "test" / "dog").iterdir())
    assert len(list(classify(copied, files, device="cpu"))) == len(files)
    tuned, told = finetuned(folder, photos)
    assert tuned.best.is_file()
    if model == "timm:test_vit":  # it asks for the size of its images as it runs
        said = [event.message for event in told if isinstance(event, Log)]
        assert any("cannot be divided, since it cannot be traced" in message for message in said)
    else:
        assert "held" in [event.state for event in told if isinstance(event, FeaturesChanged)]


def finetuned(parent: RunFolder, photos: Path) -> tuple[RunFolder, list[AnyEvent]]:
    """Return a linear probe of `parent` on its own data."""
    again = settings_of(parent)
    start = FinetuneConfig(parent=str(parent.last), parent_run="whole", recipe="linear-probe")
    training = TrainingConfig(epochs=2, batch_size=8, seed=11, device="cpu")
    run = RunSection(name="tuned", runs_dir=str(photos / "runs"))
    told: list[AnyEvent] = []
    config = RunConfig(data=again.data, model=again.model, training=training, run=run, finetune=start)
    folder = Session(config, sinks=[told.append]).run().folder
    assert folder is not None
    return folder, told
