"""Looking at a checkpoint without training: its scores on a test set."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from engine import checkpoint
from engine.data import ResidentSplit, load
from engine.device import resolve
from engine.errors import BadInput, FinetuiError
from engine.evaluation import Report, evaluate
from engine.models import build
from engine.text import clean


@dataclass(frozen=True)
class CheckpointReport:
    """The scores of the checkpoint `path` on the test set of `data`."""

    path: Path
    data: str
    report: Report
    notices: tuple[str, ...]


def evaluate_checkpoint(
    path: Path,
    *,
    data: str | None = None,
    data_dir: Path | None = None,
    device: str = "auto",
    progress: Callable[[str, int, int], None] = lambda _phase, _done, _total: None,
) -> CheckpointReport:
    """Evaluate the checkpoint `path` with the input transform that it holds.

    `data` None means the data set that it was trained on. Raises `BadInput` when the checkpoint or the data cannot
    be used, or do not belong together.
    """
    about, weights, _ = checkpoint.load(path)
    target = resolve(device)
    images = load(data or about.data, data_dir, target, progress=progress)
    architecture = about.architecture
    shape = (images.channels, images.height, images.width)
    if (architecture.in_channels, architecture.height, architecture.width) != shape:
        raise BadInput(
            f"{clean(str(path))} takes other images than {images.name} has (channels, height, width: {shape})"
        )
    if len(images.classes) != architecture.num_classes:
        raise BadInput(
            f"{clean(str(path))} tells {architecture.num_classes} classes apart, and "
            f"{images.name} has {len(images.classes)}"
        )
    model = build(architecture, seed=0)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise BadInput(f"the weights in {clean(str(path))} do not fit its model: {clean(str(error))}") from error
    split = ResidentSplit(images.test.images, images.test.labels, about.transform.mean, about.transform.std)
    report = evaluate(
        model.to(target),
        split,
        images.classes,
        progress=lambda done, total: progress("Evaluating", done, total),
    )
    if report is None:
        raise FinetuiError("the evaluation was stopped")
    return CheckpointReport(path, images.name, report, images.notices)
