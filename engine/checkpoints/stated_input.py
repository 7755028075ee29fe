"""What a weights file says about the images that its network takes."""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from finetui.engine.protocol.values import Interpolation

_CONFIGS = ("pretrained_cfg", "default_cfg")  # timm's
_HOLDERS = ("hyper_parameters", "args", "config", "meta", "model_args", "about", "transform", "model")
_FILTERS: dict[str, Interpolation] = {name: name for name in ("nearest", "bilinear", "bicubic", "lanczos")}


@dataclass(frozen=True)
class StatedInput:
    """Mean and deviation of each channel of pixels in [0, 1]; `height` and `width` of the input, and the `resize` of
    the shorter side before it is cut out (0: not said), with the filter `interpolation` (empty: not said).
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    height: int = 0
    width: int = 0
    resize: int = 0
    interpolation: Interpolation | None = None


def find_stated_input(content: object) -> StatedInput | None:
    """Return what `content` says about the input: as timm's `pretrained_cfg`, as finetui's checkpoints, or as `mean`
    and `std` beside the weights; None if it does not.
    """
    found = next((stated for config in _configs(content, 0) if (stated := _stated(config)) is not None), None)
    decoding = content
    for key in ("about", "description", "decoding"):  # of finetui's checkpoints
        decoding = decoding.get(key) if isinstance(decoding, Mapping) else None
    if found is None or not isinstance(decoding, Mapping):
        return found
    filter_ = _FILTERS.get(str(decoding.get("interpolation")))
    return dataclasses.replace(found, resize=_whole(decoding.get("resize")), interpolation=filter_)


def _configs(content: object, depth: int) -> Iterator[Mapping[Any, Any]]:
    content = _parsed(content)
    if not isinstance(content, Mapping) or depth > 2:
        return
    for key in _CONFIGS:
        yield from _configs(content.get(key), depth + 1)
    yield content
    for key in _HOLDERS:
        yield from _configs(content.get(key), depth + 1)


def _parsed(value: object) -> object:
    """Return what a text, such as safetensors' metadata have, holds as JSON."""
    if not isinstance(value, str) or not value.lstrip().startswith(("{", "[")):
        return value
    try:
        return msgspec.json.decode(value)
    except (msgspec.DecodeError, RecursionError):
        return value


def _stated(config: Mapping[Any, Any]) -> StatedInput | None:
    mean, std = _numbers(config.get("mean")), _numbers(config.get("std"))
    if not mean or len(mean) != len(std) or min(std) <= 0:
        return None
    if max(mean) > 1:  # of pixels from 0 to 255
        mean, std = tuple(value / 255 for value in mean), tuple(value / 255 for value in std)
    size = [_whole(side) for side in _sequence(_parsed(config.get("input_size")))[-2:]]
    height, width = size if len(size) == 2 else (_whole(config.get("height")), _whole(config.get("width")))
    crop_pct = config.get("crop_pct")
    resize = 0
    if height and isinstance(crop_pct, (int, float)) and 0 < crop_pct <= 1:
        resize = math.floor(min(height, width) / crop_pct)  # as timm's transforms_imagenet_eval
    return StatedInput(mean, std, height, width, resize, _FILTERS.get(str(config.get("interpolation"))))


def _sequence(value: object) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else []


def _numbers(value: object) -> tuple[float, ...]:
    numbers = _sequence(_parsed(value))
    if len(numbers) not in (1, 3) or not all(type(number) in (int, float) for number in numbers):
        return ()
    return tuple(map(float, numbers)) if all(map(math.isfinite, numbers)) else ()


def _whole(value: object) -> int:
    return value if type(value) is int and 0 < value <= 4096 else 0
