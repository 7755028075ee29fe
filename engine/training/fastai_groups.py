"""fastai's layer groups: lower and upper half of the body, and head, for networks that it knows; else body and head."""

import re
from collections.abc import Sequence

from finetui.engine.models import ModuleGroup

# `model_meta` and the splitters in fastai/vision/learner.py: the modules of the lower half, by torchvision's names.
_LOWER: dict[str, tuple[str, ...]] = {
    r"resnet(18|34|50|101|152)": ("conv1", "bn1", "layer1", "layer2"),
    r"squeezenet1_[01]": tuple(f"features.{index}" for index in range(5)),
    r"densenet(121|161|169|201)": tuple(
        f"features.{name}" for name in ("conv0", "norm0", "denseblock1", "transition1", "denseblock2")
    ),
    r"vgg(11|13|16|19)_bn": tuple(f"features.{index}" for index in range(22)),
    r"alexnet": tuple(f"features.{index}" for index in range(6)),
}


def layer_group(model: str, groups: Sequence[ModuleGroup]) -> tuple[int, dict[str, int]]:
    """Return how many layer groups fastai gives an architecture `model`, and in which of them, from 0, each layer is.

    `groups` are finetui's, of the layers that are in use; only the last layers are the head: of the classifiers of VGG
    and AlexNet, which fastai replaces as a whole, the others count as body.
    """
    lower = next((names for pattern, names in _LOWER.items() if re.fullmatch(pattern, model)), None)
    count = 2 if lower is None else 3
    places = {}
    for group in groups:
        for layer in group.layers:
            below = lower is None or any(layer.name == name or layer.name.startswith(f"{name}.") for name in lower)
            places[layer.name] = count - 1 if group.head else 0 if below else 1
    return count, places
