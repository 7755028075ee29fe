"""A bare state dict, of whatever origin, in the place of a checkpoint: with the network and the input that it needs."""

from pathlib import Path
from typing import NamedTuple

import msgspec
import torch
from torch import Tensor, nn

from finetui.engine.checkpoints.archive import ArchiveError, audit
from finetui.engine.checkpoints.checkpoint import About
from finetui.engine.checkpoints.seal import find_seal
from finetui.engine.checkpoints.stand_ins import WEIGHTS
from finetui.engine.checkpoints.state_dict import WeightsFile, is_safetensors, read_weights
from finetui.engine.checkpoints.wrappings import listed
from finetui.engine.data import Transform
from finetui.engine.errors import BadInput
from finetui.engine.models import Architecture, Transplant, apply_transplant, build, find_head, plan_transplant
from finetui.engine.models.architecture import check_model, example
from finetui.engine.models.lenet import INPUT_SIZE
from finetui.engine.models.stems import find_stem
from finetui.engine.protocol.config import ModelConfig, RunConfig
from finetui.engine.protocol.model_names import hub_of
from finetui.engine.protocol.requests import BareWeights
from finetui.engine.protocol.values import Decoding
from finetui.engine.setup.hub_start import definition_of, stated_input
from finetui.engine.setup.network_input import network_input

_USUAL_SIZE = 224  # pixels: the input of most published networks


class Bare(NamedTuple):
    """What is known of a bare state dict; `about.classes` are numbers where nobody named them, `named` says whether.

    `decoding` is what is asked of the data.
    """

    about: About
    network: nn.Module
    decoding: Decoding
    named: bool


def is_bare(path: Path) -> bool:
    """Whether the file `path` holds tensors, and neither is nor was a checkpoint of finetui's."""
    try:
        with path.open("rb") as file:
            if is_safetensors(file.read(16)):
                return True
            if find_seal(file) is not None:
                return False
            content = audit(file, WEIGHTS)
    except (OSError, ArchiveError):
        return False  # whoever reads it says why
    return not (isinstance(content, dict) and "about" in content and "format" in content)


def check_not_bare(path: Path, given: BareWeights) -> None:
    """Raise `BadInput` where `given` says anything of the checkpoint `path`, which says it itself."""
    if given != BareWeights():
        raise BadInput(
            f"{path} records its own classes and input; leave --classes, --mean, --std, --resize, --crop and "
            "--interpolation out"
        )


def open_bare(path: Path, given: BareWeights, model: str, device: torch.device) -> Bare:
    """Return the network `model` with the weights of the file `path`, in `eval()` mode on `device`.

    `given` has the classes and the input; what it lacks the file must say, but for the size, which is LeNet's or the
    usual one. Raises `BadInput` when the weights are not those of the network, or their normalisation is not known.
    """
    check_model(model)
    where = str(path)
    file = read_weights(path)
    options = ModelConfig(
        name=model,
        mean=given.mean,
        std=given.std,
        resize=given.resize,
        crop=given.crop,
        interpolation=given.interpolation,
    )
    definition = definition_of(model)
    stated = file.stated or (stated_input(model, definition) if hub_of(model) else None)
    wanted = network_input(RunConfig(model=options), stated, where)
    architecture = _architecture(model, file, (wanted.height, wanted.width), where, definition)
    classes = given.classes or tuple(map(str, range(architecture.num_classes)))
    if len(classes) != architecture.num_classes:
        raise BadInput(
            f"--classes: the weights in {where} have {architecture.num_classes} classes, and {len(classes)} are named"
        )
    network = build(architecture, seed=0)
    moved = plan_transplant(network, file.tensors)
    _check_all_there(moved, file, model, where)
    if not wanted.mean:
        raise BadInput(
            f"the normalization of {where} is unknown, and without it no score can be trusted; give --mean and --std"
        )
    apply_transplant(network, file.tensors, moved)
    size = Transform(mean=(), std=(), height=architecture.height, width=architecture.width)
    transform = wanted.transform(size, architecture.in_channels)
    about = About(architecture=architecture, transform=transform, classes=classes, data="", run="")
    # By Pillow, as those scaled who trained them: what is asked for is the score that they have there.
    decoding = msgspec.structs.replace(wanted.decoding, resampler="pillow")
    if not decoding.height:
        height, width = architecture.height, architecture.width
        decoding = msgspec.structs.replace(decoding, channels=0, height=height, width=width, resize=0)
    return Bare(about, network.to(device).eval(), decoding, bool(given.classes))


def _architecture(model: str, file: WeightsFile, size: tuple[int, int], where: str, definition: str) -> Architecture:
    """Return the network with as many channels and classes as the weights are for."""
    height, width = size if size[0] else (_USUAL_SIZE,) * 2
    if model == "lenet":
        height = width = INPUT_SIZE
    architecture = Architecture(
        name=model, num_classes=2, in_channels=3, height=height, width=width, definition=definition
    )
    network = build(architecture, seed=0)
    head, stem = find_head(network, example(architecture)), find_stem(network)
    prefix = plan_transplant(network, file.tensors).prefix
    last = _weight(file, prefix, head)
    if last is None:
        raise BadInput(
            f"the weights in {where} have no {head}, the last layer of {model}: they have {listed(file.tensors)}; name "
            "their network with --model"
        )
    first = _weight(file, prefix, stem[0]) if stem is not None and stem[1].groups == 1 else None
    channels = first.shape[1] if first is not None and first.dim() == 4 else 3
    return msgspec.structs.replace(architecture, num_classes=last.shape[0], in_channels=channels)


def _weight(file: WeightsFile, prefix: str, layer: str) -> Tensor | None:
    return next(
        (file.tensors[name] for name in (f"{layer}.weight", f"{prefix}{layer}.weight") if name in file.tensors), None
    )


def _check_all_there(moved: Transplant, file: WeightsFile, model: str, where: str) -> None:
    fresh = [name for name in moved.fresh if not name.endswith("num_batches_tracked")]
    if fresh:
        raise BadInput(
            f"the weights in {where} are not those of {model}: nothing for {listed(fresh)}; they have "
            f"{listed(file.tensors)}; name their network with --model"
        )
