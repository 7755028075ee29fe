"""A person's own `Dataset`s: images and labels as Python objects."""

import dataclasses
from collections.abc import Callable, Mapping, Sized
from contextlib import suppress
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from finetui.engine.data.choose_decoding import BY_IMAGES, decoding_notices, sized
from finetui.engine.data.download import Progress
from finetui.engine.data.draws import draws_of, preserved_generators, seeded
from finetui.engine.data.found import Found
from finetui.engine.data.image_data import ImageData, hold
from finetui.engine.data.image_files import (
    WIDE_MODES,
    common_range,
    decoded_again,
    is_grey,
    pixel_range,
    settled,
    to_array,
)
from finetui.engine.data.recorded_data import stable
from finetui.engine.data.split import Unreadable
from finetui.engine.data.user_code import load_factory, own_arguments
from finetui.engine.data.user_labels import class_names, read_labels
from finetui.engine.errors import BadInput, reason_of
from finetui.engine.protocol.config import DataConfig
from finetui.engine.protocol.description import DataDescription, DataKind, SplitRule
from finetui.engine.protocol.paths import short
from finetui.engine.protocol.values import Decoding, Part
from finetui.engine.text import clean

_OWN = "own:data"  # stands for datasets that have no name to find them by
_CHECKED_IMAGES = 100  # whose sizes decide which size all get


class DatasetSource:
    """A map-style dataset as a `Source`; `indices` are those of its items that have a label."""

    threads = 1  # nobody writes a dataset for several: a DataLoader does not ask for it either

    def __init__(
        self,
        dataset: Any,
        indices: npt.NDArray[np.int64],
        labels: npt.NDArray[np.int64],
        shape: tuple[int, int, int],
        decoding: Decoding | None,
        is_float: bool,
        part: str,
    ) -> None:
        """Take them, and find out whether reading an item draws random numbers: `drawn`."""
        self._dataset = dataset
        self._indices = indices
        self._decoding = decoding
        self._is_float = is_float
        self._part = part
        self.shape = shape
        self.labels = labels
        self.drawn = draws_of(self._tried, len(labels))

    @property
    def draws(self) -> bool:
        """Whether an item is another draw each time that it is read."""
        return self.drawn != "none"

    @property
    def notice(self) -> str:
        """What a person should know about what is drawn; empty where nothing is."""
        if not self.draws:
            return ""
        what = f"the {self._part} set draws random numbers when it is read: "
        trains = self._part == "train"
        if self.drawn == "own":
            by = "its generator cannot be seeded from outside (use random, numpy.random or torch's global generator)"
            return what + ("two runs differ, since " if trains else "scores vary from run to run, since ") + by
        if trains:
            return (
                what
                + "every epoch reads it again, with random numbers from its seed (--loader stream: in other processes)"
            )
        return what + "scores depend on the draw, which is the same at every evaluation; leave augmentation out of it"

    def _tried(self, index: int) -> npt.NDArray[Any] | None:
        try:
            return self._read(index)
        except Unreadable:
            return None

    def load(self, index: int, seed: int | None = None) -> npt.NDArray[Any]:
        """Return the item's image."""
        if not self.draws:
            return self._read(index)
        with seeded(index if seed is None else seed):
            return self._read(index)

    def _read(self, index: int) -> npt.NDArray[Any]:
        try:
            image, _ = self._dataset[int(self._indices[index])]
            values = as_array(image, self._decoding)
        except Unreadable:
            raise
        except Exception as error:
            # A person's dataset raises what it likes; one bad item is skipped like one bad file.
            raise Unreadable(f"{type(error).__name__}: {reason_of(error)}") from error
        if values.shape != self.shape:
            raise Unreadable(f"its shape is {values.shape}, and the others' is {self.shape}")
        if (values.dtype != np.uint8) != self._is_float:
            raise Unreadable(f"it is {values.dtype}, and the others are not")
        return values

    def describe(self, index: int) -> str:
        """Return the item's place."""
        return f"{self._part} item {self._indices[index]}"

    def file(self, _index: int) -> str:
        """Return nothing: only the dataset knows."""
        return ""


