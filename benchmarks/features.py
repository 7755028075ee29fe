"""What is frozen, computed once: the tutorial's finetuning of LeNet, and a linear probe of ResNet-18 on photographs.

Run alone, for fewer images: python -m benchmarks.features --images 400 --epochs 4
"""

import argparse
import importlib.util
import itertools
import json
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measuring import ROOT, Options, in_turn, python, ratio, table

PLAIN = "plain loop, frozen part under no_grad"
CACHE, OFF = "finetui", "finetui --features off"
_CLASSES = 4


def run(options: Options, images: int = 2000, epochs: int = 10) -> str:
    """Return the section of the results."""
    lenet = "The tutorial's finetuning (a new `fc4`, batches of 64), seconds an epoch, evaluation included"
    parts = [f"{lenet}:\n\n{_lenet(options)}"]
    title = f"A linear probe of ResNet-18, {images:,} JPEG files of 500 x 375, {epochs} epochs, seconds in all"
    skipped = [name for name in _LIBRARIES if importlib.util.find_spec(name) is None]
    note = f"\n\nNot installed, and not measured: {', '.join(skipped)}." if skipped else ""
    with tempfile.TemporaryDirectory() as folder:
        write_photographs(Path(folder), images)
        seconds = partial(_seconds, "resnet", data=folder, epochs=epochs)
        others = [name for name in (*_LIBRARIES, OFF) if name not in skipped]
        measured = in_turn({name: partial(seconds, name) for name in (PLAIN, *others, CACHE)}, 1)
    parts.append(f"{title}:\n\n{_table(measured)}{note}")
    return "\n\n".join(parts)


def _lenet(options: Options) -> str:
    seconds = partial(_seconds, "lenet", data=options.data_dir, epochs=4)
    return _table(in_turn({name: partial(seconds, name) for name in (OFF, CACHE)}, options.rounds))


def _table(measured: dict[str, list[float]]) -> str:
    first = next(iter(measured))
    rows = [
        [name, f"{statistics.median(taken):.2f}", f"{ratio(measured, first, name):.1f} x"]
        for name, taken in measured.items()
    ]
    return table(["", "seconds", f"as fast as {first}"], rows)


def _seconds(kind: str, name: str, data: str, epochs: int) -> float:
    found = python("-m", "benchmarks.features", "--one", kind, name, "--data", data, "--epochs", str(epochs))
    return float(json.loads(found.splitlines()[-1]))


