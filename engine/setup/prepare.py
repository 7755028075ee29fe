"""Everything that must be there before the first step: device, data, network, starting weights, plan."""

import dataclasses
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch
from torch import nn

from finetui.engine.checkpoints import checkpoint
from finetui.engine.checkpoints.checkpoint import Checkpoint
from finetui.engine.checkpoints.state_dict import read_state_dict
from finetui.engine.data import ImageData, Transform
from finetui.engine.data.known import Known
from finetui.engine.data.transform import for_channels
from finetui.engine.errors import BadInput, reason_of
from finetui.engine.models import (
    Architecture,
    ModuleGroup,
    Transplant,
    apply_transplant,
    build,
    check_model,
    find_head,
    fit_input,
    module_groups,
    plan_transplant,
)
from finetui.engine.models.architecture import example
from finetui.engine.models.device import describe, resolve
from finetui.engine.protocol.config import RunConfig, is_factory, names_a_place, parent_of
from finetui.engine.protocol.description import DataDescription
from finetui.engine.protocol.events import DataSummary, LayerGroup, RunPrepared
from finetui.engine.protocol.places import absolute_places
from finetui.engine.protocol.values import Decoding, FastPath
from finetui.engine.runs.trust import check_trusted
from finetui.engine.setup.finetune import Finetune, build_finetuned
from finetui.engine.setup.known_data import by_weights, known_data, load_as, load_for_finetune, with_stand_in
from finetui.engine.setup.pretrained import Pretrained, pretrained
from finetui.engine.text import clean
from finetui.engine.training import fast_paths, precision, torch_compile
from finetui.engine.training.recipes import Stage, build_plan, whole_run
from finetui.engine.version import __version__

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Prepared:
    """What a session trains, all on `device`. `config` is the one asked for with the model's name filled in.

    `dropped` names the tensors of the starting weights that fit nowhere. `path` is how its steps are computed, `how` a
    sentence on why.
    """

    config: RunConfig
    device: torch.device
    data: ImageData
    architecture: Architecture
    transform: Transform
    model: nn.Module
    groups: tuple[ModuleGroup, ...]
    plan: tuple[Stage, ...]
    notices: tuple[str, ...]
    dropped: tuple[str, ...] = ()
    path: FastPath = FastPath()  # noqa: RUF009  # immutable
    how: str = ""
    described: DataDescription | None = None

    @property
    def description(self) -> DataDescription | None:
        """What the run saw when it began: a run that goes on keeps what it has."""
        return self.described or self.data.description

    def summary(self) -> DataSummary:
        """Return the data in use as the events show it."""
        data = self.data
        return DataSummary(
            name=data.name,
            requested=data.requested,
            location=data.location,
            classes=data.classes,
            train_size=len(data.train),
            val_size=0 if data.val is None else len(data.val),
            test_size=0 if data.test is None else len(data.test),
            channels=data.channels,
            height=data.height,
            width=data.width,
            input_height=self.architecture.height,
            input_width=self.architecture.width,
            loader=data.loader,
        )

    def device_name(self) -> str:
        """Return the device's name for people."""
        return describe(self.device)

    def event(self, layers: tuple[LayerGroup, ...], steps_per_epoch: int) -> RunPrepared:
        """Return the event that says what was prepared."""
        return RunPrepared(
            config=self.config,
            data=self.summary(),
            layers=layers,
            device=self.device_name(),
            parameters=sum(parameter.numel() for parameter in self.model.parameters()),
            steps_per_epoch=steps_per_epoch,
            notices=self.notices,
            parent=parent_of(self.config),
            versions={
                "finetui": __version__,
                "torch": str(torch.__version__),
                "python": platform.python_version(),
            },
            fast=self.path,
            description=self.description,
        )

    def about(self, run: str) -> checkpoint.About:
        """Return what a checkpoint of the run `run` says about its weights."""
        return checkpoint.About(
            architecture=self.architecture,
            transform=self.transform,
            classes=self.data.classes,
            data=self.data.requested if names_a_place(self.data.requested) else self.data.name,
            run=run,
            head=", ".join(group.name for group in self.groups if group.head),
            description=self.description,
        )


