"""Finetuning: from a checkpoint and new data to a network with the right head and the weights that fit it."""

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
import torch
from torch import Tensor, nn

from finetui.engine.checkpoints.checkpoint import About
from finetui.engine.data import Transform
from finetui.engine.data.transform import for_channels
from finetui.engine.errors import BadInput
from finetui.engine.models import (
    Architecture,
    ModuleGroup,
    Transplant,
    build,
    find_head,
    module_groups,
    plan_transplant,
)
from finetui.engine.models.architecture import example
from finetui.engine.protocol.config import FinetuneConfig


@dataclass(frozen=True)
class Finetune:
    """The network of a finetune, and what becomes of the weights that it starts from.

    `head` is `keep`, `replace` or `features`; `moved` says which tensors go where.
    """

    architecture: Architecture
    transform: Transform
    model: nn.Module
    groups: tuple[ModuleGroup, ...]
    head: str
    moved: Transplant
    notices: tuple[str, ...]


def choose_head(finetune: FinetuneConfig, about: About, classes: tuple[str, ...]) -> str:
    """Return the head that `finetune` means for data with `classes`: `keep`, `replace` or `features`.

    Raises `BadInput` when a head is to be kept that tells another number of classes apart.
    """
    if finetune.head == "keep" and len(classes) != about.architecture.num_classes:
        raise BadInput(
            f"finetune.head (--head): the head tells {about.architecture.num_classes} classes apart and the data has "
            f"{len(classes)}, so it cannot be kept; use --head replace"
        )
    if finetune.head != "auto":
        return finetune.head
    if finetune.recipe == "linear-probe":
        return "features" if about.architecture.name == "lenet" else "replace"
    return "keep" if classes == about.classes else "replace"


def build_finetuned(
    finetune: FinetuneConfig,
    about: About,
    weights: Mapping[str, Tensor],
    classes: tuple[str, ...],
    channels: int,
    seed: int,
    device: str = "cpu",
) -> Finetune:
    """Return the network for `finetune`, freshly initialised, and where `weights` go in it (see `apply_transplant`).

    On the device `meta` nothing is computed, so that a plan can be looked at. Raises `BadInput`.
    """
    parent = about.architecture
    head = choose_head(finetune, about, classes)
    architecture = msgspec.structs.replace(
        parent,
        num_classes=len(classes),
        in_channels=channels,
        head="features" if head == "features" else parent.head,
    )
    adapted: list[str] = []
    with torch.device(device):
        model = build(architecture, seed, adapted.append)
        layer = find_head(model, example(architecture))
    moved = plan_transplant(model, weights, skip=() if head == "keep" else (layer,))
    notices = [f"from {finetune.parent_run or 'a checkpoint'}: {moved.sentence()}"]
    notices += adapted
    if head == "replace" and finetune.head == "auto" and classes != about.classes:
        name = f", {layer}," if layer else ""
        notices.append(f"a new head{name} for {len(classes)} classes: the weights were trained for other classes")
    transform = Transform(
        mean=for_channels(about.transform.mean, channels),
        std=for_channels(about.transform.std, channels),
        height=about.transform.height or parent.height,
        width=about.transform.width or parent.width,
    )
    return Finetune(
        architecture=architecture,
        transform=transform,
        model=model,
        groups=module_groups(model, [layer]),
        head=head,
        moved=moved,
        notices=tuple(notices),
    )
