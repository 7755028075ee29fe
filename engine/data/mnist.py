"""Data sets by name: where they are looked for, and what is done when they are not there."""

import dataclasses
import difflib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import torch

from finetui.engine.data import idx
from finetui.engine.data.division import Subset
from finetui.engine.data.download import DownloadError, Progress, fetch
from finetui.engine.data.found import Found
from finetui.engine.data.image_data import ImageData, free_memory, image_data, resident_in, streamed_by
from finetui.engine.data.image_files import decoded_again, settled
from finetui.engine.data.moments import mean_and_std
from finetui.engine.data.resident import ResidentSplit
from finetui.engine.data.split import Source, Split
from finetui.engine.data.streaming import StreamedSplit
from finetui.engine.data.transform import Transform
from finetui.engine.errors import BadInput, reason_of
from finetui.engine.protocol.config import DataConfig
from finetui.engine.protocol.description import DataDescription
from finetui.engine.protocol.values import Decoding
from finetui.engine.runs.data_places import (
    SAMPLE_FOLDER,
    SPECS,
    DatasetSpec,
    cache_folder,
    find_in,
    given_root,
    is_complete,
    shown,
    usual_places,
)

_AS_THEY_ARE = Decoding(channels=0, height=0, width=0)


def load(
    name: str,
    data_dir: Path | None,
    device: torch.device,
    *,
    request: DataConfig = DataConfig(),  # noqa: B008  # frozen
    seed: int = 0,
    decoding: Decoding | None = None,
    progress: Progress = lambda _phase, _done, _total: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> ImageData:
    """Return the data set `name` on `device`.

    It is looked for in `data_dir` (or $FINETUI_DATA), in the user's cache, where Linux packages put it, and then
    downloaded into the cache. Where MNIST cannot be had at all, the bundled digits stand in and `notices` say so.
    `seed` draws the val images that `request` asks for. Raises `BadInput` when it cannot be had or its files are wrong,
    `Cancelled` once `cancelled` answers True.
    """
    spec = _spec(name)
    if not spec.folder:
        return _read(spec, SAMPLE_FOLDER, name, (), device, request, seed, decoding, progress)
    given = given_root(data_dir)
    notices: tuple[str, ...] = ()
    if given is not None:
        folder = find_in(given, spec)
        if folder is not None:
            return _read(spec, folder, name, (), device, request, seed, decoding, progress)
        notices = (f"{spec.title} is not in {shown(given)}, so it was looked for elsewhere",)
    for root in usual_places():
        folder = find_in(root, spec)
        # A download that was cut short left some files in the cache: it is completed below.
        if folder is not None and (root != cache_folder() or is_complete(folder)):
            return _read(spec, folder, name, notices, device, request, seed, decoding, progress)
    try:
        folder = _download(spec, progress, cancelled)
    except (DownloadError, OSError) as error:
        reason = reason_of(error)
        if spec.name != "mnist":
            places = ", ".join(shown(place) for place in (given, *usual_places()) if place is not None)
            raise BadInput(
                f"{spec.title} is not on this machine (looked in {places}) and could not be downloaded ({reason}); "
                "name the folder that holds it with --data-dir"
            ) from error
        why = (
            f"MNIST is not on this machine and could not be downloaded ({reason}): training on mnist-sample instead, "
            "5 000 MNIST digits bundled with finetui (4 000 to train, 1 000 to test)"
        )
        spec, folder, notices = SPECS["mnist-sample"], SAMPLE_FOLDER, (*notices, why)
    return _read(spec, folder, name, notices, device, request, seed, decoding, progress)


def _spec(name: str) -> DatasetSpec:
    spec = SPECS.get(name)
    if spec is None:
        alike = difflib.get_close_matches(name[:60].lower(), SPECS, n=1)
        hint = f"; did you mean {alike[0]}?" if alike else ""
        raise BadInput(f"there is no data set {name!r} (known: {', '.join(SPECS)}){hint}")
    return spec


def _download(spec: DatasetSpec, progress: Progress, cancelled: Callable[[], bool]) -> Path:
    progress(f"Looking for {spec.title} on the network", 0, 0)
    from torchvision import datasets  # takes seconds to import, and only its list of sources is needed

    source = getattr(datasets, spec.folder)
    folder = cache_folder() / spec.folder / "raw"
    for file, md5 in source.resources:
        if not (folder / file).exists():
            fetch(source.mirrors, file, md5, folder, progress=progress, cancelled=cancelled)
    return folder


def _read(
    spec: DatasetSpec,
    folder: Path,
    requested: str,
    notices: tuple[str, ...],
    device: torch.device,
    request: DataConfig,
    seed: int,
    decoding: Decoding | None,
    progress: Progress,
) -> ImageData:
    progress(f"Reading {spec.title}", 0, 0)
    train_images, train_labels = idx.read_pair(folder, "train", len(spec.classes))
    test_images, test_labels = idx.read_pair(folder, "t10k", len(spec.classes))
    if train_images.shape[1:] != test_images.shape[1:]:
        sizes = f"{train_images.shape[1:]} and {test_images.shape[1:]}"
        raise BadInput(
            f"the training and test images in {shown(folder)} have different sizes, {sizes}; fetch them again"
        )
    location = "bundled with finetui" if folder == SAMPLE_FOLDER else shown(folder)
    # The size that a network asks for is made on the device: stored like that, 28 pixels as 224 would take gigabytes.
    asked = msgspec.structs.replace(_AS_THEY_ARE, channels=decoding.channels if decoding is not None else 0)
    decoding = settled(asked, [train_images.shape[1:]], grey=True)
    found = Found(
        name=spec.name,
        requested=requested,
        classes=spec.classes,
        train=_Pixels(_decoded(train_images, decoding), train_labels),
        test=_Pixels(_decoded(test_images, decoding), test_labels),
        shape=decoding.shape,
        location=location,
        notices=notices,
        description=DataDescription(
            request=msgspec.structs.replace(request, name=spec.name),
            kind="idx",
            classes=spec.classes,
            parts={},
            seed=seed,
            decoding=decoding,
            moments="published" if spec.moments else "computed",
        ),
    )
    return _held(found.divided(request, seed), spec, request, device)


def _held(found: Found, spec: DatasetSpec, request: DataConfig, device: torch.device) -> ImageData:
    """Return the data set `found`, its parts resident on `device`, or streamed to it as `request` says."""
    parts = {part: _pixels_of(source) for part, source in found.parts.items()}
    mean, std = spec.moments or mean_and_std(parts["train"].images[:, :1], found.location)
    size = sum(pixels.images.nbytes for pixels in parts.values())
    streamed = request.loader == "stream"
    workers = request.workers if streamed else 0
    splits = {part: _split(pixels, mean, std, device, workers) for part, pixels in parts.items()}
    loader = streamed_by(request.workers, size) if streamed else resident_in(size, free_memory(device))
    # Mean and deviation are those of all images: nothing was sampled.
    return dataclasses.replace(image_data(found, splits, mean, std, loader), sampled=0)


def _decoded(images: idx.Bytes, decoding: Decoding) -> idx.Bytes:
    """Return `images`, `[N, h, w]`, as `decoding` has them: `[N, C, H, W]`."""
    if decoding.shape == (1, *images.shape[1:]):
        return images.reshape(len(images), *decoding.shape)
    return np.stack([decoded_again(image[None], decoding) for image in images])


class _Pixels:
    """Images in memory, `[N, C, H, W]`, as a `Source`."""

    threads = 1
    draws = False

    def __init__(self, images: idx.Bytes, labels: npt.NDArray[Any]) -> None:
        self.images = images
        self.labels = labels.astype(np.int64)
        self.shape = (images.shape[1], images.shape[2], images.shape[3])

    def load(self, index: int, _seed: int | None = None) -> idx.Bytes:
        """Return a copy of the image."""
        image: idx.Bytes = self.images[index].copy()
        return image

    def describe(self, index: int) -> str:
        """Return the image's place."""
        return f"image {index}"

    def file(self, _index: int) -> str:
        """Return nothing: all images are in one file."""
        return ""


def _pixels_of(source: Source) -> _Pixels:
    """Return the images of a part, which may be some of another's."""
    if isinstance(source, Subset):
        whole = source.whole
        assert isinstance(whole, _Pixels)
        return _Pixels(whole.images[source.indices], source.labels)
    assert isinstance(source, _Pixels)
    return source


def _split(
    pixels: _Pixels, mean: tuple[float, ...], std: tuple[float, ...], device: torch.device, workers: int
) -> Split:
    """Return the images, resident on `device`, or streamed to it by `workers`, where there are any."""
    if workers:
        return StreamedSplit(pixels, Transform(mean=mean, std=std), device, workers)
    images, labels = torch.from_numpy(pixels.images), torch.from_numpy(pixels.labels)
    return ResidentSplit(images.to(device), labels.to(device), mean, std)
