"""Networks of timm and of the Hugging Face hub: which library has a name, and what it says about the network."""

import difflib
import importlib
import importlib.util
import os
from types import ModuleType
from typing import Any

import msgspec
from torch import nn

from finetui.engine.errors import BadInput
from finetui.engine.models.own_input import OwnInput
from finetui.engine.protocol.model_names import hub_name, hub_of

_OPTION = "model.name (--model)"
_EXTRA = {"timm": "timm", "transformers": "hf", "huggingface_hub": "hf"}


def library(module: str, model: str) -> ModuleType:
    """Return the library `module`, imported; raise `BadInput` where it is missing, which `model` needs."""
    # Looked for first: what a library lacks itself is another error, which is not hidden.
    if importlib.util.find_spec(module) is None:
        raise BadInput(
            f"{_OPTION}: {model} needs {module}, which is not installed; pip install 'finetui[{_EXTRA[module]}]'"
        )
    return importlib.import_module(module)


def definition_of(config: dict[str, Any], preprocessor: dict[str, Any]) -> str:
    """Return as JSON what a network of the Hugging Face hub is built by: its `config.json` and
    `preprocessor_config.json`, without the names of classes, which are the run's own, and without code.
    """
    left_out = {"id2label", "label2id", "label_names", "label_descriptions", "auto_map", "_name_or_path"}
    kept = {key: value for key, value in config.items() if key not in left_out}
    return msgspec.json.encode({"config": kept, "preprocessor": preprocessor}).decode()


def is_timm(name: str, definition: str) -> bool:
    """Whether timm builds the network `name`, perhaps by the `definition` of a checkpoint of timm's on the hub."""
    if hub_of(name) == "timm":
        return True
    config = _defined(definition)[0]
    return "architecture" in config and "model_type" not in config


def check(name: str) -> None:
    """Raise `BadInput` unless the library is there that the network `name` needs, and it may have such a network."""
    if hub_of(name) == "hf":
        library("huggingface_hub", name)
        return
    timm: Any = library("timm", name)
    wanted = hub_name(name)
    architecture, _, tag = wanted.partition(".")
    if not timm.is_model(architecture):
        close = difflib.get_close_matches(architecture, timm.list_models(), n=3)
        hint = f"did you mean {' or '.join(f'timm:{one}' for one in close)}?" if close else _LISTED
        raise BadInput(f"{_OPTION}: timm has no model {wanted!r}; {hint}")
    tags = [known.partition(".")[2] for known in timm.list_pretrained(f"{architecture}.*")]
    if tag and tag not in tags:
        raise BadInput(
            f"{_OPTION}: timm has no weights {tag!r} of {architecture}; it has: {', '.join(sorted(tags)) or 'none'}"
        )


_LISTED = 'python -c "import timm; print(*timm.list_models())" lists all'


def spelling(name: str) -> str:
    """Return how to write what `name` seems to mean, a network of a library with its prefix; empty: it means none."""
    prefix, _, rest = name.partition(":")
    match prefix.lower():
        case "timm":
            return f"timm networks are written timm:{rest}"
        case "hf" | "huggingface":
            folder = f"; for the folder here write hf:./{rest}" if os.path.isdir(rest) else ""  # noqa: PTH112
            return f"Hugging Face networks are written hf:ORG/NAME, such as hf:microsoft/resnet-18{folder}"
    return ""


def timm_has(name: str) -> bool:
    """Whether timm, if it is installed, has a network of this name."""
    if importlib.util.find_spec("timm") is None:
        return False
    timm: Any = importlib.import_module("timm")
    return bool(timm.is_model(name.partition(".")[0]))


def create(name: str, definition: str, num_classes: int, shape: tuple[int, int, int]) -> nn.Module:
    """Return the network `name` for images of `shape`, `[C, H, W]`, with new weights. Raises `BadInput`."""
    if is_timm(name, definition):
        library("timm", name)
        from finetui.engine.models import timm_models

        return timm_models.create(timm_models.spec(name, _defined(definition)[0]), num_classes, shape)
    library("transformers", name)
    from finetui.engine.models import hf_models

    return hf_models.create(_required(name, definition), num_classes, shape)


def own_input(name: str, definition: str) -> OwnInput:
    """Return the input that the configuration of the network `name` states. Raises `BadInput`."""
    config, preprocessor = _defined(definition)
    if is_timm(name, definition):
        library("timm", name)
        from finetui.engine.models import timm_models

        return timm_models.own_input(timm_models.spec(name, config))
    library("transformers", name)
    from finetui.engine.models import hf_models

    return hf_models.own_input(config, preprocessor)


def _defined(definition: str) -> tuple[dict[str, Any], dict[str, Any]]:
    content = msgspec.json.decode(definition) if definition else {}
    return content.get("config", {}), content.get("preprocessor", {})


def _required(name: str, definition: str) -> dict[str, Any]:
    config = _defined(definition)[0]
    if not config:
        raise BadInput(f"{_OPTION}: the configuration of {name} is unknown here; name the model when starting a run")
    return config
