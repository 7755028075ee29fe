"""What a finetuning plan would do, without doing it."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from finetui.engine.checkpoints.checkpoint import About
from finetui.engine.data import known_classes
from finetui.engine.errors import BadInput
from finetui.engine.models.architecture import example
from finetui.engine.models.heads import evaluating, forward
from finetui.engine.protocol.commands import PreviewFinetune
from finetui.engine.protocol.config import FinetuneConfig, RunConfig, is_factory
from finetui.engine.protocol.events import FinetunePreview, StagePreview
from finetui.engine.runs.derived import child_config
from finetui.engine.setup.finetune import Finetune, build_finetuned
from finetui.engine.training.freezing import Freezer
from finetui.engine.training.layer_decay import decayed
from finetui.engine.training.optimizer import build_optimizer
from finetui.engine.training.recipes import build_plan, frozen_layers, schedules_of

_CURVE_POINTS = 240


def preview(
    command: PreviewFinetune, config: RunConfig, about: About, weights: dict[str, torch.Tensor], channels: int
) -> FinetunePreview:
    """Return what `command` asks about the run that is configured by `config` and has these `weights`."""
    try:
        child = child_config(config, command.plan, Path("last.ckpt"), about.run)
        assert child.finetune is not None
        classes, notices = _classes(child, config, about)
        # A person's own network may compute with numbers while it is built or run; there are none on `meta`.
        where = "cpu" if is_factory(about.architecture.name) else "meta"
        found = build_finetuned(child.finetune, about, weights, classes, channels, 0, device=where)
        stages = _stages(child, found, counted=where == "meta")
    except BadInput as error:
        return FinetunePreview(command=command, problem=str(error))
    moved = found.moved
    return FinetunePreview(
        command=command,
        head=found.head,
        notices=(*notices, *found.notices[1:]),
        stages=stages,
        total_parameters=sum(p.numel() for group in found.groups for p in group.parameters.values()),
        reused=_layers(moved.reused),
        renamed=tuple(f"{old} → {new}" for old, new in moved.renamed),
        dropped=tuple(f"{name} ({why})" for name, why in moved.dropped),
        fresh=_layers(moved.fresh),
        curve=_curve(child, found, stages),
    )


def _classes(child: RunConfig, config: RunConfig, about: About) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if child.data == config.data:
        return about.classes, ()
    classes = known_classes(child.data.name)
    if classes is not None:
        return classes, ()
    return about.classes, (
        f"the classes of {child.data.name} are only known once it is read: different ones get a new head",
    )


def _layers(tensors: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the layers that own `tensors`, each once, in order."""
    return tuple(dict.fromkeys(name.rpartition(".")[0] or name for name in tensors))


def _stages(child: RunConfig, found: Finetune, *, counted: bool) -> tuple[StagePreview, ...]:
    finetune: FinetuneConfig | None = child.finetune
    assert finetune is not None
    training = child.training
    plan = build_plan(finetune.recipe, found.groups, training.epochs, model=found.architecture.name)
    plan = decayed(plan, found.groups, training.layer_decay)
    previews: list[StagePreview] = []
    epoch = 1
    freezer = Freezer(found.model, found.groups, build_optimizer(found.groups, training))
    whole = _work(found) if counted else None
    for stage in plan:
        wanted = frozen_layers(stage, freezer) | freezer.layers_of(finetune.freeze) | freezer.owner
        freezer.set(freezer.frozen - wanted - freezer.bypassed, frozen=False)
        freezer.set(wanted, frozen=True)
        trains = tuple(group.name for group in freezer.table() if group.trainable)
        layers = [layer.name for group in found.groups for layer in group.layers if layer.parameters]
        factors = [stage.factors.get(name, 1.0) for name in layers if name not in freezer.frozen]
        rates = [training.lr * stage.lr_factor * factor for factor in factors]
        previews.append(
            StagePreview(
                name=stage.name,
                first_epoch=epoch,
                last_epoch=epoch + stage.epochs - 1,
                trains=trains,
                parameters=freezer.trainable(),
                learning_rates=(min(rates), max(rates)),
                frozen=tuple(group.name for group in found.groups if group.in_use and group.name not in trains),
                work=_work(found) / whole if whole else None,
            )
        )
        epoch += stage.epochs
    return tuple(previews)


def _work(found: Finetune) -> int:
    """Return the FLOPs of a training step of two images, by what is frozen now; on `meta` nothing is computed."""
    with FlopCounterMode(display=False) as counter, evaluating(found.model), torch.device("meta"):
        forward(found.model, example(found.architecture)).sum().backward()  # type: ignore[no-untyped-call]
    found.model.zero_grad(set_to_none=True)
    return int(counter.get_total_flops())


def _curve(child: RunConfig, found: Finetune, stages: Sequence[StagePreview]) -> tuple[tuple[float, float], ...]:
    """Return the highest learning rate of the layers that train, from epoch 0 to the last."""
    assert child.finetune is not None
    epochs = child.training.epochs
    plan = build_plan(child.finetune.recipe, found.groups, epochs, model=found.architecture.name)
    per_epoch = max(_CURVE_POINTS // epochs, 4)
    stride = max(epochs * per_epoch // _CURVE_POINTS, 1)
    points: list[tuple[float, float]] = []
    for stage, shown in zip(plan, stages, strict=True):
        first = shown.first_epoch - 1
        rate = schedules_of(stage, child.training, per_epoch, first=first == 0).rate
        highest = shown.learning_rates[1]
        steps = range(0, stage.epochs * per_epoch, stride)
        points += [(first + step / per_epoch, highest * rate(step)) for step in steps]
    return tuple(points)
