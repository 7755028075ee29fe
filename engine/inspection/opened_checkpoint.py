"""Looking at a checkpoint without training: its scores on a part of the data, what it says of each image."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import nn

from finetui.engine.checkpoints import checkpoint
from finetui.engine.data import ImageData, load
from finetui.engine.data.matched_classes import with_classes
from finetui.engine.data.recorded_data import RecordedData
from finetui.engine.errors import BadInput, Cancelled, reason_of
from finetui.engine.inspection.answers import Subject
from finetui.engine.inspection.bare_weights import Bare, check_not_bare, is_bare, open_bare
from finetui.engine.inspection.evaluation import Report, batch_size_for, evaluate, files_of, predictions_of
from finetui.engine.models import build
from finetui.engine.models.device import reproducible, resolve
from finetui.engine.predictions.class_matching import match_by_name, match_by_position, require_any
from finetui.engine.predictions.file import Origin, Predictions
from finetui.engine.predictions.metrics import Scores, scores_of
from finetui.engine.protocol.config import DataConfig
from finetui.engine.protocol.paths import same_data
from finetui.engine.protocol.requests import BareWeights, ClassesBy
from finetui.engine.protocol.values import Decoding, Part
from finetui.engine.runs.trust import check_trusted, check_trusted_data
from finetui.engine.setup.recorded_data import recorded_data

_MOST_PROBLEMS = 10  # that an evaluation lists


@dataclass(frozen=True)
class OpenedCheckpoint:
    """A checkpoint with the data that it is looked at with; `subject` is what questions can be asked about.

    `matched` says how the classes of the data are those of the network, where that is not plain; `step` and `epoch`
    are where its run was (0 where it says nothing of them).
    """

    path: Path
    about: checkpoint.About
    subject: Subject
    step: int
    matched: tuple[str, ...] = ()
    epoch: int = 0

    def evaluate(
        self,
        progress: Callable[[str, int, int], None] = lambda _phase, _done, _total: None,
        stopped: Callable[[], bool] = lambda: False,
        part: Part | None = None,
    ) -> Report:
        """Return the scores on `part`, by default test, and where there is none, val.

        Raises `BadInput` where there is no such part, `FinetuiError` once `stopped` answers True.
        """
        subject, shape = self.subject, self.about.architecture
        with reproducible(str(subject.device)):
            report = evaluate(
                subject.model,
                subject.data.part(part or subject.data.scored),
                subject.data.classes,
                batch_size=batch_size_for(shape.in_channels, shape.height, shape.width),
                temperature=self.about.temperature,
                ranked=True,
                progress=lambda done, total: progress("Evaluating", done, total),
                stopped=stopped,
            )
        if report is None:
            raise Cancelled("the evaluation was stopped")
        return report

    def predictions(self, report: Report, part: Part | None = None) -> Predictions:
        """Return what `report` knows of each image of `part`, by default the same as in `evaluate`."""
        data = self.subject.data
        part = part or data.scored
        files = files_of(data.part(part))
        if len(files) not in (0, report.n):
            files = files.at(report.columns["index"])
        origin = Origin(
            classes=data.classes,
            data=data.name,
            run=self.about.run,
            step=self.step,
            temperature=self.about.temperature,
            notices=self.matched,
            part=part,
            description=data.description,
        )
        return predictions_of(report, origin, files)

    def close(self) -> None:
        """End what reads the data."""
        self.subject.data.close()


@dataclass(frozen=True)
class CheckpointReport:
    """The scores of the checkpoint `path` on `part` of `data`, its logits divided by `temperature`."""

    path: Path
    data: str
    report: Report
    notices: tuple[str, ...]
    scores: Scores
    temperature: float
    part: Part = "test"


def read_about(path: Path) -> checkpoint.About:
    """Return what the checkpoint `path` says about its weights. Raises `BadInput`."""
    return checkpoint.load(path)[0]


def load_network(
    path: Path,
    *,
    model: str = "lenet",
    device: str = "auto",
) -> tuple[checkpoint.About, nn.Module]:
    """Return what the checkpoint `path` says, and its network in `eval()` mode on `device`.

    `model` must name the network where that is a person's own code. Raises `BadInput` when it cannot be used.
    """
    about, network, _ = _load_network(path, model, resolve(device))
    return about, network


def _load_network(path: Path, model: str, device: torch.device) -> tuple[checkpoint.About, nn.Module, dict[str, Any]]:
    about, weights, training = checkpoint.load(path)
    about = about.built_by(check_trusted("the checkpoint's network is", about.architecture.name, "--model", model))
    network = build(about.architecture, seed=0)
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise BadInput(f"the weights in {path} do not fit its model: {reason_of(error)}") from error
    return about, network.to(device).eval(), training


def open_checkpoint(
    path: Path,
    *,
    data: str | None = None,
    data_dir: Path | None = None,
    model: str = "lenet",
    device: str = "auto",
    classes_by: ClassesBy = "name",
    bare: BareWeights = BareWeights(),  # noqa: B008  # frozen
    part: Part | None = None,
    progress: Callable[[str, int, int], None] = lambda _phase, _done, _total: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> OpenedCheckpoint:
    """Open the checkpoint `path` and its data; images are decoded as its run had them, and transformed as it says.

    `data` None means the data set that it was trained on. `model` must name the network where that is a person's own
    code, or where `path` is a bare state dict, of which `bare` says more. The classes of the data are the network's of
    the same names, or with `classes_by` "position" those in the same places; what is said of images of unknown classes
    is of `part`, by default that of `evaluate`. Raises `BadInput` when the checkpoint or
    the data cannot be used, or do not belong together, `Cancelled`.
    """
    target = resolve(device)
    found = open_bare(path, bare, model, target) if is_bare(path) else None
    if found is not None and data is None:
        raise BadInput(f"{path} does not say which data it is for; name it with --data")
    about, network, training = (found.about, found.network, {}) if found else _load_network(path, model, target)
    if found is None:
        check_not_bare(path, bare)
    known = None if found else recorded_data(path, about)
    wanted = _wanted(data, data_dir, about, known)
    decoding = _decoding(about, found, known)
    images = load(wanted, target, decoding=decoding, known=known, progress=progress, cancelled=cancelled)
    if known is not None and images.differences:
        _require_apart(path, known, images, part or images.scored)
    if found and not found.named:
        about = _named_by(images, about, path)
    if data is None:
        images = images.numbered_for(training.get("images", 0))
        if training.get("watched", "test") == "test":
            images = images.watching("test")
    where = str(path)
    architecture = about.architecture
    _check_channels(images, architecture.in_channels, where)
    match = (match_by_position if classes_by == "position" else match_by_name)(about.classes, images.classes)
    require_any(match, where, images.name)
    matched = tuple(match.notices(images.name, images.part(part or images.scored).labels.numpy()))
    images = with_classes(images.with_transform(about.transform), match)
    subject = Subject(network, images, about.transform, architecture, target, about.temperature)
    step, epoch, position = (_count(training.get(name)) for name in ("step", "epoch", "position"))
    return OpenedCheckpoint(path, about, subject, step, matched, epoch + (position > 0))


def _decoding(about: checkpoint.About, found: Bare | None, known: RecordedData | None) -> Decoding | None:
    """Return how images are decoded: as the bare weights `found` or the network want it; None: as they are `known`."""
    channels = about.architecture.in_channels
    if found is not None:
        return msgspec.structs.replace(found.decoding, channels=channels)
    return Decoding(channels=channels, height=0, width=0) if known is None else None


def _check_channels(images: ImageData, channels: int, where: str) -> None:
    if images.channels != channels:
        raise BadInput(f"{where} takes images of {channels} channels, and {images.name} has {images.channels}")


def _named_by(images: ImageData, about: checkpoint.About, path: Path) -> checkpoint.About:
    """Return `about` with the classes of `images`. Raises `BadInput` where the network has more or fewer."""
    count = about.architecture.num_classes
    if len(images.classes) != count:
        raise BadInput(
            f"the weights in {path} have {count} classes, and {images.name} has {len(images.classes)}; "
            "name theirs with --classes"
        )
    return msgspec.structs.replace(about, classes=images.classes)


def _require_apart(path: Path, known: RecordedData, images: ImageData, part: Part) -> None:
    """Raise `BadInput` where `part` was drawn from the training images, and is drawn anew from others now."""
    before = known.description
    drawn = "val" if before.request.val else "test"
    if before.split != "drawn" or known.images or part != drawn or images.description is None:
        return
    if images.description.parts.get(part) == before.parts.get(part):
        return
    way = f"score it on other images with --data; {'; '.join(images.differences)}"
    if before.kind == "folder":
        way = f"copy images.safetensors from its run's folder beside it, or {way}"
    raise BadInput(
        f"{path} cannot be scored on {part} images of {images.name}: they were drawn from the training images, which "
        f"have changed, so that some of them were trained on; {way}"
    )


def _count(value: object) -> int:
    return value if isinstance(value, int) else 0


def evaluate_checkpoint(
    path: Path,
    *,
    data: str | None = None,
    data_dir: Path | None = None,
    model: str = "lenet",
    device: str = "auto",
    classes_by: ClassesBy = "name",
    bare: BareWeights = BareWeights(),  # noqa: B008  # frozen
    part: Part | None = None,
    progress: Callable[[str, int, int], None] = lambda _phase, _done, _total: None,
) -> CheckpointReport:
    """Evaluate the checkpoint `path` on `part`, by default test, else val; see `open_checkpoint`."""
    opened = open_checkpoint(
        path,
        data=data,
        data_dir=data_dir,
        model=model,
        device=device,
        classes_by=classes_by,
        bare=bare,
        part=part,
        progress=progress,
    )
    try:
        report = opened.evaluate(progress, part=part)
        scores = scores_of(opened.predictions(report, part or opened.subject.data.scored))
    finally:
        opened.close()
    images = opened.subject.data
    problems = images.problems[:_MOST_PROBLEMS]
    if len(images.problems) > _MOST_PROBLEMS:
        problems = (*problems, f"and {len(images.problems) - _MOST_PROBLEMS:,} more")
    notices = (*images.differences, *images.notices, *opened.matched, *problems)
    return CheckpointReport(path, images.name, report, notices, scores, opened.about.temperature, part or images.scored)


def _wanted(data: str | None, data_dir: Path | None, about: checkpoint.About, known: RecordedData | None) -> DataConfig:
    """Return the data that is asked for, by default the checkpoint's own as its run had it."""
    own = known.description.request if known is not None else None
    if data is None:
        check_trusted_data("the checkpoint's data is", own.name if own is not None else about.data, None)
        wanted = own or DataConfig(name=about.data)
    else:
        wanted = DataConfig(name=data)
        # The run says what a name alone does not: where the data lies, and how it was read.
        if own is not None and same_data(own, wanted):
            wanted = msgspec.structs.replace(own, name=data)
    if data_dir is not None:
        wanted = msgspec.structs.replace(wanted, dir=str(data_dir))
    return wanted
