"""Data sets by name: where they are looked for, and what is done when they are not there."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import platformdirs
import torch

from engine.data import idx
from engine.data.download import DownloadError, Progress, fetch
from engine.data.resident import ResidentSplit
from engine.errors import BadInput, Cancelled
from engine.text import clean

SAMPLE_FOLDER = Path(__file__).parent / "sample"
_PACKAGED = Path("/usr/share/datasets")  # where Linux distributions put them (Debian: dataset-fashion-mnist)
_CHUNK = 4096  # images at a time when a mean is computed


@dataclass(frozen=True)
class DatasetSpec:
    """A data set in IDX files. `folder` is its name in torchvision's layout; `mean` None: computed from the images."""

    name: str
    title: str
    folder: str
    classes: tuple[str, ...]
    mean: float | None = None
    std: float | None = None


_DIGITS = tuple("0123456789")
SPECS = {
    spec.name: spec
    for spec in (
        DatasetSpec("mnist", "MNIST", "MNIST", _DIGITS, 0.1307, 0.3081),
        DatasetSpec("mnist-sample", "the bundled MNIST digits", "", _DIGITS, 0.1307, 0.3081),
        DatasetSpec(
            "fashion-mnist",
            "Fashion-MNIST",
            "FashionMNIST",
            (
                "T-shirt/top",
                "Trouser",
                "Pullover",
                "Dress",
                "Coat",
                "Sandal",
                "Shirt",
                "Sneaker",
                "Bag",
                "Ankle boot",
            ),
        ),
    )
}


@dataclass(frozen=True)
class ImageData:
    """A data set in memory. `name` is what is used, `requested` what was asked for; `notices` say why they differ.

    `mean` and `std` have a number for each of `channels`; `location` is where it came from, for people.
    """

    name: str
    requested: str
    classes: tuple[str, ...]
    train: ResidentSplit
    test: ResidentSplit
    mean: tuple[float, ...]
    std: tuple[float, ...]
    channels: int
    height: int
    width: int
    location: str
    notices: tuple[str, ...]


