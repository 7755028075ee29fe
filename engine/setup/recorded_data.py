"""What a checkpoint, and the run that it lies beside, know of the data that was trained on."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import msgspec
import torch

from finetui.engine.checkpoints.checkpoint import About
from finetui.engine.data import ImageData, Transform, load
from finetui.engine.data.choose_decoding import BY_IMAGES, sized
from finetui.engine.data.download import Progress
from finetui.engine.data.recorded_data import RecordedData, load_images, matching
from finetui.engine.protocol.config import TORCHVISION_DATASETS, DataConfig, RunConfig, names_a_place
from finetui.engine.protocol.config_file import load as load_config
from finetui.engine.protocol.description import DataDescription, DataKind
from finetui.engine.protocol.paths import is_code, same_data
from finetui.engine.protocol.values import Decoding
from finetui.engine.runs.folder import RunFolder, how_it_began
from finetui.engine.setup.network_input import network_input


def recorded_data(path: Path, about: About) -> RecordedData | None:
    """Return what the checkpoint `path` knows of the images of its run; None where that is no more than a name.

    Checkpoints of earlier versions do not say it; of those, the run's folder tells what it can. Raises `BadInput`.
    """
    folder = RunFolder(path.absolute().parent)
    if about.description is not None:
        return RecordedData(about.description, matching(about.description, load_images(folder.images)))
    if not (folder.journal.is_file() and folder.config.is_file()):
        return None
    described = _of_an_old_run(folder, about)
    return None if described is None else RecordedData(described)


def _of_an_old_run(folder: RunFolder, about: About) -> DataDescription | None:
    """Return what configuration and journal say; None where they do not belong to the checkpoint."""
    config, began = load_config(folder.config), how_it_began(folder)
    if began is None or about.run != folder.name:
        return None
    data, request = began.data, config.data
    if names_a_place(about.data):  # absolute, where the configuration may have it relative to wherever it was
        request = msgspec.structs.replace(request, name=about.data)
    decoding = Decoding(channels=data.channels, height=data.height, width=data.width)
    kind: DataKind = "torchvision" if request.name in TORCHVISION_DATASETS else "idx"
    if names_a_place(request.name):
        kind = "factory" if is_code(request.name) else "folder"
    return DataDescription(
        request=request,
        kind=kind,
        classes=(),
        parts={},
        seed=config.training.seed,
        decoding=decoding if data.channels in (1, 3) else None,
    )


def load_as(
    config: RunConfig,
    device: torch.device,
    progress: Progress,
    cancelled: Callable[[], bool],
    *,
    decoding: Decoding | None = None,
    known: RecordedData | None = None,
) -> ImageData:
    """Return the data of `config`: decoded as `decoding` says, else as the run that saw `known` had it; see `load`."""
    return load(
        config.data,
        device,
        seed=config.training.seed,
        decoding=decoding,
        known=known,
        progress=progress,
        cancelled=cancelled,
    )


def load_for_finetune(
    config: RunConfig,
    device: torch.device,
    about: About,
    known: RecordedData | None,
    progress: Progress,
    cancelled: Callable[[], bool],
) -> ImageData:
    """Return the data of a finetune: the parent's as that had it, or other data as the parent's network takes it.

    `known` is what the finetune itself saw, where it is done again.
    """
    assert config.finetune is not None
    if known is not None:
        return load_as(config, device, progress, cancelled, known=known)
    parent = recorded_data(Path(config.finetune.parent), about)
    if (config.model.crop, config.model.resize, config.model.interpolation) != (0, 0, ""):
        decoding: Decoding | None = network_input(config, None, "").decoding
    else:
        decoding = None if _is_same(parent, config.data) else for_other_data(parent, about.transform, config)
    parent = parent and dataclasses.replace(parent, grows=True)
    return load_as(config, device, progress, cancelled, decoding=decoding, known=parent)


def _is_same(parent: RecordedData | None, data: DataConfig) -> bool:
    if parent is None:
        return False
    before = parent.description.request
    return same_data(before, data) and before.image_size == data.image_size


def with_stand_in(config: RunConfig, known: RecordedData | None) -> RunConfig:
    """Return `config` with the digits that stood in for MNIST when the run that saw `known` began."""
    if known is None or (config.data.name, known.description.request.name) != ("mnist", "mnist-sample"):
        return config
    return msgspec.structs.replace(config, data=msgspec.structs.replace(config.data, name="mnist-sample"))


def by_weights(description: DataDescription | None) -> DataDescription | None:
    """Return `description` of data that is normalised as the starting weights want it."""
    return description and msgspec.structs.replace(description, moments="weights")


def for_other_data(known: RecordedData | None, transform: Transform, config: RunConfig) -> Decoding:
    """Return how pictures of other data than was trained on are decoded, for a network that takes over `transform`.

    As for the run, but where that enlarged its images for the network: these are brought to the network's size at once.
    Their channels are their own.
    """
    size = config.data.image_size
    before = known.description.decoding if known is not None else None
    if size and (known is None or known.description.request.image_size != size):
        return sized(size)
    if before is None:
        return msgspec.structs.replace(BY_IMAGES, height=transform.height, width=transform.width)
    alike = before.height * transform.width == before.width * transform.height
    if alike and before.height < transform.height:
        return msgspec.structs.replace(BY_IMAGES, height=transform.height, width=transform.width)
    return msgspec.structs.replace(before, channels=0)
