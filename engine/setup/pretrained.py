"""torchvision's pretrained weights: from its own cache on this machine, or else downloaded to it."""

import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch
from torch import Tensor

from finetui.engine.checkpoints.state_dict import read_state_dict
from finetui.engine.data.download import CONNECT_SECONDS, PATIENCE_SECONDS, DownloadError, _Transfer
from finetui.engine.errors import BadInput
from finetui.engine.models.architecture import check_model
from finetui.engine.protocol.config import is_factory
from finetui.engine.text import clean

_OPTION = "model.weights (--weights)"
_CHUNK = 2**20
_MOST_BYTES = 2**33  # the largest file has 2.6 GB; a server that sends on and on must not fill the disk
# These normalise their inputs once more, from ImageNet's mean and deviation to (x - 0.5) / 0.5: see `_transform_input`
# in torchvision's googlenet.py and inception.py. Ours are built without that, so it becomes the input transform.
_HALF = ("googlenet", "inception_v3")

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Pretrained:
    """Published weights and what they need: `height`, `width` of the input, `mean` and `std` per channel of pixels in
    [0, 1]. Their authors scaled the shorter side to `resize` and cut out the middle.
    """

    weights: dict[str, Tensor]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    height: int
    width: int
    resize: int
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
    path = _find(name, source.url, progress, cancelled)
    preset = source.transforms()
    half = name in _HALF
    return Pretrained(
        weights=read_state_dict(path, published=True),
        mean=(0.5,) * 3 if half else tuple(preset.mean),
        std=(0.5,) * 3 if half else tuple(preset.std),
        height=preset.crop_size[0],
        width=preset.crop_size[-1],
        resize=preset.resize_size[0],
        classes=tuple(clean(label) for label in source.meta["categories"]),
        description=f"torchvision's {source}",
    )


def _find(name: str, url: str, progress: Progress, cancelled: Callable[[], bool]) -> Path:
    """Return the file that `url` names, in torch's cache, with the right check sum."""
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    path = folder / Path(urlsplit(url).path).name
    missing = "are not on this machine"
    try:
        if path.is_file():
            if _digest(path).startswith(_wanted_digest(path.name)):
                return path
            missing = "are damaged on this machine"
        _download(url, path, progress, cancelled)
    except (DownloadError, OSError) as error:
        reason = error if isinstance(error, DownloadError) else error.strerror or type(error).__name__
        raise BadInput(
            f"{_OPTION}: the weights of {name} {missing} (looked in {path}) and could not be downloaded "
            f"({reason}); name a file with --weights or use --weights none"
        ) from error
    return path


def _download(url: str, path: Path, progress: Progress, cancelled: Callable[[], bool]) -> None:
    """Download `url` to `path`, which appears once it is whole. Raises `DownloadError`, `Cancelled` or OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # The process id keeps two runs that download at once out of each other's file.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    transfer = _Transfer(url, CONNECT_SECONDS, PATIENCE_SECONDS)
    try:
        digest = hashlib.sha256()
        done = 0
        transfer.start()
        with temporary.open("wb") as file:
            while piece := transfer.next_piece(cancelled):
                file.write(piece)
                digest.update(piece)
                done += len(piece)
                if done > _MOST_BYTES:
                    raise DownloadError(f"{url} does not end")
                progress(f"Downloading {path.name}", done, transfer.total)
        if done < transfer.total:
            raise DownloadError(f"{url} broke off after {done} of {transfer.total} bytes")
        if not digest.hexdigest().startswith(_wanted_digest(path.name)):
            raise DownloadError(f"{url} gave another file than expected (SHA-256 {digest.hexdigest()})")
        temporary.replace(path)
    finally:
        transfer.abandoned.set()
        temporary.unlink(missing_ok=True)


def _wanted_digest(file_name: str) -> str:
    """Return the first digits of the SHA-256 sum that torchvision's file names end in."""
    found = re.search(r"-([0-9a-f]{8,})\.", file_name)
    return found[1] if found else ""


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_CHUNK):
            digest.update(piece)
    return digest.hexdigest()
