"""A person's own `Dataset`s: images and labels as Python objects."""

from collections.abc import Callable, Sized
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from engine.config import DataConfig
from engine.data.download import Progress
from engine.data.image_data import Found, ImageData, hold
from engine.data.pictures import to_array
from engine.data.split import Unreadable
from engine.errors import BadInput, Cancelled
from engine.text import clean
from engine.user_code import load_factory

_LARGEST_SIDE = 224


class DatasetSource:
    """A map-style dataset as a `Source`."""

    def __init__(self, dataset: Any, labels: npt.NDArray[np.int64], shape: tuple[int, int, int], part: str) -> None:
        self._dataset = dataset
        self._shape = shape
        self._part = part
        self.labels = labels

    def load(self, index: int) -> npt.NDArray[Any]:
        """Return the item's image."""
        try:
            image, _ = self._dataset[index]
        except Exception as error:
            # A person's dataset raises what it likes; one bad item is skipped like one bad file.
            raise Unreadable(f"{type(error).__name__}: {clean(str(error), 200)}") from error
        values = as_array(image, self._shape)
        if values.shape != self._shape:
            raise Unreadable(f"its shape is {values.shape}, and the first image's is {self._shape}")
        return values

    def describe(self, index: int) -> str:
        """Return the item's place."""
        return f"{self._part} item {index}"


def as_array(image: Any, shape: tuple[int, int, int] | None) -> npt.NDArray[Any]:
    """Return an item's image as uint8 or float32 `[C, H, W]`; a picture is brought to `shape`, where that is given.

    Raises `Unreadable` for what is no image.
    """
    if isinstance(image, Image.Image):
        height, width = (image.height, image.width) if shape is None else shape[1:]
        grey = image.mode in ("1", "L", "LA", "I", "F", "I;16") if shape is None else shape[0] == 1
        return to_array(image, height, width, 1 if grey else 3)
    values = image.numpy(force=True) if isinstance(image, Tensor) else np.asarray(image)
    if values.ndim == 2:
        values = values[None]
    elif values.ndim == 3 and values.shape[0] not in (1, 3) and values.shape[2] in (1, 3):
        values = values.transpose(2, 0, 1)
    if values.ndim != 3 or values.dtype.kind not in "fu" or (values.dtype.kind == "u" and values.dtype != np.uint8):
        raise Unreadable(f"neither a picture nor an uint8 or float array [C, H, W], but {clean(str(values.dtype))} "
                         f"{values.shape}")  # fmt: skip
    return np.ascontiguousarray(values if values.dtype == np.uint8 else values.astype(np.float32))


def from_factory(
    name: str, request: DataConfig, device: torch.device, progress: Progress, cancelled: Callable[[], bool]
) -> ImageData:
    """Return the data that the factory `name` makes. Raises `BadInput`."""
    progress(f"Running {clean(name)}", 0, 0)
    factory = load_factory(name, "data.name (--data)")
    try:
        pair = factory()
    except Exception as error:
        raise BadInput(
            f"data.name (--data): {clean(name)} failed ({type(error).__name__}: {clean(str(error), 300)})"
        ) from error
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise BadInput(f"data.name (--data): {clean(name)} must return a pair of datasets, (train, test)")
    train, test = pair
    return from_datasets(train, test, device, request=request, name=name, progress=progress, cancelled=cancelled)


def from_datasets(
    train: Dataset[Any],
    test: Dataset[Any],
    device: torch.device,
    *,
    request: DataConfig = DataConfig(),  # noqa: B008  # frozen
    name: str = "own data",
    location: str = "",
    progress: Progress = lambda _phase, _done, _total: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> ImageData:
    """Return the data of two map-style datasets whose items are `(image, label)`.

    An image is a PIL image, an uint8 array or tensor `[H, W]`, `[C, H, W]` or `[H, W, C]`, or a float tensor
    `[C, H, W]`, which the network gets as it is. Class names come from `train.classes` where it has them. Raises
    `BadInput` for datasets that are not like this.
    """
    shown = clean(name)
    labels = []
    for dataset, part in ((train, "train"), (test, "test")):
        if not isinstance(dataset, Sized) or not hasattr(dataset, "__getitem__"):
            raise BadInput(f"{shown}: the {part} set has no length or no items; give it __len__ and __getitem__")
        if not len(dataset):
            raise BadInput(f"{shown}: the {part} set is empty")
        labels.append(_labels(dataset, shown, part, progress, cancelled))
    classes = _classes(train, labels, shown)
    shape, is_float = _first(train, shown, request.image_size)
    found = Found(
        name=shown,
        requested=name,
        classes=classes,
        train=DatasetSource(train, labels[0], shape, "train"),
        test=DatasetSource(test, labels[1], shape, "test"),
        shape=shape,
        location=location or "your own code",
        is_float=is_float,
    )
    return hold(found, request, device, progress, cancelled)


def _labels(
    dataset: Any, name: str, part: str, progress: Progress, cancelled: Callable[[], bool]
) -> npt.NDArray[np.int64]:
    """Return the labels, from `targets` or `labels` where torchvision's sets keep them, else from every item."""
    known = next((getattr(dataset, key) for key in ("targets", "labels", "_labels") if hasattr(dataset, key)), None)
    if known is None or len(known) != len(dataset):
        known = []
        for index in range(len(dataset)):
            if index % 256 == 0:
                progress(f"Reading the labels of the {part} set", index, len(dataset))
                if cancelled():
                    raise Cancelled("reading the data was cancelled")
            known.append(_label_of(dataset, index, name, part))
    values = np.asarray([int(value) if _is_whole(value) else -1 for value in known], dtype=np.int64)
    if (values < 0).any():
        index = int(np.flatnonzero(values < 0)[0])
        raise BadInput(
            f"{name}: the label of {part} item {index} is {clean(str(known[index]), 60)}, not a whole number from 0"
        )
    return values


def _is_whole(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.ndim == 0 and not value.is_floating_point()
    return isinstance(value, (int, np.integer))


def _label_of(dataset: Any, index: int, name: str, part: str) -> Any:
    try:
        _, label = dataset[index]
    except Exception as error:
        raise BadInput(
            f"{name}: {part} item {index} is no pair (image, label) ({type(error).__name__}: {clean(str(error), 200)})"
        ) from error
    return label


def _classes(train: Any, labels: list[npt.NDArray[np.int64]], name: str) -> tuple[str, ...]:
    most = int(max(part.max() for part in labels)) + 1
    names = getattr(train, "classes", None)
    if names is None:
        return tuple(str(number) for number in range(max(most, 2)))
    if len(names) < most:
        raise BadInput(f"{name}: there are {len(names)} class names, and labels up to {most - 1}; name every class")
    return tuple(clean(str(label), 100) for label in names)


def _first(train: Any, name: str, image_size: int) -> tuple[tuple[int, int, int], bool]:
    """Return the shape of all images, by the first one, and whether they are floats."""
    try:
        image, _ = train[0]
        values = as_array(image, None)
    except Exception as error:
        raise BadInput(
            f"{name}: the first training item cannot be used ({clean(str(error), 200)}); items are (image, label)"
        ) from error
    channels, height, width = values.shape
    if isinstance(image, Image.Image):
        if image_size:
            height = width = image_size
        elif max(height, width) > _LARGEST_SIDE:
            height = width = min(height, width, _LARGEST_SIDE)
    return (channels, height, width), values.dtype != np.uint8