def as_array(image: Any, decoding: Decoding | None) -> npt.NDArray[Any]:
    """Return an item's image as uint8 or float32 `[C, H, W]`; bytes are brought to what `decoding` says, if it does.

    Raises `Unreadable` for what is no image.
    """
    if isinstance(image, Image.Image):
        own = Decoding(channels=1 if is_grey(image) else 3, height=image.height, width=image.width)
        return to_array(image, decoding or own)
    if isinstance(image, Tensor):
        # numpy has no bfloat16.
        image = (image.float() if image.is_floating_point() else image).numpy(force=True)
    values = np.asarray(image)
    if values.ndim == 2:
        values = values[None]
    elif values.ndim == 3 and values.shape[0] not in (1, 3) and values.shape[2] in (1, 3):
        values = values.transpose(2, 0, 1)
    if values.ndim != 3 or 0 in values.shape or (values.dtype != np.uint8 and values.dtype.kind != "f"):
        raise Unreadable(f"neither a picture nor a uint8 or float array [C, H, W], but {clean(str(values.dtype))} "
                         f"{values.shape}")  # fmt: skip
    if decoding is not None and values.dtype == np.uint8 and values.shape[0] in (1, 3):
        return decoded_again(values, decoding)
    return np.ascontiguousarray(values if values.dtype == np.uint8 else values.astype(np.float32))


def from_factory(
    name: str,
    request: DataConfig,
    device: torch.device,
    *,
    seed: int,
    decoding: Decoding,
    progress: Progress,
    cancelled: Callable[[], bool],
) -> ImageData:
    """Return the data that the factory `name` makes. Raises `BadInput`, `Cancelled`."""
    progress(f"Running {clean(name)}", 0, 0)
    factory = load_factory(name, "data.name (--data)")
    try:
        with own_arguments(name.rpartition(":")[0]):
            made = factory()
    except (Exception, SystemExit) as error:
        raise BadInput(f"data.name (--data): {name} failed ({type(error).__name__}: {reason_of(error)})") from error
    if not isinstance(made, (tuple, list)) or len(made) not in (2, 3):
        raise BadInput(f"data.name (--data): {name} must return datasets: (train, test), or (train, val, test)")
    return from_datasets(
        made[0],
        made[-1],
        device,
        val=made[1] if len(made) == 3 else None,
        request=request,
        seed=seed,
        name=name,
        decoding=decoding,
        kind="factory",
        progress=progress,
        cancelled=cancelled,
    )


