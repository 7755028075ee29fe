"""The classification sets that torchvision downloads and reads, by name."""

import socket
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch

from engine.config import DataConfig
from engine.data.download import Progress
from engine.data.image_data import ImageData
from engine.data.own import from_datasets
from engine.errors import BadInput
from engine.text import clean

_SILENCE_SECONDS = 30.0


class _Set(NamedTuple):
    """A class of `torchvision.datasets`, and what it is called with for its two parts."""

    kind: str
    train: dict[str, Any]
    test: dict[str, Any]


def _flag(kind: str) -> _Set:
    return _Set(kind, {"train": True}, {"train": False})


def _split(kind: str, train: str = "train", test: str = "test") -> _Set:
    return _Set(kind, {"split": train}, {"split": test})


SETS = {
    "cifar10": _flag("CIFAR10"),
    "cifar100": _flag("CIFAR100"),
    "dtd": _split("DTD"),
    "eurosat": _Set("EuroSAT", {}, {}),
    "fgvc-aircraft": _split("FGVCAircraft", "trainval"),
    "flowers102": _split("Flowers102"),
    "food101": _split("Food101"),
    "gtsrb": _split("GTSRB"),
    "imagenette": _split("Imagenette", test="val"),
    "kmnist": _flag("KMNIST"),
    "oxford-iiit-pet": _split("OxfordIIITPet", "trainval"),
    "stl10": _split("STL10"),
    "svhn": _split("SVHN"),
    "usps": _flag("USPS"),
}


def load(
    request: DataConfig,
    roots: list[Path],
    cache: Path,
    device: torch.device,
    *,
    seed: int,
    progress: Progress,
    cancelled: Callable[[], bool],
) -> ImageData:
    """Return torchvision's set `request.name`: from one of `roots`, else downloaded into `cache`.

    Raises `BadInput` when it cannot be had.
    """
    from torchvision import datasets

    spec = SETS[request.name]
    kind = getattr(datasets, spec.kind)
    progress(f"Looking for {request.name}", 0, 0)
    pair, root = _find(kind, spec, [*roots, cache])
    if pair is None:
        progress(f"Downloading {request.name}", 0, 0)
        pair, root = _download(kind, spec, request.name, [*roots, cache], cache), cache
    if spec.train == spec.test:
        pair = _divided(pair[0], seed)
    return from_datasets(
        pair[0],
        pair[1],
        device,
        request=request,
        name=request.name,
        location=clean(str(root)),
        progress=progress,
        cancelled=cancelled,
    )


def _find(kind: Any, spec: _Set, roots: list[Path]) -> tuple[Any, Path]:
    for root in roots:
        try:
            return (kind(root, **spec.train, download=False), kind(root, **spec.test, download=False)), root
        except (RuntimeError, OSError):
            continue  # torchvision's way of saying that it is not there
    return None, roots[-1]


def _download(kind: Any, spec: _Set, name: str, looked_in: list[Path], cache: Path) -> tuple[Any, Any]:
    cache.mkdir(parents=True, exist_ok=True)
    try:
        with _silence_limited():
            return kind(cache, **spec.train, download=True), kind(cache, **spec.test, download=True)
    except (RuntimeError, OSError, EOFError, tarfile.TarError, zipfile.BadZipFile) as error:
        places = ", ".join(clean(str(place)) for place in looked_in)
        reason = clean(str(getattr(error, "reason", None) or error), 200)
        raise BadInput(
            f"{name} is not on this machine (looked in {places}) and could not be downloaded ({reason}); "
            "name the folder that holds it with --data-dir"
        ) from error


@contextmanager
def _silence_limited() -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_SILENCE_SECONDS)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


class _Part(torch.utils.data.Subset[Any]):
    """A part of a set that torchvision does not divide, with its class names."""

    def __init__(self, whole: Any, indices: list[int]) -> None:
        super().__init__(whole, indices)
        self.classes = whole.classes
        self.targets = [whole.targets[index] for index in indices]


def _divided(whole: Any, seed: int) -> tuple[_Part, _Part]:
    generator = torch.Generator().manual_seed(seed % 2**63)
    order = torch.randperm(len(whole), generator=generator).tolist()
    count = len(order) // 5
    return _Part(whole, sorted(order[count:])), _Part(whole, sorted(order[:count]))