def prepare(
    config: RunConfig,
    progress: Progress,
    cancelled: Callable[[], bool],
    *,
    model: nn.Module | None = None,
    data: ImageData | None = None,
    restored: Checkpoint | None = None,
    path: FastPath | None = None,
    known: Known | None = None,
) -> Prepared:
    """Load and build what `config` names; `progress(phase, done, total)` reports on the way.

    `model` and `data`, where a caller has them in hand, take the place of what the configuration names. With
    `restored` the run goes on from that checkpoint of it: network, transform and path are those that it has. `path`
    takes the place of the one that the configuration would lead to, `known` is what a run that is done again saw. From
    here on as many threads compute as the path says. Raises `BadInput` for anything that cannot be had, `Cancelled`
    once `cancelled` answers True.
    """
    prepared = _build(absolute_places(config), progress, cancelled, model, data, restored, known)
    how = ""
    if path is None and restored is not None:
        path = fast_paths.recorded(restored.training.get("fast"), prepared.device)
    elif path is None:
        path, how = fast_paths.choose(
            prepared.model,
            prepared.groups,
            prepared.data.train,
            config.training,
            progress=lambda done, total: progress("Measuring fast paths", done, total),
            stopped=cancelled,
        )
    if path.threads:
        torch.set_num_threads(path.threads)
    fast_paths.arrange(prepared.model, path)
    said = precision.notices(config.training.precision, prepared.device)
    if config.training.compile != "off":
        progress("Compiling the network", 0, 0)
        torch_compile.check(prepared.model, prepared.data.train, config.training, path)
        said.append(torch_compile.NOTICE)
    return dataclasses.replace(prepared, path=path, how=how, notices=(*prepared.notices, *said))


def _build(
    config: RunConfig,
    progress: Progress,
    cancelled: Callable[[], bool],
    model: nn.Module | None,
    data: ImageData | None,
    restored: Checkpoint | None,
    known: Known | None,
) -> Prepared:
    device = resolve(config.training.device)
    precision.check(config.training.precision, device)
    if data is not None:
        given = data.requested if names_a_place(data.requested) else "own:data"
        config = msgspec.structs.replace(config, data=msgspec.structs.replace(config.data, name=given))
    if restored is not None:
        known = known or known_data(restored.path, restored.about)
        config = with_stand_in(config, known)
        data = data or load_as(config, device, progress, cancelled, known=known)
        progress("Building the model", 0, 0)
        return _prepared_again(config, device, data, restored, model)
    finetune = config.finetune
    if finetune is not None:
        about, weights, _ = checkpoint.load(Path(finetune.parent))
        trusted = check_trusted("the checkpoint's network is", about.architecture.name, "--model", config.model.name)
        about = about.built_by(trusted)
        config = _with_model(config, trusted)
        data = data or load_for_finetune(config, device, about, known, progress, cancelled)
        progress("Building the model", 0, 0)
        found = build_finetuned(finetune, about, weights, data.classes, data.channels, config.training.seed)
        apply_transplant(found.model, weights, found.moved)
        return _prepared_finetune(config, device, data, found)
    if model is None:
        check_model(config.model.name)
    ready = _pretrained(config, progress, cancelled)
    wanted = None
    if ready is not None and not config.data.image_size:
        wanted = Decoding(channels=0, height=ready.height, width=ready.height)
    data = data or load_as(config, device, progress, cancelled, decoding=wanted, known=known)
    progress("Building the model", 0, 0)
    if model is not None:
        return _prepared_own(config, device, data, model)
    return _prepared_new(config, device, data, ready)


def _with_model(config: RunConfig, name: str) -> RunConfig:
    return msgspec.structs.replace(config, model=msgspec.structs.replace(config.model, name=name, weights="none"))


def _pretrained(config: RunConfig, progress: Progress, cancelled: Callable[[], bool]) -> Pretrained | None:
    if config.model.weights != "default":
        return None
    return pretrained(config.model.name, progress=progress, cancelled=cancelled)


def _prepared_new(config: RunConfig, device: torch.device, data: ImageData, ready: Pretrained | None) -> Prepared:
    name = config.model.name
    if ready is not None:
        transform = Transform(
            mean=for_channels(ready.mean, data.channels),
            std=for_channels(ready.std, data.channels),
            height=ready.height,
            width=ready.width,
        )
    else:
        height, width = fit_input(name, data.channels, data.height, data.width)
        transform = Transform(mean=data.mean, std=data.std, height=height, width=width)
    architecture = Architecture(
        name=name,
        num_classes=len(data.classes),
        in_channels=data.channels,
        height=transform.height,
        width=transform.width,
    )
    network = build(architecture, config.training.seed)
    head = find_head(network, example(architecture))
    notices = [*data.notices, *_input_notices(config, data, transform)]
    moved = Transplant(reused=(), renamed=(), dropped=(), fresh=())
    if ready is not None or config.model.weights != "none":
        weights = ready.weights if ready is not None else read_state_dict(Path(config.model.weights).expanduser())
        moved = plan_transplant(network, weights)
        if not moved.reused and not moved.renamed:
            raise BadInput(f"model.weights (--weights): nothing in {config.model.weights} fits {name}")
        apply_transplant(network, weights, moved)
        notices.append(f"{ready.description if ready else clean(config.model.weights)}: {moved.sentence()}")
    return Prepared(
        config=config,
        device=device,
        data=data.with_transform(transform),
        architecture=architecture,
        transform=transform,
        model=network.to(device),
        groups=module_groups(network, [head]),
        plan=whole_run(config.training.epochs),
        notices=tuple(notices),
        dropped=_dropped(moved),
        described=by_weights(data.description) if ready is not None else None,
    )


