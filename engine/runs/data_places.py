"""Where the data sets that finetui knows by name lie on a machine, and which are there. Needs no torch.

The folders of MNIST and its like are those of torchvision.
"""

import gzip
import os
import stat
import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import platformdirs

from finetui.engine.errors import BadInput, reason_of
from finetui.engine.text import clean

PARTS = ("train", "t10k")
SAMPLE_FOLDER = Path(__file__).parents[1] / "data" / "sample"
_PACKAGED = Path("/usr/share/datasets")  # where Linux distributions put them (Debian: dataset-fashion-mnist)
# What is in a folder of data sets once torchvision has put the set there.
_TORCHVISION = {
    "cifar10": "cifar-10-batches-py",
    "cifar100": "cifar-100-python",
    "dtd": "dtd",
    "eurosat": "eurosat",
    "fgvc-aircraft": "fgvc-aircraft-2013b",
    "flowers102": "flowers-102",
    "food101": "food-101",
    "gtsrb": "gtsrb",
    "imagenette": "imagenette2",
    "kmnist": "KMNIST/raw",
    "oxford-iiit-pet": "oxford-iiit-pet",
    "stl10": "stl10_binary",
    "svhn": "train_32x32.mat",
    "usps": "usps.bz2",
}


@dataclass(frozen=True)
class DatasetSpec:
    """A data set in IDX files.

    `folder` is its name in torchvision's layout; `moments`, mean and deviation, None: computed from the images.
    """

    name: str
    title: str
    folder: str
    classes: tuple[str, ...]
    moments: tuple[tuple[float, ...], tuple[float, ...]] | None = None


_DIGITS = tuple("0123456789")
_MNIST_MOMENTS = ((0.1307,), (0.3081,))
SPECS = {
    spec.name: spec
    for spec in (
        DatasetSpec("mnist", "MNIST", "MNIST", _DIGITS, _MNIST_MOMENTS),
        DatasetSpec("mnist-sample", "the bundled MNIST digits", "", _DIGITS, _MNIST_MOMENTS),
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


def shown(path: Path) -> str:
    """Return `path` as messages show it: harmless, and long enough to keep the file's name at its end."""
    return clean(str(path), 1000)


def unreadable(path: Path, error: OSError) -> BadInput:
    """Return what to say of a file of data that cannot be read."""
    return BadInput(f"{shown(path)} cannot be read: {reason_of(error)}; check the file and its permissions")


def file_names(part: str) -> tuple[str, str]:
    """Return the names of the image and the label file of `part` (`train` or `t10k`), without `.gz`."""
    return f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte"


def locate(folder: Path, name: str) -> Path | None:
    """Return the file `name` or `name.gz` in `folder`, the plain one first; None if there is neither.

    Raises `BadInput` when the folder does not let itself be looked into.
    """
    for path in (folder / name, folder / f"{name}.gz"):
        # Not exists(): a link to nowhere is a broken data set, not an absent one, and is to be named.
        try:
            path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise unreadable(path, error) from error
        return path
    return None


def cache_folder() -> Path:
    """Return the folder that downloads are kept in."""
    return platformdirs.user_cache_path("finetui") / "data"


def usual_roots(data_dir: Path | None) -> list[Path]:
    """Return the folders to look for data sets in: the one that a person named, after a check, and the usual ones."""
    given = given_root(data_dir)
    return [*([given] if given is not None else []), *usual_places()]


def usual_places() -> tuple[Path, Path]:
    """Return the folders that data sets are looked for in, wherever else they may be."""
    return cache_folder(), _PACKAGED


def given_root(data_dir: Path | None) -> Path | None:
    """Return the folder that the person named, after a check that it is one; None if they named none."""
    if data_dir is not None:
        root, source = data_dir, "--data-dir"
    elif os.environ.get("FINETUI_DATA"):
        # Not Path.expanduser, which raises where there is no such user.
        root, source = Path(os.path.expanduser(os.environ["FINETUI_DATA"])), "FINETUI_DATA"  # noqa: PTH111
    else:
        return None
    where = f"the data folder {shown(root)}"
    try:
        is_folder = stat.S_ISDIR(root.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:  # ValueError: a null character
        raise BadInput(f"{where} does not exist; check {source}") from error
    except OSError as error:
        raise BadInput(f"{where} cannot be read: {reason_of(error)}; check {source}") from error
    if not is_folder:
        raise BadInput(f"{where} is not a folder; check {source}")
    if not os.access(root, os.R_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        raise BadInput(f"{where} cannot be read: no permission; change its permissions, or check {source}")
    return root


def find_in(root: Path, spec: DatasetSpec) -> Path | None:
    """Return the folder under `root` that holds any of the four files, wherever they usually lie in it."""
    names = [name for part in PARTS for name in file_names(part)]
    candidates = [root / spec.folder / "raw", root / spec.folder, root / spec.name]
    # Files right in the folder carry no name of their set: only the user, or a package's name, can vouch for them.
    if root not in usual_places() and not _belongs_to_another(root, spec):
        candidates += [root / "raw", root]
    for folder in candidates:
        if any(locate(folder, name) for name in names):
            return folder
    return None


def _belongs_to_another(root: Path, spec: DatasetSpec) -> bool:
    """Return whether `root` carries the name of a data set other than `spec`.

    All sets have the same four file names: MNIST's would otherwise be trained on as clothes.
    """
    where = root.absolute()
    name = (where.parent.name if where.name == "raw" else where.name).lower()
    names = {other.name: {other.name, other.folder.lower()} - {""} for other in SPECS.values()}
    return name not in names.pop(spec.name) and any(name in theirs for theirs in names.values())


def is_complete(folder: Path) -> bool:
    """Return whether all four files are in `folder`."""
    return all(locate(folder, name) for part in PARTS for name in file_names(part))


class DataHere(NamedTuple):
    """A data set that is on this machine: what `--data` and `--data-dir` call it, where it lies, training images.

    `folder` is None where it is found without being named; `images` None: not known before it is read.
    """

    name: str
    folder: str | None
    location: str
    images: int | None = None


def data_here(folders: Sequence[str | None]) -> list[DataHere]:
    """Return the data sets that are found with each of `folders` as `--data-dir`, each set once; in a thread."""
    found: dict[str, DataHere] = {}
    for folder in folders:
        try:
            roots = usual_roots(Path(folder) if folder is not None else None)
        except BadInput:
            continue  # that folder is not there any more
        for here in _sets_in(roots):
            found.setdefault(here.name, here._replace(folder=folder))
    order = [*SPECS, *_TORCHVISION]
    return sorted(found.values(), key=lambda here: order.index(here.name))


def _sets_in(roots: Sequence[Path]) -> Iterator[DataHere]:
    for name, spec in SPECS.items():
        if not spec.folder:
            yield DataHere(name, None, "bundled with finetui", _images_in(SAMPLE_FOLDER))
            continue
        with suppress(BadInput):  # a folder that cannot be looked into has none for us
            place = next((place for root in roots if (place := find_in(root, spec)) and is_complete(place)), None)
            if place is not None:
                yield DataHere(name, None, shown(place), _images_in(place))
    for name, inside in _TORCHVISION.items():
        root = next((root for root in roots if (root / inside).exists()), None)
        if root is not None:
            yield DataHere(name, None, shown(root))


def _images_in(folder: Path) -> int | None:
    """Return how many images the file of training images says it has; None where it cannot be read."""
    path = locate(folder, file_names("train")[0])
    if path is None:
        return None
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            return int(struct.unpack(">4xI", file.read(8))[0])
    except (OSError, EOFError, struct.error):
        return None
