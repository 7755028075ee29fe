"""Temperature scaling: one number that makes a network's confidence mean what it says, fitted on validation images."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch
from torch import Tensor, nn

from finetui.engine.checkpoints import checkpoint
from finetui.engine.errors import BadInput, reason_of
from finetui.engine.inspection.bare_weights import is_bare
from finetui.engine.inspection.evaluation import batch_size_for
from finetui.engine.inspection.opened_checkpoint import OpenedCheckpoint, open_checkpoint
from finetui.engine.models.device import reproducible
from finetui.engine.models.outputs import logits as forward
from finetui.engine.predictions.metrics import calibration, calibration_error
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.lock import RunLock

_MOST_LOGITS = 50_000_000  # 200 MB of float32; of more images some are taken, evenly
_AT_ONCE = 8192  # rows that are computed with at a time
_LIMIT = 100.0  # a temperature beyond it, or below its inverse, is no calibration


@dataclass(frozen=True)
class Calibration:
    """The `temperature` of a checkpoint, and what it makes of log loss and calibration error on the `n` val images."""

    path: Path
    temperature: float
    n: int
    log_loss: tuple[float, float]  # without it, with it
    calibration_error: tuple[float, float]


def calibrate(
    path: Path,
    *,
    data: str | None = None,
    data_dir: Path | None = None,
    model: str = "lenet",
    device: str = "auto",
    progress: Callable[[str, int, int], None] = lambda _phase, _done, _total: None,
) -> Calibration:
    """Fit the temperature of the checkpoint `path` on its val images, and keep it in the file; see `open_checkpoint`.

    The file is replaced as a whole, its weights and training state as they were. Raises `BadInput` when there are no
    val images, no temperature fits, an engine has the run, or the file cannot be written.
    """
    if is_bare(path):
        raise BadInput(f"calibrate needs a finetui checkpoint; {path} has only weights")
    with _left_alone(path):
        opened = open_checkpoint(path, data=data, data_dir=data_dir, model=model, device=device, progress=progress)
        try:
            logits, labels = _val_logits(opened, progress)
        finally:
            opened.close()
        found = fit_temperature(logits, labels)
        about, weights, training = checkpoint.load(path)
        try:
            checkpoint.save(path, msgspec.structs.replace(about, temperature=found), weights, training)
        except OSError as error:
            raise BadInput(f"the checkpoint {path} cannot be written: {reason_of(error)}") from error
    before, after = (_measured(logits, labels, value) for value in (1.0, found))
    return Calibration(path, found, len(labels), (before[0], after[0]), (before[1], after[1]))


@contextmanager
def _left_alone(path: Path) -> Iterator[None]:
    """Keep engines away from the run that the file is in: one could write a better checkpoint meanwhile."""
    folder = RunFolder(path.absolute().parent)
    lock = RunLock(folder) if folder.journal.exists() else None
    try:
        yield
    finally:
        if lock is not None:
            lock.release()


def _val_logits(opened: OpenedCheckpoint, progress: Callable[[str, int, int], None]) -> tuple[Tensor, Tensor]:
    """Return the logits `[n, classes]` and the labels `[n]` of the val images, on the CPU."""
    subject, shape = opened.subject, opened.about.architecture
    val = subject.data.val
    usable = (
        torch.empty(0) if val is None else torch.nonzero(val.labels >= 0)[:, 0]
    )  # below 0: no class of the network's
    if val is None or not len(usable):
        raise BadInput(
            f"{subject.data.name} has no val images to fit a temperature on, and fitted on the test images it would "
            "flatter their scores; train with --val 0.1, or name --data that has a val part"
        )
    wanted = min(len(usable), max(_MOST_LOGITS // shape.num_classes, 1))
    indices = usable[torch.linspace(0, len(usable) - 1, wanted, dtype=torch.float64).round().long()]
    found: list[tuple[Tensor, Tensor]] = []
    done = 0
    with reproducible(str(subject.device)), torch.inference_mode():
        for inputs, labels in val.batches(indices, batch_size_for(shape.in_channels, shape.height, shape.width)):
            if len(labels):
                found.append((forward(subject.model, inputs).float().cpu(), labels.cpu()))
            done += len(labels)
            progress("Evaluating", done, wanted)
    if not done:
        raise BadInput("none of the val images could be read")
    logits, classes = (torch.cat(parts) for parts in zip(*found, strict=True))
    return logits.clone(), classes.clone()  # out of inference mode


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """Return the temperature at which `logits`, float32 `[n, classes]`, have the least cross entropy with `labels`.

    By L-BFGS, after Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks", ICML 2017; its
    logarithm is what is searched for, so that it stays positive. Raises `BadInput` where none is the best.
    """
    if bool((logits.argmax(1) == labels).all()):
        raise BadInput(
            f"all {len(labels):,} val images are classified correctly, so no temperature fits; use more or harder val "
            "images"
        )
    logarithm = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [logarithm], max_iter=100, tolerance_grad=1e-9, tolerance_change=1e-12, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = torch.zeros((), dtype=torch.float64)
        for rows, wanted in zip(torch.split(logits, _AT_ONCE), torch.split(labels, _AT_ONCE), strict=True):
            part = nn.functional.cross_entropy(rows.double() / logarithm.exp(), wanted, reduction="sum") / len(labels)
            torch.autograd.backward(part)
            loss += part.detach()
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    found = float(logarithm.detach().exp())
    if not 1 / _LIMIT < found < _LIMIT:  # also what is not a number
        raise BadInput(
            f"no temperature fits (the search ended at {found:.3g}): on these {len(labels):,} val images "
            "the network's confidence does not tell whether it is right"
        )
    return found


def _measured(logits: Tensor, labels: Tensor, temperature: float) -> tuple[float, float]:
    """Return the mean cross entropy in nats, and the expected calibration error."""
    loss = float(nn.functional.cross_entropy(logits / temperature, labels))
    confidence, predicted = (logits / temperature).softmax(1).max(1)
    return loss, calibration_error(calibration(confidence.numpy(), (predicted == labels).numpy()))
