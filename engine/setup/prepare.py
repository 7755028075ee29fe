"""Everything that must be there before the first step: device, data, network, starting weights, plan."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import msgspec
import torch
from torch import nn

from finetui.engine.checkpoints import checkpoint
from finetui.engine.checkpoints.checkpoint import Checkpoint
from finetui.engine.checkpoints.wrappings import listed
from finetui.engine.data import ImageData, Transform
from finetui.engine.data.recorded_data import RecordedData
from finetui.engine.errors import BadInput, reason_of
from finetui.engine.models import (
    NEW_LAYER,
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
from finetui.engine.models.architecture import auxiliary_notice, example
from finetui.engine.models.device import resolve
from finetui.engine.models.heads import probe
from finetui.engine.protocol.config import RunConfig, TrainingConfig, is_factory, names_a_place
from finetui.engine.protocol.paths import absolute_places, short
from finetui.engine.protocol.values import FastPath
from finetui.engine.runs.trust import check_trusted
from finetui.engine.setup.finetune import Finetune, build_finetuned
from finetui.engine.setup.network_input import NetworkInput, network_input
from finetui.engine.setup.prepared import Beginning, Prepared
from finetui.engine.setup.recorded_data import by_weights, load_as, load_for_finetune, recorded_data, with_stand_in
from finetui.engine.setup.start_weights import StartWeights, start_weights
from finetui.engine.text import clean
from finetui.engine.training import fast_paths, precision, rules as training_rules, torch_compile
from finetui.engine.training.freezing import owner_notice
from finetui.engine.training.recipes import Stage, build_plan, whole_run

Progress = Callable[[str, int, int], None]
_MOST_CLASSES = 5  # that a sentence names


def prepare(
    config: RunConfig,
    progress: Progress,
    cancelled: Callable[[], bool],
    *,
    model: nn.Module | None = None,
    data: ImageData | None = None,
    restored: Checkpoint | None = None,
    begun: Beginning | None = None,
) -> Prepared:
    """Load and build what `config` names; `progress(phase, done, total)` reports on the way.

    `model` and `data`, where a caller has them in hand, take the place of what the configuration names. With
    `restored` the run goes on from that checkpoint of it: network, images, transform, path and rules are those that it
    has. So does `begun`, for a run from the first step on. From here on as many threads compute as the path says.
    Raises `BadInput` for anything that cannot be had, `Cancelled` once `cancelled` answers True.
    """
    rules = training_rules.CURRENT
    if restored is not None:
        rules = training_rules.recorded(restored.training)
    elif begun is not None:
        rules = begun.rules
    known = begun.known if begun is not None else None
    prepared = _build(absolute_places(config), progress, cancelled, model, data, restored, known, rules)
    epochs = (
        config.training.epochs if restored is None else restored.training.get("plan_epochs", config.training.epochs)
    )
    plan = _plan(prepared.config, prepared.groups, prepared.architecture.name, epochs, rules)
    prepared, path, how = _as_begun(prepared, config.training, restored, begun)
    if path.threads:
        torch.set_num_threads(path.threads)
    fast_paths.arrange(prepared.model, path)
    said = _computing_notices(prepared, config.training, path)
    if config.training.compile != "off":
        progress("Compiling the network", 0, 0)
        torch_compile.check(prepared.model, prepared.data.train, config.training, path)
        said.append(torch_compile.NOTICE)
    notices = (*prepared.notices, *said, *_empty_classes(prepared))
    return dataclasses.replace(prepared, plan=plan, path=path, how=how, rules=rules, notices=notices)


def _as_begun(
    prepared: Prepared, training: TrainingConfig, restored: Checkpoint | None, begun: Beginning | None
) -> tuple[Prepared, FastPath, str]:
    """Return `prepared` with images and transform as the run had them, the path of its steps, and a sentence on it.

    For a new run the path is chosen.
    """
    if restored is not None:
        data = prepared.data.numbered_for(restored.training.get("images", 0))
        path = fast_paths.recorded(restored.training.get("fast"), prepared.device)
        return dataclasses.replace(prepared, data=data), path, ""
    if begun is not None:
        transform = begun.transform or prepared.transform
        data = prepared.data.numbered_for(begun.images).with_transform(transform)
        return dataclasses.replace(prepared, data=data, transform=transform), begun.path, ""
    return prepared, *fast_paths.choose(prepared.model, prepared.groups, prepared.architecture, training)


def _computing_notices(prepared: Prepared, training: TrainingConfig, path: FastPath) -> list[str]:
    """Return what a person should know about how the steps are computed."""
    model, groups, architecture = prepared.model, prepared.groups, prepared.architecture
    return [
        *precision.notices(training.precision, prepared.device),
        *fast_paths.not_reproducible(model, groups, architecture, training, path),
    ]


def _plan(config: RunConfig, groups: tuple[ModuleGroup, ...], model: str, epochs: int, rules: int) -> tuple[Stage, ...]:
    if config.finetune is None:
        return whole_run(epochs)
    return build_plan(config.finetune.recipe, groups, epochs, model=model, rules=rules)


def _build(
    config: RunConfig,
    progress: Progress,
    cancelled: Callable[[], bool],
    model: nn.Module | None,
    data: ImageData | None,
    restored: Checkpoint | None,
    known: RecordedData | None,
    rules: int,
) -> Prepared:
    device = resolve(config.training.device)
    precision.check(config.training.precision, device)
    if data is not None:
        given = data.requested if names_a_place(data.requested) else "own:data"
        config = msgspec.structs.replace(config, data=msgspec.structs.replace(config.data, name=given))
    if restored is not None:
        known = known or recorded_data(restored.path, restored.about)
        data = data or load_as(with_stand_in(config, known), device, progress, cancelled, known=known)
        if known is not None and known.images:  # a branch keeps what its run saw, whatever is there now
            data = dataclasses.replace(data, keys=known.images)
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
        found = build_finetuned(
            finetune, about, weights, data.classes, data.channels, config.training.seed, rules=rules
        )
        found = dataclasses.replace(found, transform=_with_mean(config, found.transform))
        apply_transplant(found.model, weights, found.moved)
        return _prepared_finetune(config, device, data, found)
    if model is None:
        check_model(config.model.name)
    start = start_weights(config, progress, cancelled) if model is None else StartWeights()
    wanted = network_input(config, start.stated, start.source)
    asked = wanted.decoding if known is None else None
    data = data or load_as(config, device, progress, cancelled, decoding=asked, known=known)
    progress("Building the model", 0, 0)
    if model is not None:
        return _prepared_own(config, device, data, model, wanted)
    return _prepared_new(config, device, data, start, wanted)


def _with_model(config: RunConfig, name: str) -> RunConfig:
    return msgspec.structs.replace(config, model=msgspec.structs.replace(config.model, name=name, weights="none"))


def _with_mean(config: RunConfig, transform: Transform) -> Transform:
    """Return `transform` with the mean and deviation that `config` gives, if it does."""
    given = NetworkInput(mean=config.model.mean, std=config.model.std)
    return given.transform(transform, len(transform.mean))


def _prepared_new(
    config: RunConfig, device: torch.device, data: ImageData, start: StartWeights, wanted: NetworkInput
) -> Prepared:
    name = config.model.name
    height, width = wanted.height, wanted.width
    if not height or name == "lenet":
        height, width = fit_input(name, data.channels, data.height, data.width, start.definition)
    transform = Transform(mean=data.mean, std=data.std, height=height, width=width)
    transform = dataclasses.replace(wanted, height=0).transform(transform, data.channels)
    architecture = Architecture(
        name=name,
        num_classes=len(data.classes),
        in_channels=data.channels,
        height=transform.height,
        width=transform.width,
        definition=start.definition,
    )
    notices = [*data.notices, *_input_notices(config, data, transform), *wanted.notices(config, transform)]
    network = build(architecture, config.training.seed, notices.append)
    head = find_head(network, example(architecture))
    if not wanted.mean and 0 < data.sampled < len(data.train):
        count = f"{data.sampled:,} of the {len(data.train):,} training images, evenly spread"
        notices.append(f"inputs are normalized by the mean and deviation of {count}")
    moved = Transplant(reused=(), renamed=(), dropped=(), fresh=())
    if start.name:
        moved = plan_transplant(network, start.weights)
        if not moved.reused and not moved.renamed:
            raise BadInput(
                f"model.weights (--weights): nothing in {config.model.weights} fits {name}; it has "
                f"{listed(start.weights)}; {name} has {listed(network.state_dict())}"
            )
        apply_transplant(network, start.weights, moved)
        notices += [*start.notices, f"{start.name}: {moved.sentence()}"]
    groups = module_groups(network, [head])
    return Prepared(
        config=config,
        device=device,
        data=data.with_transform(transform),
        architecture=architecture,
        transform=transform,
        model=network.to(device),
        groups=groups,
        notices=(*notices, *owner_notice(network, groups)),
        dropped=_dropped(moved),
        described=by_weights(data.description) if wanted.mean else None,
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
        notices=data.notices,
        described=about.description,
    )


def _prepared_own(
    config: RunConfig, device: torch.device, data: ImageData, model: nn.Module, wanted: NetworkInput
) -> Prepared:
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
    images = example(architecture, device)
    found = probe(model, images)
    if found.classes != len(data.classes):
        raise BadInput(
            f"the network {type(model).__name__} returns {found.classes} logits for an image, and {data.name} has "
            f"{len(data.classes)} classes"
        )
    groups = module_groups(model, [found.head])
    transform = Transform(mean=data.mean, std=data.std, height=data.height, width=data.width)
    if wanted.mean:
        transform = dataclasses.replace(wanted, height=0).transform(transform, data.channels)
        data = data.with_transform(transform)
    return Prepared(
        config=config,
        device=device,
        data=data,
        architecture=architecture,
        transform=transform,
        model=model,
        groups=groups,
        notices=(*data.notices, *auxiliary_notice(model, images), *owner_notice(model, groups)),
    )


def _prepared_finetune(config: RunConfig, device: torch.device, data: ImageData, found: Finetune) -> Prepared:
    return Prepared(
        config=config,
        device=device,
        data=data.with_transform(found.transform),
        architecture=found.architecture,
        transform=found.transform,
        model=found.model.to(device),
        groups=found.groups,
        notices=(
            *data.notices,
            *_input_notices(config, data, found.transform),
            *found.notices,
            *owner_notice(found.model, found.groups),
        ),
        dropped=_dropped(found.moved),
        described=by_weights(data.description),
    )


def _empty_classes(prepared: Prepared) -> list[str]:
    """Return what there is to know of classes without training images where classes are weighed."""
    data = prepared.data
    counts = torch.bincount(data.train.labels, minlength=len(data.classes)).tolist()
    empty = [name for name, count in zip(data.classes, counts, strict=False) if not count]
    if prepared.config.training.class_weights == "none" or not empty:
        return []
    named = ", ".join(empty[:_MOST_CLASSES]) + (", ..." if len(empty) > _MOST_CLASSES else "")
    what = f"class {named} has" if len(empty) == 1 else f"{len(empty)} classes ({named}) have"
    return [f"{what} no training images, and no weight in the loss"]


def _dropped(moved: Transplant) -> tuple[str, ...]:
    # That the head is a new one is said once, and not tensor by tensor.
    return tuple(f"{tensor}: {why}" for tensor, why in moved.dropped if why != NEW_LAYER)


def _input_notices(config: RunConfig, data: ImageData, transform: Transform) -> list[str]:
    """Return what a person should know about what the network is given."""
    notices = []
    name = clean(short(config.model.name))
    if is_factory(config.model.name):
        notices.append(f"the network is your own code, {name}: it ran in the engine's process")
    if (transform.height, transform.width) != (data.height, data.width):
        before, after = f"{data.height}x{data.width}", f"{transform.height}x{transform.width}"
        notices.append(f"images of {before} pixels are resized to {after} for {name}")
    return notices
