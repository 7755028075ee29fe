"""The weights that a new network starts with: none, torchvision's own, or those of a file."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from finetui.engine.checkpoints.state_dict import read_weights
from finetui.engine.checkpoints.stated_input import StatedInput
from finetui.engine.data.download import Progress
from finetui.engine.protocol.config import RunConfig
from finetui.engine.setup.pretrained import pretrained
from finetui.engine.text import clean


@dataclass(frozen=True)
class StartWeights:
    """The weights that a new network starts with, none or those that are called `name`, and what they say."""

    weights: Mapping[str, Tensor] = dataclasses.field(default_factory=dict)
    stated: StatedInput | None = None
    name: str = ""
    notices: tuple[str, ...] = ()


def start_weights(config: RunConfig, progress: Progress, cancelled: Callable[[], bool]) -> StartWeights:
    """Return the weights that `config` names, downloaded or read. Raises `BadInput`, and `Cancelled`."""
    chosen = config.model.weights
    if chosen == "none":
        return StartWeights()
    if chosen == "default":
        ready = pretrained(config.model.name, progress=progress, cancelled=cancelled)
        stated = StatedInput(ready.mean, ready.std, ready.height, ready.width, ready.resize, ready.interpolation)
        return StartWeights(ready.weights, stated, ready.description)
    file = read_weights(Path(chosen).expanduser())
    return StartWeights(file.tensors, file.stated, clean(chosen), file.notices)