def write_photographs(root: Path, count: int) -> None:
    """Write `count` JPEG files of 500 x 375, smooth shapes and fine grain, in train, and a tenth as many in val."""
    from PIL import Image

    random = np.random.default_rng(0)
    for part, number in (("train", count), ("val", max(count // 10, _CLASSES))):
        for index in range(number):
            folder = root / part / f"class{index % _CLASSES}"
            folder.mkdir(parents=True, exist_ok=True)
            coarse = Image.fromarray(random.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize(
                (500, 375), Image.Resampling.BICUBIC
            )
            grain = random.normal(0, 12, (375, 500, 1))
            pixels = np.clip(np.asarray(coarse, dtype=np.float32) + grain, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{index:05}.jpg", quality=90)


def _finetui(kind: str, features: str, data: str, epochs: int) -> float:
    """Return the seconds of an epoch after the first two (LeNet), or of all of them."""
    from finetui.engine.process.memory import keep_freed
    from finetui.engine.protocol.config import DataConfig, FinetuneConfig, RunConfig, RunSection, TrainingConfig
    from finetui.engine.protocol.events import Evaluated, StateChanged
    from finetui.engine.session.session import Session

    keep_freed()
    marks: list[float] = []

    def note(event: object) -> None:
        if isinstance(event, Evaluated) or (isinstance(event, StateChanged) and event.state == "running"):
            marks.append(time.perf_counter())

    settings: dict[str, Any] = {"epochs": epochs, "batch_size": 64, "features": features}
    with tempfile.TemporaryDirectory() as runs:
        section = RunSection(runs_dir=runs)
        training = TrainingConfig(**settings, optimizer="sgd", lr=0.001, schedule="constant")
        if kind == "lenet":
            parent = str(ROOT / "checkpoints" / "lenet-mnist" / "last.ckpt")
            finetune = FinetuneConfig(parent=parent, recipe="linear-probe")
            config = RunConfig(
                data=DataConfig(name="mnist", dir=data), training=training, run=section, finetune=finetune
            )
            Session(config, sinks=[note]).run()
            return statistics.median(b - a for a, b in itertools.pairwise(marks[1:]))
        config = RunConfig(data=DataConfig(name=data, image_size=224), training=training, run=section)
        Session(config, sinks=[note], model=_resnet()).run()
    return marks[-1] - marks[0]


def _resnet() -> Any:
    import torch
    from torchvision import models

    torch.manual_seed(0)
    model = models.resnet18(num_classes=_CLASSES).requires_grad_(False)
    model.fc.requires_grad_(True)
    return model


def _loaders(data: str) -> Any:
    import torch
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import v2

    steps = [v2.Resize(224), v2.CenterCrop(224), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
    sets = [ImageFolder(str(Path(data) / part), v2.Compose(steps)) for part in ("train", "val")]
    return (DataLoader(one, 64, shuffle=part == 0, num_workers=2) for part, one in enumerate(sets))


def _plain(data: str, epochs: int) -> float:
    import torch
    from torch.nn import functional as F

    train, val = _loaders(data)
    model = _resnet().eval()
    head, model.fc = model.fc, torch.nn.Identity()
    optimizer = torch.optim.SGD(head.parameters(), lr=0.001, momentum=0.9)
    started = time.perf_counter()
    for _ in range(epochs):
        for images, labels in train:
            with torch.no_grad():
                features = model(images)
            optimizer.zero_grad()
            F.cross_entropy(head(features), labels).backward()
            optimizer.step()
        with torch.no_grad():
            sum(int((head(model(images)).argmax(1) == labels).sum()) for images, labels in val)
    return time.perf_counter() - started


def _lightning(data: str, epochs: int) -> float:
    """Finetune as the guide to transfer learning does: the backbone is frozen, and in a block without gradients."""
    import lightning
    import torch
    from torch.nn import functional as F

    class Probe(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            network = _resnet()
            self.classifier, network.fc = network.fc, torch.nn.Identity()
            self.feature_extractor = network

        def forward(self, images: Any) -> Any:
            self.feature_extractor.eval()
            with torch.no_grad():
                features = self.feature_extractor(images)
            return self.classifier(features)

        def training_step(self, batch: Any, _index: int) -> Any:
            images, labels = batch
            return F.cross_entropy(self(images), labels)

        def validation_step(self, batch: Any, _index: int) -> None:
            images, labels = batch
            self.log("accuracy", (self(images).argmax(1) == labels).float().mean())

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.classifier.parameters(), lr=0.001, momentum=0.9)

    quiet = dict.fromkeys(("enable_progress_bar", "enable_model_summary", "enable_checkpointing", "logger"), False)
    trainer = lightning.Trainer(max_epochs=epochs, accelerator="cpu", num_sanity_val_steps=0, **quiet)
    train, val = _loaders(data)
    started = time.perf_counter()
    trainer.fit(Probe(), train, val)
    return time.perf_counter() - started


def _fastai(data: str, epochs: int) -> float:
    """Finetune as the guide to computer vision does, without what it downloads: a learner, frozen, for some epochs."""
    from fastai.vision.all import ImageDataLoaders, Resize, accuracy, models, vision_learner

    images = ImageDataLoaders.from_folder(data, train="train", valid="val", item_tfms=Resize(224), bs=64, num_workers=2)
    learner = vision_learner(images, models.resnet18, pretrained=False, metrics=accuracy)
    learner.freeze()
    started = time.perf_counter()
    with learner.no_bar(), learner.no_logging():
        learner.fit_one_cycle(epochs, 0.001)
    return time.perf_counter() - started


_LIBRARIES = {"fastai": _fastai, "lightning": _lightning}


def main() -> None:
    """Print the section, or the seconds of one contender."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", nargs=2)
    parser.add_argument("--data", default="")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=10)
    options = parser.parse_args()
    if options.one is None:
        print(run(Options(options.data, options.rounds), options.images, options.epochs))
        return
    kind, name = options.one
    features = "off" if name == OFF else "cache"
    contender = {PLAIN: _plain, **_LIBRARIES}.get(name, partial(_finetui, kind, features))
    print(contender(options.data, options.epochs))


if __name__ == "__main__":
    main()
