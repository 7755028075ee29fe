"""timm's networks (Wightman, "PyTorch image models"), built and fed as their own configurations say."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import timm
from timm.data import resolve_data_config
from timm.models import PretrainedCfg
from torch import Tensor, nn

from finetui.engine.errors import BadInput, reason_of
from finetui.engine.models.own_input import OwnInput
from finetui.engine.protocol.model_names import hub_name, hub_of
from finetui.engine.protocol.values import Interpolation

_FILTERS: dict[str, Interpolation] = {"nearest": "nearest", "bilinear": "bilinear", "bicubic": "bicubic"}
_FILTERS |= {"lanczos": "lanczos"}


class Spec(NamedTuple):
    """What timm builds a network by: its `name` there, `cfg`, a `PretrainedCfg` as a dict, and further arguments."""

    name: str
    cfg: dict[str, Any]
    arguments: dict[str, Any]


def spec(name: str, config: Mapping[str, Any]) -> Spec:
    """Return what the network `timm:NAME` is built by, or by `config`, the `config.json` of a repository of timm's."""
    if hub_of(name) == "timm":
        found = timm.get_pretrained_cfg(hub_name(name), allow_unregistered=True) or PretrainedCfg()
        return Spec(hub_name(name), found.to_dict(), {})
    known = {field.name for field in dataclasses.fields(PretrainedCfg)}
    stated = {**config, **config.get("pretrained_cfg", {})}  # older files have all in one
    cfg = {key: value for key, value in stated.items() if key in known}
    if not timm.is_model(config["architecture"]):
        raise BadInput(f"model.name (--model): this version of timm has no model {config['architecture']!r}")
    return Spec(str(config["architecture"]), cfg, dict(config.get("model_args") or {}))


def own_input(wanted: Spec) -> OwnInput:
    """Return the input that the configuration states, for evaluation: timm's `resolve_data_config`."""
    found = resolve_data_config({}, pretrained_cfg=wanted.cfg)
    _, height, width = found["input_size"]
    # As `transforms_imagenet_eval` does it; where it squashes or pads to fit, the middle is cut out here.
    resize = math.floor(min(height, width) / found["crop_pct"])
    mean, std = tuple(found["mean"]), tuple(found["std"])
    return OwnInput(mean, std, height, width, resize, _FILTERS.get(found["interpolation"]))


def create(wanted: Spec, num_classes: int, shape: tuple[int, int, int]) -> nn.Module:
    """Return the network for images of `shape`, `[C, H, W]`, with new weights. Raises `BadInput`."""
    return _create(wanted, num_classes, shape)


def published(wanted: Spec, tensors: dict[str, Tensor], size: tuple[int, int]) -> dict[str, Tensor]:
    """Return the published weights `tensors` as the network has them for images of `size` (height, width).

    timm itself renames what is called otherwise in older files, and resamples position embeddings. The head and the
    stem are those of the weights. Raises `BadInput` where they are not this network's.
    """
    overlay = {"state_dict": tensors, "custom_load": False}
    classes = int(wanted.cfg.get("num_classes") or 0)
    shape = (int((wanted.cfg.get("input_size") or (3,))[0]), *size)
    with_weights: dict[str, Any] = {"pretrained": True, "pretrained_cfg_overlay": overlay}
    return dict(_create(wanted, classes, shape, **with_weights).state_dict())


def _create(wanted: Spec, num_classes: int, shape: tuple[int, int, int], **options: Any) -> nn.Module:
    channels, height, width = shape
    arguments = {**wanted.arguments, **options, "num_classes": num_classes, "in_chans": channels}
    if wanted.cfg.get("fixed_input_size") or "img_size" in arguments:
        arguments["img_size"] = (height, width)
    if wanted.arguments or not timm.is_model_pretrained(wanted.name):
        arguments["pretrained_cfg"] = wanted.cfg
    try:
        model: nn.Module = timm.create_model(wanted.name, **arguments)
    except (ValueError, AssertionError, RuntimeError, TypeError, KeyError) as error:
        raise BadInput(
            f"timm cannot build {wanted.name} for images of {height}x{width} pixels: {reason_of(error)}"
        ) from error
    embed: Any = getattr(model, "patch_embed", None)
    # timm itself leaves out what is over at the edges.
    if isinstance(embed, timm.layers.PatchEmbed) and not embed.dynamic_img_pad:
        patch_height, patch_width = embed.patch_size
        if height % patch_height or width % patch_width:
            by = f"{patch_height}x{patch_width}"
            raise BadInput(f"{wanted.name} does not take images of {height}x{width} pixels: its patches have {by}")
    heads = wanted.cfg.get("classifier")
    if isinstance(heads, (tuple, list)) and len(heads) > 1:  # distilled ones average two
        model.other_heads = tuple(heads)  # type: ignore[assignment]
    return model
