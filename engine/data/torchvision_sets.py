"""The classification sets that torchvision downloads and reads, by name."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch

from finetui.engine.data.division import TEST_SHARE, drawn
from finetui.engine.data.download import DownloadError, Progress
from finetui.engine.data.image_data import ImageData
from finetui.engine.data.user_datasets import from_datasets
from finetui.engine.errors import BadInput, Cancelled, reason_of
from finetui.engine.protocol.config import DataConfig
from finetui.engine.protocol.description import SplitRule
from finetui.engine.protocol.values import PARTS, Decoding, Part
from finetui.engine.text import clean

_SILENCE_SECONDS = 30.0
_POLL_SECONDS = 0.2
_STAGING = ".downloading-"  # begins the name of the folder, beside the sets, that one is downloaded into
_LEFT_SECONDS = 86_400.0


_Arguments = dict[Part, dict[str, Any]]


class _Set(NamedTuple):
    """A class of `torchvision.datasets`, and what it is called with for each of its parts.

    `with_val` takes the place of `parts` where somebody asks for val images. No parts but train: it is divided here.
    """

    kind: str
    parts: _Arguments
    with_val: _Arguments | None = None


def _flag(kind: str) -> _Set:
    return _Set(kind, {"train": {"train": True}, "test": {"train": False}})


def _split(kind: str, *, train: str = "train", val: str = "", test: str = "test") -> _Set:
    return _Set(kind, _splits(train, val, test))


def _splits(train: str, val: str, test: str) -> _Arguments:
    return {part: {"split": name} for part, name in zip(PARTS, (train, val, test), strict=True) if name}


SETS = {
    "cifar10": _flag("CIFAR10"),
    "cifar100": _flag("CIFAR100"),
    "dtd": _split("DTD", val="val"),
    "eurosat": _Set("EuroSAT", {"train": {}}),
    # All that it is compared with is trained on both; its own val is used where somebody asks for val.
    "fgvc-aircraft": _Set("FGVCAircraft", _splits("trainval", "", "test"), _splits("train", "val", "test")),
    "flowers102": _split("Flowers102", val="val"),
    "food101": _split("Food101"),
    "gtsrb": _split("GTSRB"),
    "imagenette": _split("Imagenette", val="val", test=""),
    "kmnist": _flag("KMNIST"),
    "oxford-iiit-pet": _split("OxfordIIITPet", train="trainval"),
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
    decoding: Decoding,
    progress: Progress,
    cancelled: Callable[[], bool],
) -> ImageData:
    """Return torchvision's set `request.name`: from one of `roots`, `cache` among them, else downloaded into `cache`.

    Raises `BadInput` when it cannot be had, `Cancelled`.
    """
    name = request.name
    progress(f"Looking for {name}", 0, 0)
    val = request.val > 0
    found = _find(name, roots, val=val)
    if found is None:
        try:
            _fetch(name, cache, progress, cancelled)
            found = _find(name, [cache], val=val)
        except (DownloadError, OSError) as error:
            raise _not_to_be_had(name, roots, reason_of(error)) from error
        if found is None:
            raise _not_to_be_had(name, roots, "torchvision cannot find what it downloaded")
    parts, root = found
    split: SplitRule = "given"
    if len(parts) == 1 and request.test == "auto":
        split = "drawn"
        parts = _divided(parts["train"], seed)
    return from_datasets(
        parts["train"],
        parts.get("test"),
        device,
        val=parts.get("val"),
        request=request,
        seed=seed,
        name=name,
        location=clean(str(root)),
        decoding=decoding,
        kind="torchvision",
        split=split,
        progress=progress,
        cancelled=cancelled,
    )


def _not_to_be_had(name: str, roots: list[Path], reason: str) -> BadInput:
    places = ", ".join(str(place) for place in roots)
    return BadInput(
        f"{name} is not on this machine (looked in {places}) and could not be downloaded ({reason}); "
        "name the folder that holds it with --data-dir"
    )


def _open(name: str, root: Path, *, download: bool, val: bool = False) -> dict[Part, Any]:
    """Return the parts of the set, one where torchvision does not divide it; with `val` one of that as well."""
    from torchvision import datasets  # takes a second to import

    spec = SETS[name]
    kind = getattr(datasets, spec.kind)
    parts = spec.with_val if val and spec.with_val else spec.parts
    return {part: kind(root, **arguments, download=download) for part, arguments in parts.items()}


def _find(name: str, roots: list[Path], *, val: bool) -> tuple[dict[Part, Any], Path] | None:
    for root in roots:
        try:
            return _open(name, root, download=False, val=val), root
        except (RuntimeError, FileNotFoundError, NotADirectoryError) as error:
            if "scipy" in str(error).lower():
                raise _needs(name, error) from error
            continue  # torchvision's way of saying that it is not there
        except ImportError as error:
            raise _needs(name, error) from error
        except Exception as error:
            # Its files are read by pickle, bz2, csv and others, which raise what they like.
            raise BadInput(
                f"the files of {name} in {root} cannot be read ({type(error).__name__}: "
                f"{reason_of(error)}); delete them or fetch them again"
            ) from error
    return None


def _needs(name: str, error: Exception) -> BadInput:
    return BadInput(f"torchvision needs another package to read {name} ({reason_of(error)}); install it")


def _fetch(name: str, cache: Path, progress: Progress, cancelled: Callable[[], bool]) -> None:
    """Have a process download `name`, and put it into `cache` as a whole. Raises `DownloadError`, OSError, `Cancelled`.

    As a whole, since torchvision takes a folder of which a part was extracted for the set. A process, since its
    downloads cannot be cancelled, draw bars on the terminal, and heed only a time-out that is set for all of a process.
    """
    cache.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(cache)
    with tempfile.TemporaryDirectory(prefix=_STAGING, dir=cache) as staging:
        _share_archives(cache, Path(staging))
        _download(name, Path(staging), progress, cancelled)
        _move_into(cache, Path(staging))


def _download(name: str, folder: Path, progress: Progress, cancelled: Callable[[], bool]) -> None:
    # -P: a folder named `engine` where the user happens to be must not be taken for this package.
    command = [sys.executable, "-P", "-c", f"from {__name__} import download_here; download_here()", name, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            while process.poll() is None:
                if cancelled():
                    raise Cancelled("the download was cancelled")
                progress(f"Downloading {name}", _size(folder), 0)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(_POLL_SECONDS)
        finally:
            process.kill()
        said = process.stdout.read().strip().splitlines() if process.stdout is not None else []
    if process.returncode:
        raise DownloadError(said[-1] if said else f"the download ended with status {process.returncode}")


def _remove_leftovers(cache: Path) -> None:
    """Remove what a process that was killed a day ago or earlier had downloaded."""
    for folder in cache.glob(f"{_STAGING}*"):
        with suppress(FileNotFoundError):
            if time.time() - folder.stat().st_mtime > _LEFT_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)


def _share_archives(cache: Path, staging: Path) -> None:
    """Let `staging` have the archives that are in `cache`: torchvision takes those whose check sums are right."""
    for archive in (*cache.glob("*"), *cache.glob("*/*")):
        if archive.is_file() and not archive.parent.name.startswith(_STAGING):
            there = staging / archive.relative_to(cache)
            there.parent.mkdir(exist_ok=True)
            with suppress(OSError):  # no links here, or gone meanwhile: it is fetched
                os.link(archive, there)


def _move_into(target: Path, source: Path) -> None:
    """Rename what is in the folder `source` into the folder `target`; a folder that is there already takes more in."""
    for path in source.iterdir():
        there = target / path.name
        try:
            path.replace(there)
        except OSError:  # or has just come, from another process
            if not (path.is_dir() and there.is_dir()):
                raise
            _move_into(there, path)


def _size(folder: Path) -> int:
    """Return the bytes of the archives in `folder`."""
    total = 0
    for path in (*folder.glob("*"), *folder.glob("*/*")):
        with suppress(OSError):  # it has just been renamed or deleted
            total += path.stat().st_size
    return total


def download_here() -> None:
    """Download the set that the command line names into the folder that it names; say what is wrong, if anything is."""
    name, cache = sys.argv[1:]
    socket.setdefaulttimeout(_SILENCE_SECONDS)
    try:
        _open(name, Path(cache), download=True)
    except Exception as error:  # noqa: BLE001  # told to the process that asked, which says it to the person
        print(clean(str(getattr(error, "reason", None) or error) or type(error).__name__, 200))
        sys.exit(1)


class _Part(torch.utils.data.Subset[Any]):
    """A part of a set that torchvision does not divide, with its class names."""

    def __init__(self, whole: Any, indices: list[int]) -> None:
        super().__init__(whole, indices)
        self.classes = whole.classes
        self.targets = [whole.targets[index] for index in indices]


def _divided(whole: Any, seed: int) -> dict[Part, Any]:
    test = drawn([str(target) for target in whole.targets], TEST_SHARE, seed)
    train = sorted(set(range(len(whole))) - set(test))
    return {"train": _Part(whole, train), "test": _Part(whole, test)}