def load(
    name: str,
    data_dir: Path | None,
    device: torch.device,
    *,
    progress: Progress = lambda _phase, _done, _total: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> ImageData:
    """Return the data set `name` on `device`.

    It is looked for in `data_dir` (or $FINETUI_DATA), in the user's cache, where Linux packages put it, and then
    downloaded into the cache. Where MNIST cannot be had at all, the bundled digits stand in and `notices` say so.
    Raises `BadInput` when it cannot be had or its files are wrong, `Cancelled` once `cancelled` answers True.
    """
    spec = SPECS.get(name)
    if spec is None:
        raise BadInput(f"there is no data set {clean(name, 60)!r}; known: {', '.join(SPECS)}")
    if not spec.folder:
        return _read(spec, SAMPLE_FOLDER, name, (), device, progress)
    given = data_dir or (Path(os.environ["FINETUI_DATA"]).expanduser() if os.environ.get("FINETUI_DATA") else None)
    notices: tuple[str, ...] = ()
    if given is not None:
        folder = _find_in(_checked(given), spec)
        if folder is not None:
            return _read(spec, folder, name, (), device, progress)
        notices = (f"{spec.title} is not in {clean(str(given))}, so it was looked for elsewhere",)
    for root in _usual_places():
        folder = _find_in(root, spec)
        # A download that was cut short left some files in the cache: it is completed below.
        if folder is not None and (root != cache_folder() or _is_complete(folder)):
            return _read(spec, folder, name, notices, device, progress)
    try:
        folder = _download(spec, progress, cancelled)
    except Cancelled:
        raise
    except (DownloadError, OSError) as error:
        reason = clean(str(error), 120)
        if spec.name != "mnist":
            raise BadInput(
                f"{spec.title} is not on this machine and could not be downloaded ({reason}); "
                "name the folder that holds it with --data-dir"
            ) from error
        why = (
            f"MNIST is not on this machine and could not be downloaded ({reason}): training on mnist-sample instead, "
            "5 000 MNIST digits bundled with finetui (4 000 to train, 1 000 to test)"
        )
        return _read(SPECS["mnist-sample"], SAMPLE_FOLDER, name, (*notices, why), device, progress)
    return _read(spec, folder, name, notices, device, progress)


def cache_folder() -> Path:
    """Return the folder that downloads are kept in."""
    return platformdirs.user_cache_path("finetui") / "data"


def _usual_places() -> Iterator[Path]:
    yield cache_folder()
    yield _PACKAGED


def _checked(root: Path) -> Path:
    where = clean(str(root))
    if not root.exists():
        raise BadInput(f"the data folder {where} does not exist; check --data-dir (or FINETUI_DATA)")
    if not root.is_dir():
        raise BadInput(f"the data folder {where} is not a folder; check --data-dir (or FINETUI_DATA)")
    if not os.access(root, os.R_OK | os.X_OK):
        raise BadInput(f"the data folder {where} cannot be read: no permission")
    return root


def _find_in(root: Path, spec: DatasetSpec) -> Path | None:
    """Return the folder under `root` that holds any of the four files, wherever they usually lie in it."""
    names = [name for part in idx.PARTS for name in idx.file_names(part)]
    candidates = [root / spec.folder / "raw", root / spec.folder, root / spec.name]
    # Files right in the folder carry no name of their set: only the user, or a package's name, can vouch for them.
    if root not in _usual_places():
        candidates += [root / "raw", root]
    for folder in candidates:
        if any(idx.locate(folder, name) for name in names):
            return folder
    return None


def _is_complete(folder: Path) -> bool:
    return all(idx.locate(folder, name) for part in idx.PARTS for name in idx.file_names(part))


def _download(spec: DatasetSpec, progress: Progress, cancelled: Callable[[], bool]) -> Path:
    progress(f"Looking for {spec.title} on the network", 0, 0)
    from torchvision import datasets  # takes seconds to import, and only its list of sources is needed

    source = getattr(datasets, spec.folder)
    mirrors = getattr(source, "mirrors", None) or [source.url_base]
    folder = cache_folder() / spec.folder / "raw"
    for file, md5 in source.resources:
        if not (folder / file).exists():
            fetch(mirrors, file, md5, folder, progress=progress, cancelled=cancelled)
    return folder


def _read(
    spec: DatasetSpec,
    folder: Path,
    requested: str,
    notices: tuple[str, ...],
    device: torch.device,
    progress: Progress,
) -> ImageData:
    progress(f"Reading {spec.title}", 0, 0)
    train_images, train_labels = idx.read_pair(folder, "train", len(spec.classes))
    test_images, test_labels = idx.read_pair(folder, "t10k", len(spec.classes))
    if train_images.shape[1:] != test_images.shape[1:]:
        sizes = f"{train_images.shape[1:]} and {test_images.shape[1:]}"
        raise BadInput(f"the training and test images in {clean(str(folder))} have different sizes: {sizes}")
    mean, std = (spec.mean, spec.std) if spec.mean and spec.std else mean_and_std(train_images)
    _, height, width = train_images.shape
    return ImageData(
        name=spec.name,
        requested=requested,
        classes=spec.classes,
        train=_split(train_images, train_labels, mean, std, device),
        test=_split(test_images, test_labels, mean, std, device),
        mean=(mean,),
        std=(std,),
        channels=1,
        height=height,
        width=width,
        location="bundled with finetui" if folder == SAMPLE_FOLDER else clean(str(folder)),
        notices=notices,
    )


def _split(images: idx.Bytes, labels: idx.Bytes, mean: float, std: float, device: torch.device) -> ResidentSplit:
    return ResidentSplit(
        torch.from_numpy(images).unsqueeze(1).to(device),
        torch.from_numpy(labels).to(device=device, dtype=torch.int64),
        (mean,),
        (std,),
    )


def mean_and_std(images: idx.Bytes) -> tuple[float, float]:
    """Return mean and standard deviation of all pixels of `images` (uint8), scaled to [0, 1].

    Exact: bytes have 256 values, so counting them is enough.
    """
    counts = np.zeros(256, dtype=np.int64)
    for start in range(0, len(images), _CHUNK):
        counts += np.bincount(images[start : start + _CHUNK].ravel(), minlength=256)
    values = np.arange(256) / 255
    mean = float((counts * values).sum() / counts.sum())
    return mean, float(np.sqrt((counts * (values - mean) ** 2).sum() / counts.sum()))
