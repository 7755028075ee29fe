"""Networks by name, and their layer groups."""

import msgspec
import torch
from torch import nn

from engine.errors import BadInput
from engine.models.groups import ModuleGroup, module_groups
from engine.models.lenet import INPUT_SIZE, LeNet

__all__ = ["Architecture", "LeNet", "ModuleGroup", "build", "module_groups"]


class Architecture(msgspec.Struct, frozen=True, kw_only=True):
    """All that is needed to build a network again; stored in every checkpoint.

    `head` is `classifier` (the network's own) or `features` (a new linear layer on the flattened features).
    """

    name: str
    num_classes: int
    in_channels: int
    height: int
    width: int
    head: str = "classifier"


def build(architecture: Architecture, seed: int) -> nn.Module:
    """Return the network with weights initialised from `seed`, on the CPU; the global RNG is left as it was.

    Raises `BadInput` when there is no such network or it cannot take such images.
    """
    if architecture.name != "lenet" or architecture.head not in ("classifier", "features"):
        raise BadInput(f"there is no model {architecture.name!r} with the head {architecture.head!r}; known: lenet")
    if (architecture.height, architecture.width) != (INPUT_SIZE, INPUT_SIZE):
        size = f"{architecture.height}x{architecture.width}"
        raise BadInput(f"lenet takes images of {INPUT_SIZE}x{INPUT_SIZE} pixels, and these have {size}")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = LeNet(architecture.num_classes, architecture.in_channels)
        if architecture.head == "features":
            model.add_feature_head()
    return model