def from_datasets(
    train: Dataset[Any],
    test: Dataset[Any] | None,
    device: torch.device,
    *,
    val: Dataset[Any] | None = None,
    request: DataConfig = DataConfig(),  # noqa: B008  # frozen
    seed: int = 0,
    name: str = "own data",
    location: str = "",
    image_size: int | None = None,
    decoding: Decoding | None = None,
    kind: DataKind = "datasets",
    split: SplitRule = "given",
    progress: Progress = lambda _phase, _done, _total: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> ImageData:
    """Return the data of map-style datasets whose items are `(image, label)`: one to train on, `val`, `test` or both.

    An image is a PIL image, an uint8 array or tensor `[H, W]`, `[C, H, W]` or `[H, W, C]`, or a float tensor
    `[C, H, W]`, which the network gets as it is. Pictures and bytes become what `decoding` says (None: `image_size`, or
    `request.image_size`, pixels a side, or by their own sizes). Class names come from `train.classes` where it has
    them. Without `val`, the share that `request.val` says is drawn from `train` by `seed`. `kind` and `split` are for
    the description of the data. Raises `BadInput` for datasets that are not like this, `Cancelled`.
    """
    wanted = sized(image_size or (0 if decoding is not None else request.image_size), decoding or BY_IMAGES)
    with preserved_generators():
        given: dict[Part, Any] = {"train": train, "val": val, "test": test if request.test == "auto" else None}
        datasets = {part: dataset for part, dataset in given.items() if dataset is not None or part == "train"}
        found = _found(datasets, request, name, location, wanted, progress, cancelled)
        assert found.description is not None
        own = request if kind != "datasets" else msgspec.structs.replace(request, name=_OWN)
        description = msgspec.structs.replace(found.description, request=own, kind=kind, split=split, seed=seed)
        found = dataclasses.replace(found, description=description)
        return hold(found, request, device, progress, cancelled, seed=seed)


def _found(
    datasets: Mapping[Part, Any],
    request: DataConfig,
    name: str,
    location: str,
    wanted: Decoding,
    progress: Progress,
    cancelled: Callable[[], bool],
) -> Found:
    shown = clean(short(name))
    train = datasets["train"]
    labelled = {}
    problems: list[str] = []
    for part, dataset in datasets.items():
        if not isinstance(dataset, Sized) or not hasattr(dataset, "__getitem__"):
            raise BadInput(f"{shown}: the {part} set has no length or no items; give it __len__ and __getitem__")
        if not len(dataset):
            raise BadInput(f"{shown}: the {part} set is empty")
        labelled[part] = read_labels(dataset, shown, part, problems, progress, cancelled)
    classes = class_names(train, max(int(labels.max()) for _, labels in labelled.values()) + 1, shown)
    shape, decoding, is_float = _shape(train, labelled["train"][0], shown, wanted, request.augment)
    sources = {
        part: DatasetSource(dataset, *labelled[part], shape, decoding, is_float, part)
        for part, dataset in datasets.items()
    }
    return Found(
        name=shown,
        requested=name,
        classes=classes,
        train=sources["train"],
        val=sources.get("val"),
        test=sources.get("test"),
        shape=shape,
        location=location or "your own code",
        is_float=is_float,
        notices=(
            *(notice for source in sources.values() if (notice := source.notice)),
            *(decoding_notices((), decoding) if decoding is not None else ()),
        ),
        problems=tuple(problems),
        description=DataDescription(
            request=request,
            kind="datasets",
            classes=tuple(stable(label) for label in classes),
            parts={},
            decoding=decoding,
            is_float=is_float,
            moments="none" if is_float else "computed",
        ),
    )


def _shape(
    train: Any, indices: npt.NDArray[np.int64], name: str, wanted: Decoding, augment: str
) -> tuple[tuple[int, int, int], Decoding | None, bool]:
    """Return the shape of all images, by a sample spread evenly, how pictures become that, and whether it is floats."""
    sample: list[npt.NDArray[Any]] = []
    first_problem: Exception | None = None
    wide = False
    for index in np.unique(np.linspace(0, len(indices) - 1, min(_CHECKED_IMAGES, len(indices))).astype(int)):
        try:
            image, _ = train[int(indices[index])]
            sample.append(as_array(image, None))
            wide = wide or (isinstance(image, Image.Image) and image.mode in WIDE_MODES)
        except Exception as error:  # noqa: BLE001  # a person's dataset raises what it likes; told below, or when read
            first_problem = first_problem or error
    if not sample:
        assert first_problem is not None, "each item that was tried raised"
        raise BadInput(
            f"{name}: the training items cannot be used ({reason_of(first_problem)}); items are (image, label)"
        ) from first_problem
    channels, height, width = sample[0].shape
    if sample[0].dtype != np.uint8:
        if augment == "standard" and any(values.min() < 0 or values.max() > 1 for values in sample):
            raise BadInput(
                f"data.augment (--augment): standard needs pixels from 0 to 1, and {name} gives others; use light"
            )
        return (channels, height, width), None, True
    pictures = [values for values in sample if values.dtype == np.uint8 and len(values) in (1, 3)]
    if channels not in (1, 3):
        return (channels, height, width), None, False
    sizes = [(values.shape[1], values.shape[2]) for values in pictures]
    decoding = settled(wanted, sizes, grey=all(len(values) == 1 for values in pictures))
    if not wanted.channels:  # a dataset has decoded its pictures in full
        decoding = msgspec.structs.replace(decoding, draft=0)
    if wide and not wanted.channels:
        decoding = msgspec.structs.replace(decoding, value_range=_value_range(train, indices))
    return decoding.shape, decoding, False


def _value_range(train: Any, indices: npt.NDArray[np.int64]) -> tuple[float, float]:
    """Return what pixels of more than 8 bits are scaled from: the range of those in all the training pictures."""
    ranges = []
    for index in indices:
        with suppress(Exception):  # a person's dataset raises what it likes; told when the item is read
            image, _ = train[int(index)]
            if isinstance(image, Image.Image) and image.mode in WIDE_MODES:
                ranges.append(pixel_range(np.asarray(image)))
    return common_range(ranges)
