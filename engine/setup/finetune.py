"""Finetuning: from a checkpoint and new data to a network with the right head and the weights that fit it."""

import dataclasses
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
    HeadRows,
    ModuleGroup,
    Transplant,
    build,
    find_head,
    module_groups,
    plan_transplant,
)
from finetui.engine.models.architecture import example
from finetui.engine.predictions.class_matching import ClassMatch, listed, match_by_name
from finetui.engine.protocol.config import FinetuneConfig
from finetui.engine.training.rules import CURRENT


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


def choose_head(finetune: FinetuneConfig, match: ClassMatch, architecture: Architecture, rules: int = CURRENT) -> str:
    """Return the head that `finetune` means for data whose classes are `match`: `keep`, `replace` or `features`.

    Classes are the same by their names, in whatever order (by the first `rules`: in the same order). Raises `BadInput`
    when a head is to be kept that tells another number of classes apart.
    """
    if finetune.head == "keep" and len(match.data) != architecture.num_classes:
        raise BadInput(
            f"finetune.head (--head): the head has {architecture.num_classes} classes and the data has "
            f"{len(match.data)}, so it cannot be kept; use --head replace"
        )
    if finetune.head != "auto":
        return finetune.head
    if finetune.recipe == "linear-probe":
        return "features" if architecture.name == "lenet" else "replace"
    same = match.is_permutation if rules > 1 else match.network == match.data
    return "keep" if same else "replace"


def _head_rows(finetune: FinetuneConfig, head: str, layer: str, match: ClassMatch) -> tuple[HeadRows | None, list[str]]:
    """Return which rows of the parent's head the new one begins with, and sentences on that."""
    said = []
    rows = None
    if head == "keep" and not match.same_order:
        places = match.places.tolist()
        free = iter(sorted(set(range(len(places))) - set(places)))
        rows = HeadRows(layer, tuple((place, ours if ours >= 0 else next(free)) for place, ours in enumerate(places)))
        said.append(f"the head, {layer}, is kept: its rows are reordered to the data's classes, by name")
        if unknown := match.unknown():
            said.append(f"{listed(unknown)} begin with the rows of {listed(match.lacking())}, which have no images")
    if head != "keep":
        what = f"New head {layer}: {len(match.data)} classes"
        known = [(place, int(ours)) for place, ours in enumerate(match.places) if ours >= 0]
        anew = head == "replace" and finetune.head == "auto" and not match.is_permutation
        if anew and known and finetune.recipe != "linear-probe":
            rows = HeadRows(layer, tuple(known))
            what += f"; it begins with the old head's rows for {listed(match.data[place] for place, _ in known)}"
        elif head == "replace":
            what += "; old head dropped"
        said.append(what)
    if rows is not None and match.respelled:
        said.append(match.respelling())
    return rows, said


def build_finetuned(
    finetune: FinetuneConfig,
    about: About,
    weights: Mapping[str, Tensor],
    classes: tuple[str, ...],
    channels: int,
    seed: int,
    device: str = "cpu",
    rules: int = CURRENT,
) -> Finetune:
    """Return the network for `finetune`, freshly initialised, and where `weights` go in it (see `apply_transplant`).

    On the device `meta` nothing is computed, so that a plan can be looked at. `rules` are those of
    `finetui.engine.training.rules`: by the first, no row of a head is taken over by itself. Raises `BadInput`.
    """
    parent = about.architecture
    match = match_by_name(about.classes, classes)
    head = choose_head(finetune, match, parent, rules)
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
    rows, said = _head_rows(finetune, head, layer, match) if rules > 1 else (None, [])
    if rows is not None:
        moved = dataclasses.replace(moved, rows=rows)
    notices += [*adapted, *said]
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
