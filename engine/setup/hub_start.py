"""What a network of timm or of the Hugging Face hub starts with: its definition, its input and its weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from torch import Tensor

from finetui.engine.checkpoints.state_dict import read_state_dict
from finetui.engine.checkpoints.stated_input import StatedInput
from finetui.engine.data.download import Progress
from finetui.engine.errors import BadInput
from finetui.engine.models import hub_models
from finetui.engine.protocol.config import RunConfig
from finetui.engine.protocol.model_names import hub_name, hub_of, is_local
from finetui.engine.setup.hub import NotInRepository, Repository
from finetui.engine.setup.pretrained import torch_hub_file

_SAFE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_PICKLED, _PICKLED_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"


def _silent(_phase: str, _done: int, _total: int) -> None: ...


def repository(model: str, progress: Progress = _silent, cancelled: Callable[[], bool] = lambda: False) -> Repository:
    """Return the repository of the network `model`, `hf:ORG/NAME` or `hf:./folder`."""
    where = hub_name(model)
    return Repository(model, Path(where).expanduser() if is_local(model) else where, progress, cancelled)


def definition_of(model: str, found: Repository | None = None) -> str:
    """Return what the network `model` is built by: empty but for one of the Hugging Face hub. Raises `BadInput`.

    `found` is its repository, by default looked for without a word.
    """
    if hub_of(model) != "hf":
        return ""
    found = found or repository(model)
    try:
        config = _json(found.file("config.json"))
    except NotInRepository as error:
        raise BadInput(f"model.name (--model): {error}, so it has no known network") from error
    try:
        preprocessor = _json(found.file("preprocessor_config.json"))
    except NotInRepository:
        preprocessor = {}  # timm's have none, and what was never fed with images
    return hub_models.definition_of(config, preprocessor)


def stated_input(model: str, definition: str) -> StatedInput:
    """Return the input that the network's own configuration states. Raises `BadInput`."""
    return StatedInput(*hub_models.own_input(model, definition))


def published_weights(config: RunConfig, definition: str, found: Repository) -> dict[str, Tensor]:
    """Return the published weights of the network of `config`, with the names that they have in it.

    `found` is its repository, where it has one. Raises `BadInput`, and `Cancelled`.
    """
    model = config.model.name
    if hub_models.is_timm(model, definition):
        return _of_timm(config, definition, found)
    from finetui.engine.models import hf_models

    hub_models.library("transformers", model)
    file = _weights_file(found, (_SAFE, _INDEX, _PICKLED, _PICKLED_INDEX))
    if file.suffix == ".json":
        for name in sorted(set(_json(file)["weight_map"].values())):
            found.file(name)
    return hf_models.weights_in(file.parent)


def _of_timm(config: RunConfig, definition: str, found: Repository) -> dict[str, Tensor]:
    from finetui.engine.models import timm_models

    model = config.model.name
    spec = timm_models.spec(model, msgspec.json.decode(definition)["config"] if definition else {})
    cfg = spec.cfg
    if cfg.get("custom_load") and cfg["custom_load"] != "hf" and not cfg.get("hf_hub_id"):
        raise BadInput(f"model.weights (--weights): those of {model} are published in their authors' own format")
    if hub_of(model) == "hf":
        file = _weights_file(found, (_SAFE, _PICKLED))
    elif cfg.get("hf_hub_id"):
        file = _weights_file(found.at(cfg["hf_hub_id"]), (cfg.get("hf_hub_filename") or _SAFE, _SAFE, _PICKLED))
    elif cfg.get("url"):
        file = torch_hub_file(model, cfg["url"], found.progress, found.cancelled)
    else:
        tags = hub_models.library("timm", model).list_pretrained(f"{spec.name}.*")
        named = f"; there are some for timm:{', timm:'.join(tags)}" if tags else ""
        raise BadInput(f"model.weights (--weights): there are no published weights for {model}{named}")
    stated = stated_input(model, definition)
    side = config.model.crop
    return timm_models.published(spec, read_state_dict(file), (side, side) if side else (stated.height, stated.width))


def _weights_file(found: Repository, names: tuple[str, ...]) -> Path:
    try:
        return found.file(*dict.fromkeys(names))
    except NotInRepository as error:
        raise BadInput(
            f"model.weights (--weights): {error}; name a file with --weights or use --weights none"
        ) from error


def _json(path: Path) -> dict[str, Any]:
    try:
        content = msgspec.json.decode(path.read_bytes())
    except (OSError, msgspec.DecodeError) as error:
        raise BadInput(f"model.name (--model): {path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise BadInput(f"model.name (--model): {path} is no configuration of a network")
    return content
