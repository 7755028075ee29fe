"""The summary of a network that is named, without training it."""

from pathlib import Path

import msgspec
import torch

from finetui.engine.checkpoints import checkpoint
from finetui.engine.data import known_classes, load
from finetui.engine.errors import BadInput
from finetui.engine.models import Architecture, build, check_model, fit_input
from finetui.engine.models.device import resolve
from finetui.engine.models.lenet import INPUT_SIZE
from finetui.engine.models.summary import ModelSummary, ModuleSummary, summarise
from finetui.engine.protocol.config import DataConfig, is_factory
from finetui.engine.protocol.model_names import hub_of
from finetui.engine.runs.trust import check_trusted
from finetui.engine.setup.hub_start import definition_of, stated_input

__all__ = ["Architecture", "ModelSummary", "ModuleSummary", "summarise_model"]

_IMAGENET = (3, 224, 224, 1000)  # channels, height, width, classes


def summarise_model(
    model: str | None = None,
    *,
    data: str | None = None,
    data_dir: Path | None = None,
    image_size: int | None = None,
    classes: int | None = None,
    path: Path | None = None,
    timed: bool = False,
    device: str = "auto",
) -> tuple[Architecture, ModelSummary]:
    """Return what the network `model` (default: lenet) is built as, and its summary.

    `data` decides the images' shape and the classes, as in training; without, they are LeNet's 1x28x28 and 10, and for
    others 3x224x224 and 1000. `image_size` (a side in pixels) and `classes` have precedence. With `path` the network is
    that of a checkpoint; `model` is then needed only where that is a person's own code, and nothing else may be given.
    Unless `timed`, on `device`, nothing is computed but a person's own code. Raises `BadInput`.
    """
    if path is not None:
        if not (data is None and image_size is None and classes is None):
            raise BadInput("a checkpoint defines its network: leave out --data, --image-size and --classes")
        about = checkpoint.load(path)[0]
        trusted = check_trusted("the checkpoint's network is", about.architecture.name, "--model", model or "lenet")
        architecture = about.built_by(trusted).architecture
    else:
        architecture = _architecture(model or "lenet", data, data_dir, image_size, classes)
    target = resolve(device)
    # On the device `meta` even the largest takes no memory; a person's own code may read numbers, which it has none of.
    own = is_factory(architecture.name)
    where = torch.device("cpu") if own or timed else torch.device("meta")
    with where:
        network = build(architecture, seed=0)
    if timed:
        where = target
        network = network.to(target)
    shape = (architecture.in_channels, architecture.height, architecture.width)
    return architecture, summarise(network, shape, where, timed=timed)


def _architecture(
    model: str, data: str | None, data_dir: Path | None, image_size: int | None, classes: int | None
) -> Architecture:
    check_model(model)
    if classes is not None and classes < 1:
        raise BadInput(f"--classes: a network has at least 1 class, not {classes}")
    definition = definition_of(model)
    request = DataConfig(name=data or "mnist", dir=str(data_dir) if data_dir else None, image_size=image_size or 0)
    if data is not None:
        channels, height, width, found = _of_data(request)
        if image_size is None and not hub_of(model):
            height, width = fit_input(model, channels, height, width)
    else:
        channels, height, width, found = (1, INPUT_SIZE, INPUT_SIZE, 10) if model == "lenet" else _IMAGENET
    if hub_of(model):
        stated = stated_input(model, definition)
        height, width = stated.height or height, stated.width or width
    if image_size is not None:
        height = width = image_size
    return Architecture(
        name=model,
        num_classes=classes or found,
        in_channels=channels,
        height=height,
        width=width,
        definition=definition,
    )


def _of_data(request: DataConfig) -> tuple[int, int, int, int]:
    """Return the channels, height and width of the images, and the number of classes."""
    known = known_classes(request.name)
    if known is not None:
        return 1, INPUT_SIZE, INPUT_SIZE, len(known)  # MNIST and its kin: nothing has to be there
    # Streamed: of a folder then little more than the headers is read.
    request = msgspec.structs.replace(request, loader="stream")
    images = load(request, torch.device("cpu"))
    images.close()
    return images.channels, images.height, images.width, len(images.classes)