def _prepared_again(
    config: RunConfig, device: torch.device, data: ImageData, restored: Checkpoint, model: nn.Module | None
) -> Prepared:
    """Prepare a run that goes on; a finetune's parent is not needed any more, since the checkpoint has everything."""
    about = restored.about
    data = data.watching(restored.training.get("watched", "test"))
    if data.classes != about.classes or data.channels != about.architecture.in_channels:
        raise BadInput(
            f"the run cannot go on: {data.name} now has other classes or channels than when the checkpoint was "
            f"written ({len(about.classes)} classes, {about.architecture.in_channels} channels)"
        )
    if model is None:
        trusted = check_trusted("the checkpoint's network is", about.architecture.name, "--model", config.model.name)
        about = about.built_by(trusted)
        model = build(about.architecture, config.training.seed)
    try:
        model.load_state_dict(restored.model)
    except RuntimeError as error:
        raise BadInput(f"the checkpoint's weights do not fit the run's model: {reason_of(error)}") from error
    model = model.to(device)
    groups = module_groups(model, [find_head(model, example(about.architecture, device))])
    epochs = config.training.epochs
    plan = build_plan(config.finetune.recipe, groups, epochs) if config.finetune is not None else whole_run(epochs)
    return Prepared(
        config=msgspec.structs.replace(
            config, model=msgspec.structs.replace(config.model, name=about.architecture.name)
        ),
        device=device,
        data=data.with_transform(about.transform),
        architecture=about.architecture,
        transform=about.transform,
        model=model,
        groups=groups,
        plan=plan,
        notices=data.notices,
        described=about.description,
    )


def _prepared_own(config: RunConfig, device: torch.device, data: ImageData, model: nn.Module) -> Prepared:
    """Prepare a caller's own module as it is: its images are given as they are, its weights are where it has them."""
    # The name under which `--model` finds it again, if its module can be imported.
    config = _with_model(config, f"{type(model).__module__}:{type(model).__name__}")
    architecture = Architecture(
        name=config.model.name,
        num_classes=len(data.classes),
        in_channels=data.channels,
        height=data.height,
        width=data.width,
    )
    model = model.to(device)
    head = find_head(model, example(architecture).to(device))
    return Prepared(
        config=config,
        device=device,
        data=data,
        architecture=architecture,
        transform=Transform(mean=data.mean, std=data.std, height=data.height, width=data.width),
        model=model,
        groups=module_groups(model, [head]),
        plan=whole_run(config.training.epochs),
        notices=data.notices,
    )


def _prepared_finetune(config: RunConfig, device: torch.device, data: ImageData, found: Finetune) -> Prepared:
    assert config.finetune is not None
    plan = build_plan(config.finetune.recipe, found.groups, config.training.epochs)
    return Prepared(
        config=config,
        device=device,
        data=data.with_transform(found.transform),
        architecture=found.architecture,
        transform=found.transform,
        model=found.model.to(device),
        groups=found.groups,
        plan=plan,
        notices=(*data.notices, *_input_notices(config, data, found.transform), *found.notices),
        dropped=_dropped(found.moved),
        described=by_weights(data.description),
    )


def _dropped(moved: Transplant) -> tuple[str, ...]:
    return tuple(f"{tensor}: {why}" for tensor, why in moved.dropped)


def _input_notices(config: RunConfig, data: ImageData, transform: Transform) -> list[str]:
    """Return what a person should know about what the network is given."""
    notices = []
    name = clean(config.model.name)
    if is_factory(config.model.name):
        notices.append(f"the network is your own code, {name}: it ran in the engine's process")
    if (transform.height, transform.width) != (data.height, data.width):
        before, after = f"{data.height}x{data.width}", f"{transform.height}x{transform.width}"
        notices.append(f"images of {before} pixels are resized to {after} for {name}")
    return notices
