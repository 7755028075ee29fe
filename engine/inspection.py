"""Looking at a checkpoint without training: its scores on a test set."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from engine import checkpoint
from engine.config import DataConfig, is_factory
from engine.data import load
from engine.device import resolve
from engine.errors import BadInput, FinetuiError
from engine.evaluation import Report, batch_size_for, evaluate
from engine.finetuning import check_parent
from engine.models import build
from engine.text import clean


@dataclass(frozen=True)
class CheckpointReport:
    """The scores of the checkpoint `path` on the test set of `data`."""

    path: Path
    data: str
    report: Report
    notices: tuple[str, ...]


def read_about(path: Path) -> checkpoint.About:
    """Return what the checkpoint `path` says about its weights. Raises `BadInput`."""
    return checkpoint.load(path)[0]


def evaluate_checkpoint(
    path: Path,
    *,
    data: str | None = None,
    data_dir: Path | None = None,
    model: str = "lenet",
    device: str = "auto",
    progress: Callable[[str, int, int], None] = lambda _phase, _done, _total: None,
) -> CheckpointReport:
    """Evaluate the checkpoint `path` with the input transform that it holds.

    `data` None means the data set that it was trained on. `model` must name the network where that is a person's own
    code. Raises `BadInput` when the checkpoint or the data cannot be used, or do not belong together.
    """
    about, weights, _ = checkpoint.load(path)
    check_parent(about, model)
    target = resolve(device)
    architecture = about.architecture
    images = load(_data(data, data_dir, about), target, image_size=about.transform.height or None, progress=progress)
    where = clean(str(path))
    if images.channels != architecture.in_channels:
        raise BadInput(
            f"{where} takes images of {architecture.in_channels} channels, and {images.name} has {images.channels}"
        )
    if len(images.classes) != architecture.num_classes:
        raise BadInput(
            f"{where} tells {architecture.num_classes} classes apart, and {images.name} has {len(images.classes)}"
        )
    network = build(architecture, seed=0)
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise BadInput(f"the weights in {where} do not fit its model: {clean(str(error))}") from error
    split = images.with_transform(about.transform).test
    try:
        report = evaluate(
            network.to(target),
            split,
            images.classes,
            batch_size=batch_size_for(architecture.in_channels, architecture.height, architecture.width),
            progress=lambda done, total: progress("Evaluating", done, total),
        )
    finally:
        split.close()
    if report is None:
        raise FinetuiError("the evaluation was stopped")
    return CheckpointReport(path, images.name, report, (*images.notices, *images.problems))


def _data(name: str | None, data_dir: Path | None, about: checkpoint.About) -> DataConfig:
    """Return the data that is asked for, by default the checkpoint's own."""
    # A checkpoint may come from anywhere: that it names a piece of code must not be enough to run it.
    if name is None and is_factory(about.data):
        code = clean(about.data)
        raise BadInput(f"the checkpoint's data is the code {code}; if you trust that code, name it: --data {code}")
    return DataConfig(name=name or about.data, dir=str(data_dir) if data_dir is not None else None)
