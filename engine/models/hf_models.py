"""Networks of Hugging Face's transformers, built and fed as their own configurations say."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from finetui.engine.errors import BadInput, reason_of
from finetui.engine.models.own_input import OwnInput
from finetui.engine.protocol.values import Interpolation

_OPTION = "model.name (--model)"
# By PIL's numbers.
_FILTERS: Mapping[int, Interpolation] = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
_BLACK, _WHITE = 0.0, 1.0


def create(config: dict[str, Any], num_classes: int, shape: tuple[int, int, int]) -> nn.Module:
    """Return the image classifier that `config`, a `config.json`, describes, with new weights.

    It takes images of `shape`, `[C, H, W]`, and returns logits `[B, classes]`, as any network here; its layers and its
    state dict have the names that they have in transformers. Raises `BadInput`.
    """
    channels, height, width = shape
    stated = {**config, "num_labels": num_classes}
    if "image_size" in config:
        stated["image_size"] = height if height == width else (height, width)
    if config.get("num_channels", channels) != channels:
        stated["num_channels"] = channels
    transformers.logging.set_verbosity_error()
    try:
        built = transformers.AutoModelForImageClassification.from_config(
            transformers.AutoConfig.for_model(**stated), dtype=torch.float32
        )
    except (ValueError, TypeError, KeyError, RuntimeError, AssertionError, ImportError) as error:
        kind = config.get("model_type", "no model_type")
        raise BadInput(
            f"{_OPTION}: transformers {transformers.__version__} cannot build an image classifier from this "
            f"configuration ({kind}) for images of {height}x{width} pixels: {reason_of(error)}"
        ) from error
    return _returning_logits(built)


def own_input(config: Mapping[str, Any], preprocessor: Mapping[str, Any]) -> OwnInput:
    """Return the input that `preprocessor`, a `preprocessor_config.json`, states, and else `config`."""
    mean: tuple[float, ...] = tuple(preprocessor.get("image_mean") or ())
    std: tuple[float, ...] = tuple(preprocessor.get("image_std") or ())
    if preprocessor and not preprocessor.get("do_normalize", True):
        mean, std = (_BLACK,) * 3, (_WHITE,) * 3
    size = _sides(preprocessor.get("size") or config.get("image_size"))
    cut = _sides(preprocessor.get("crop_size")) if preprocessor.get("do_center_crop") else (0, 0)
    height, width = cut if cut[0] else size
    resize = min(size) if cut[0] else 0
    share = preprocessor.get("crop_pct")
    if share and height < 384:  # as ConvNextImageProcessor: from 384 pixels on it cuts nothing off
        resize = int(height / share)
    filter_ = _FILTERS.get(preprocessor.get("resample", -1))
    return OwnInput(mean, std, height, width, resize, filter_)


def weights_in(folder: Path) -> dict[str, Tensor]:
    """Return the weights in `folder`, a repository of transformers', as this version names them.

    What the files lack, such as the head of a network that was no classifier, is left out. Raises `BadInput`.
    """
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        model, said = transformers.AutoModelForImageClassification.from_pretrained(
            folder, local_files_only=True, output_loading_info=True, dtype=torch.float32, ignore_mismatched_sizes=True
        )
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, ImportError) as error:
        raise BadInput(f"model.weights (--weights): those in {folder} cannot be read: {reason_of(error)}") from error
    lacking = {*said["missing_keys"], *(name for name, *_ in said["mismatched_keys"])}
    return {name: tensor for name, tensor in model.state_dict().items() if name not in lacking}


def _sides(size: Any) -> tuple[int, int]:
    """Return the height and width that `size` states in one of the forms that transformers has had; (0, 0): none."""
    if isinstance(size, Mapping):
        edge = size.get("shortest_edge", 0)
        return int(size.get("height", edge)), int(size.get("width", edge))
    if isinstance(size, (list, tuple)):
        return int(size[-2]), int(size[-1])
    return (size, size) if isinstance(size, int) else (0, 0)


def _returning_logits(model: nn.Module) -> nn.Module:
    """Let `model` return logits alone: it becomes of a class of its own, of the same name, that differs in this."""
    kind: Any = type(model)

    def forward(self: Any, images: Tensor) -> Tensor:
        logits: Tensor = kind.forward(self, pixel_values=images).logits
        return logits

    model.__class__ = type(kind.__name__, (kind,), {"forward": forward, "__module__": kind.__module__})
    return model
