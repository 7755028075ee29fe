"""torchvision's pretrained weights: from its own cache on this machine, or else downloaded to it."""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from finetui.engine.checkpoints.state_dict import read_state_dict
from finetui.engine.data.download import DownloadError, Progress, fetch
from finetui.engine.errors import BadInput, reason_of
from finetui.engine.models.architecture import check_model
from finetui.engine.protocol.config import is_factory
from finetui.engine.protocol.values import Interpolation
from finetui.engine.text import clean

_OPTION = "model.weights (--weights)"
_MOST_BYTES = 2**33  # the largest file has 2.6 GB
# These normalise their inputs once more, from ImageNet's mean and deviation to (x - 0.5) / 0.5: see `_transform_input`
# in torchvision's googlenet.py and inception.py. Ours are built without that, so it becomes the input transform.
_HALF = ("googlenet", "inception_v3")


@dataclass(frozen=True)
class Pretrained:
    """Published weights and what they need: `height`, `width` of the input, `mean` and `std` per channel of pixels in
    [0, 1]. Their authors scaled the shorter side to `resize` with the filter `interpolation` and cut out the middle.
    """

    weights: dict[str, Tensor]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    height: int
    width: int
    resize: int
    interpolation: Interpolation
    classes: tuple[str, ...]
    description: str


def pretrained(name: str, *, progress: Progress, cancelled: Callable[[], bool]) -> Pretrained:
    """Return torchvision's recommended weights for the network `name`.

    They are read from torch's cache (`torch.hub.get_dir()`, the variable TORCH_HOME moves it) or downloaded to it;
    `progress("Downloading FILE", done, total)` counts bytes. Raises `BadInput` when there are none or they cannot be
    had, `Cancelled` once `cancelled` answers True.
    """
    check_model(name)
    if name == "lenet" or is_factory(name):
        raise BadInput(f"{_OPTION}: there are no published weights for {name}; name a file or use none")
    import torchvision  # takes seconds, and is seldom needed

    source: Any = torchvision.models.get_model_weights(name).DEFAULT
    path = torch_hub_file(name, source.url, progress, cancelled)
    preset = source.transforms()
    half = name in _HALF
    return Pretrained(
        weights=read_state_dict(path, published=bool(_digest_in(path.name))),
        mean=(0.5,) * 3 if half else tuple(preset.mean),
        std=(0.5,) * 3 if half else tuple(preset.std),
        height=preset.crop_size[0],
        width=preset.crop_size[-1],
        resize=preset.resize_size[0],
        interpolation=preset.interpolation.value,
        classes=tuple(clean(label) for label in source.meta["categories"]),
        description=f"torchvision's {source}",
    )


def torch_hub_file(name: str, url: str, progress: Progress, cancelled: Callable[[], bool]) -> Path:
    """Return the file of the network `name` that `url` names, in torch's cache, with the right check sum.

    Raises `BadInput`, and `Cancelled`.
    """
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    mirror, slash, file_name = url.rpartition("/")
    path = folder / file_name
    digest = _digest_in(file_name)
    missing = "are not on this machine"
    try:
        if path.is_file():
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest().startswith(digest):
                    return path
            missing = "are damaged on this machine"
        return fetch(
            [mirror + slash],
            file_name,
            digest,
            folder,
            progress=progress,
            cancelled=cancelled,
            algorithm="SHA-256",
            most_bytes=_MOST_BYTES,
        )
    except (DownloadError, OSError) as error:
        raise BadInput(
            f"{_OPTION}: the weights of {name} {missing} (looked in {path}) and could not be downloaded "
            f"({reason_of(error)}); name a file with --weights or use --weights none"
        ) from error


def _digest_in(file_name: str) -> str:
    """Return the first digits of the SHA-256 sum that torchvision's file names end in."""
    found = re.search(r"-([0-9a-f]{8,})\.", file_name)
    return found[1] if found else ""
