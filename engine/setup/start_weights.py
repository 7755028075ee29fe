"""The weights that a new network starts with: none, the published ones, or those of a file."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from finetui.engine.checkpoints.state_dict import read_weights
from finetui.engine.checkpoints.stated_input import StatedInput
from finetui.engine.data.download import Progress
from finetui.engine.protocol.config import RunConfig
from finetui.engine.protocol.model_names import hub_of
from finetui.engine.setup.hub_start import definition_of, published_weights, repository, stated_input
from finetui.engine.setup.pretrained import pretrained
from finetui.engine.text import clean


@dataclass(frozen=True)
class StartWeights:
    """The weights that a new network starts with, none or those that are called `name`.

    `stated` is the input that they, or the network's own configuration, say; `source` is which of them. For
    `definition` see `Architecture`.
    """

    weights: Mapping[str, Tensor] = dataclasses.field(default_factory=dict)
    stated: StatedInput | None = None
    name: str = ""
    notices: tuple[str, ...] = ()
    source: str = ""
    definition: str = ""


def start_weights(config: RunConfig, progress: Progress, cancelled: Callable[[], bool]) -> StartWeights:
    """Return the weights that `config` names, downloaded or read. Raises `BadInput`, and `Cancelled`."""
    chosen = config.model.weights
    if hub_of(config.model.name):
        return _of_hub(config, progress, cancelled)
    if chosen == "none":
        return StartWeights()
    if chosen == "default":
        ready = pretrained(config.model.name, progress=progress, cancelled=cancelled)
        stated = StatedInput(ready.mean, ready.std, ready.height, ready.width, ready.resize, ready.interpolation)
        return StartWeights(ready.weights, stated, ready.description, source=ready.description)
    file = read_weights(Path(chosen).expanduser())
    return StartWeights(file.tensors, file.stated, clean(chosen), file.notices, clean(chosen))


def _of_hub(config: RunConfig, progress: Progress, cancelled: Callable[[], bool]) -> StartWeights:
    """Return what a network of timm or of the Hugging Face hub starts with; its own configuration says its input."""
    name, chosen = config.model.name, config.model.weights
    found = repository(name, progress, cancelled)
    definition = definition_of(name, found)
    stated, source = stated_input(name, definition), f"the configuration of {clean(name)}"
    if chosen == "none":
        if config.data.image_size:  # no weights need the configured size
            stated = dataclasses.replace(stated, height=0, width=0, resize=0)
        return StartWeights(stated=stated, source=source, definition=definition)
    if chosen == "default":
        weights = published_weights(config, definition, found)
        return StartWeights(weights, stated, f"the weights of {clean(name)}", (), source, definition)
    file = read_weights(Path(chosen).expanduser())
    source = clean(chosen) if file.stated is not None else source
    return StartWeights(file.tensors, file.stated or stated, clean(chosen), file.notices, source, definition)
