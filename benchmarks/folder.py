"""Write MNIST as 70 000 PNG files in ten class folders, open that folder, and train on it and on the IDX files.

    python benchmarks/folder.py --data-dir DATA --work FOLDER [--keep]

Prints the seconds that opening took, and the ratio of the median seconds of an epoch, folder to IDX, alternating.
"""

import argparse
import shutil
import statistics
import time
from pathlib import Path

import torch
from PIL import Image

from finetui.engine.data import ImageData, load
from finetui.engine.models import Architecture, build, module_groups
from finetui.engine.protocol.config import DataConfig, TrainingConfig
from finetui.engine.training.trainer import Trainer

CPU = torch.device("cpu")


def write(data: ImageData, root: Path) -> None:
    """Write every image as a PNG file."""
    for part, split in (("train", data.train), ("test", data.test)):
        for label in range(10):
            (root / part / str(label)).mkdir(parents=True)
        for index, label in enumerate(split.labels.tolist()):
            Image.fromarray(split.item(index)[0].numpy()).save(root / part / str(label) / f"{index:05}.png")


def epoch(data: ImageData) -> float:
    """Return the seconds of one epoch of LeNet."""
    architecture = Architecture(name="lenet", num_classes=10, in_channels=1, height=28, width=28)
    model = build(architecture, 0)
    trainer = Trainer(model, module_groups(model), data.train, TrainingConfig(epochs=1))
    started = time.monotonic()
    for _ in range(trainer.steps_per_epoch):
        trainer.train_step()
    return time.monotonic() - started


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--work", required=True, type=Path)
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    idx = load(DataConfig(name="mnist", dir=options.data_dir), CPU)
    root = options.work / "mnist-png"
    if not root.exists():
        write(idx, root)
    started = time.monotonic()
    folder = load(DataConfig(name=str(root)), CPU)
    print(
        f"opened {len(folder.train) + len(folder.test):,} files in {time.monotonic() - started:.1f} s: {folder.loader}"
    )
    times = [(epoch(folder), epoch(idx)) for _ in range(5)]
    ours, theirs = (statistics.median(column) for column in zip(*times, strict=True))
    print(f"epoch: folder {ours:.2f} s, IDX {theirs:.2f} s, ratio {ours / theirs:.3f}")
    if not options.keep:
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
