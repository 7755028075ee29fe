"""At every door the network is given the same bits of an image: a matrix of doors and kinds of data.

A run is trained in one folder, on data named as somewhere else nobody could, and every door is gone through in another.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from finetui.engine.export.classify import classify
from finetui.engine.inspection import evaluation, opened_checkpoint
from finetui.engine.inspection.answers import Answerer
from finetui.engine.inspection.opened_checkpoint import open_checkpoint
from finetui.engine.predictions.file import load_predictions
from finetui.engine.protocol.commands import ExplainImage, Stop, ViewLayer
from finetui.engine.protocol.config import (
    DataConfig,
    FinetuneConfig,
    ModelConfig,
    RunConfig,
    RunSection,
    TrainingConfig,
)
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.resume import branched, configuration as settings_of, resumable
from finetui.engine.session import evaluator
from finetui.engine.session.replay import replay_run
from finetui.engine.session.session import Session
from finetui.tui.cli.errors_report import Origin, Place

CODE = """
import numpy as np, torch
from PIL import Image
from torch import nn

class Items(list):
    classes = ["down", "up"]

def _arrays(shape, seed):
    random = np.random.default_rng(seed)
    return [(random.integers(0, 256, shape).astype(np.uint8), number % 2) for number in range(14)]

def pictures():
    return tuple(Items((Image.fromarray(a), l) for a, l in _arrays((40, 20, 3), seed)) for seed in (0, 1))

def arrays():
    return tuple(Items(_arrays((1, 28, 28), seed)) for seed in (0, 1))

def floats():
    return tuple(Items((torch.tensor(a / 255).float(), l) for a, l in _arrays((1, 28, 28), s)) for s in (0, 1))

class Net32(nn.Module):
    def __init__(self, num_classes=10):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3, padding=1)
        self.head = nn.Linear(2 * 32 * 32, num_classes)

    def forward(self, x):
        return self.head(self.conv(x).flatten(1))
"""


def write_folder(root: Path, sizes: list[tuple[int, int]], *, rgb: bool, parts: tuple[str, ...]) -> None:
    """Write pictures of `sizes` (height, width) in turn, noise, of two classes."""
    random = np.random.default_rng(0)
    for part in parts:
        for label in ("cat", "dog"):
            (root / part / label).mkdir(parents=True)
            for index in range(8):
                height, width = sizes[index % len(sizes)]
                pixels = random.integers(0, 256, (height, width, 3) if rgb else (height, width)).astype(np.uint8)
                Image.fromarray(pixels).save(root / part / label / f"{index}.png")


def write_idx(root: Path) -> None:
    random = np.random.default_rng(0)
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part, count in (("train", 30), ("t10k", 20)):
        head = b"".join(n.to_bytes(4, "big") for n in (0x803, count, 28, 28))
        (raw / f"{part}-images-idx3-ubyte").write_bytes(
            head + random.integers(0, 256, (count, 28, 28)).astype(np.uint8).tobytes()
        )
        labels = (np.arange(count) % 10).astype(np.uint8)
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(
            b"".join(n.to_bytes(4, "big") for n in (0x801, count)) + labels.tobytes()
        )


BOTH = ("train", "test")
FOLDERS: dict[str, Callable[[Path], None]] = {
    "square": lambda root: write_folder(root, [(28, 28)], rgb=False, parts=BOTH),
    "tall": lambda root: write_folder(root, [(48, 24)], rgb=False, parts=BOTH),
    "wide-rgb": lambda root: write_folder(root, [(24, 48)], rgb=True, parts=BOTH),
    "mixed": lambda root: write_folder(root, [(48, 24), (20, 50), (33, 33)], rgb=True, parts=BOTH),
    "undivided": lambda root: write_folder(root, [(40, 30)], rgb=False, parts=("",)),
}


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder to train in; the current one."""
    here = tmp_path / "here"
    here.mkdir()
    (tmp_path / "elsewhere").mkdir()
    (here / "code.py").write_text(CODE)
    monkeypatch.chdir(here)
    return here


