"""Small runs to export: the tutorial's network, one with a new head on photographs, a person's own."""

from pathlib import Path

import msgspec
import numpy as np
from PIL import Image

from finetui.engine.checkpoints import checkpoint
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

NETWORKS = Path(__file__).parent / "odd_networks.py"


def train(
    runs: Path,
    name: str,
    data: str = "mnist-sample",
    model: str = "lenet",
    parent: Path | None = None,
    batch_size: int = 50,
    **data_options: object,
) -> RunFolder:
    """Return the folder of a run of one epoch on the CPU."""
    config = RunConfig(
        data=DataConfig(name=data, **data_options),
        model=ModelConfig(name=model),
        training=TrainingConfig(epochs=1, batch_size=batch_size, lr=0.01, device="cpu", fast="off"),
        run=RunSection(name=name, runs_dir=str(runs)),
        finetune=None if parent is None else FinetuneConfig(parent=str(parent), recipe="linear-probe"),
    )
    outcome = Session(config).run()
    assert outcome.folder is not None
    return outcome.folder


def write_photos(root: Path, classes: tuple[str, ...] = ("cat", "dog", "emu"), each: int = 8) -> Path:
    """Write JPEG files that are not square, of sizes that differ, in train and val."""
    random = np.random.default_rng(1)
    for part in ("train", "val"):
        for number, label in enumerate(classes):
            folder = root / part / label
            folder.mkdir(parents=True)
            for index in range(each):
                height, width = 60 + 7 * (index % 3), 90 - 11 * (index % 4)
                pixels = random.integers(0, 120, (height, width, 3))
                pixels[..., number % 3] += 100
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{index}.jpg", quality=92)
    return root


def warmed(path: Path, to: Path, temperature: float = 1.7) -> Path:
    """Write the checkpoint `path` with a temperature, as `finetui calibrate` keeps one, to `to`."""
    about, weights, training = checkpoint.load(path)
    checkpoint.save(to, msgspec.structs.replace(about, temperature=temperature), weights, training)
    return to