def configuration(data: DataConfig, model: str, name: str, **settings: object) -> RunConfig:
    training = {"epochs": 1, "batch_size": 8, "lr": 0.001, "seed": 5, "device": "cpu", "fast": "off"} | settings
    return RunConfig(
        data=data,
        model=ModelConfig(name=model),
        training=TrainingConfig(**training),
        run=RunSection(name=name, runs_dir="runs"),
    )


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Tensor]:
    """Return what goes through a door, and returns what the network was given: all of an evaluation, or the first."""
    evaluates: list[bool] = []
    batches: list[Tensor] = []

    def evaluate(model: nn.Module, *args: object, **options: object) -> object:
        evaluates.append(True)
        batches.clear()
        try:
            return evaluation.evaluate(model, *args, **options)
        finally:
            evaluates.pop()

    for module in (evaluator, opened_checkpoint):
        monkeypatch.setattr(module, "evaluate", evaluate)

    @contextmanager
    def listening(*, always: bool) -> Iterator[None]:
        def hear(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            wanted = type(module).__name__ in ("LeNet", "Net32") and not module.training and (always or evaluates)
            if wanted and inputs[0].any():  # what is built is tried on zeros
                batches.append(inputs[0].clone())

        handle = torch.nn.modules.module.register_module_forward_pre_hook(hear)
        try:
            yield
        finally:
            handle.remove()

    def through(door: Callable[[], object], *, first: bool = False) -> Tensor:
        batches.clear()
        with listening(always=first):
            door()
        assert batches, "the network was given something"
        return batches[0] if first else torch.cat(batches)

    return through


def stopped_at_once(config: RunConfig) -> RunFolder:
    """Return a run that was stopped after its first step."""
    outcome = Session(config, script=lambda step: Stop() if step >= 1 else None).run()
    assert outcome.folder is not None
    return outcome.folder


def evaluated(path: Path, **named: str) -> None:
    opened = open_checkpoint(path, device="cpu", **named)
    try:
        assert not opened.subject.data.differences
        opened.evaluate()
    finally:
        opened.close()


def asked(path: Path, question: object, **named: str) -> None:
    opened = open_checkpoint(path, device="cpu", **named)
    try:
        Answerer(opened.subject).answer(question)
    finally:
        opened.close()


KINDS = [
    *((name, "resident") for name in ("square", "tall", "wide-rgb", "mixed", "undivided")),
    *((name, "resident") for name in ("idx", "pictures", "arrays", "floats")),
    *((name, "stream") for name in ("tall", "undivided", "idx", "pictures")),
    *((f"{name}-val", "resident") for name in ("undivided", "idx", "pictures")),
]


@pytest.mark.parametrize(("kind", "loader"), KINDS)
def test_the_network_is_given_the_same_bits_at_every_door(
    kind: str, loader: str, places: Path, given: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, named = "lenet", {}
    val = 0.3 if kind.endswith("-val") else 0.0
    kind = kind.removesuffix("-val")
    if kind in FOLDERS:
        FOLDERS[kind](places / "photos")
        data = DataConfig(name="./photos", loader=loader, workers=1)
    elif kind == "idx":
        write_idx(places / "sets")
        model = "code.py:Net32"
        data = DataConfig(name="mnist", dir="sets", loader=loader, workers=1)
        named = {"model": str(places / "code.py:Net32")}
    else:
        data = DataConfig(name=f"code.py:{kind}", loader=loader, workers=1)
        named = {"data": str(places / f"code.py:{kind}")}
    if val:  # and nothing else to evaluate on
        data = msgspec.structs.replace(data, val=val, test="none")
    folder = RunFolder(places / "runs" / "whole")
    want = given(lambda: Session(configuration(data, model, "whole")).run())
    assert want.std() > 0.1
    cut = stopped_at_once(configuration(data, model, "cut", epochs=1))
    monkeypatch.chdir(places.parent / "elsewhere")
    copied = Path(shutil.copy(folder.last, "copied.ckpt")).absolute()

    def finetune() -> None:
        again = settings_of(folder)
        parent = FinetuneConfig(parent=str(folder.last), parent_run="whole", recipe="full", head="keep")
        # Another seed: the images that the parent was trained on must stay those that are not scored.
        training = TrainingConfig(epochs=1, batch_size=8, seed=11, device="cpu", fast="off")
        run = RunSection(name="tuned", runs_dir=str(places / "runs"))
        Session(RunConfig(data=again.data, model=again.model, training=training, run=run, finetune=parent)).run()

    doors: dict[str, Callable[[], object]] = {
        "resume": lambda: Session(resumable(cut, **named), resume=cut).run(),
        "branch": lambda: Session(branched(folder, "last", "twig", 2)).run(),
        "replay": lambda: replay_run(folder),
        "finetune": finetune,
        "evaluate": lambda: evaluated(folder.best, **named),
        "evaluate a copy": lambda: evaluated(copied, **named),
        "errors": lambda: Origin(Place(str(copied), Path("runs"), device="cpu", **named)).predictions(),
    }
    for name, door in doors.items():
        assert torch.equal(given(door), want), name
    for index in (0, 3):
        for question in (
            ExplainImage(index=index, method="occlusion"),
            ViewLayer(layer="conv1" if model == "lenet" else "conv", view="activations", index=index),
        ):
            seen = given(lambda question=question: asked(folder.best, question, **named), first=True)
            assert torch.equal(seen, want[index : index + 1]), question
    if kind in FOLDERS:
        kept = load_predictions(folder.last_predictions).files
        files = [Path(kept.path(row)) for row in range(len(kept))]
        assert torch.equal(given(lambda: list(classify(copied, files, device="cpu")), first=True), want)
