"""The labels and class names of a person's own dataset."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from finetui.engine.data.download import Progress
from finetui.engine.data.parallel import for_each
from finetui.engine.errors import BadInput, reason_of
from finetui.engine.text import clean

_CHECKED = 16  # of a list of labels, against the items
_MOST_CLASSES = 100_000

Labelled = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]  # indices of items, and their labels


def read_labels(
    dataset: Any,
    name: str,
    part: str,
    problems: list[str],
    progress: Progress,
    cancelled: Callable[[], bool],
) -> Labelled:
    """Return which items of `dataset` have a label, and these; an item that raises is added to `problems` instead.

    They come from the lists that torchvision's sets keep, where these say what the items say, else from every item.
    Raises `BadInput` for labels that are no whole numbers from 0, `Cancelled`.
    """
    known = _listed(dataset)
    if known is None:
        known = {}
        found: dict[int, Any] = known
        bad: list[str] = []

        def read(index: int) -> None:
            try:
                item = dataset[index]
            except Exception as error:  # noqa: BLE001  # a person's dataset raises what it likes; skipped and told
                bad.append(f"{part} item {index}: {type(error).__name__}: {reason_of(error)}")
                return
            if not isinstance(item, (tuple, list)) or len(item) != 2:
                raise BadInput(f"{name}: {part} item {index} is not an (image, label) pair, but {_kind(item)}")
            found[index] = item[1]

        tell = _teller(progress, part, len(dataset))
        for_each(read, len(dataset), tell=tell, cancelled=cancelled, threads=1)
        if not found:
            raise BadInput(f"{name}: no {part} item can be read ({bad[0]})")
        problems += bad
    values = [_whole(label, name, part, index) for index, label in known.items()]
    return np.fromiter(known, dtype=np.int64, count=len(known)), np.array(values, dtype=np.int64)


def _teller(progress: Progress, part: str, total: int) -> Callable[[int], None]:
    return lambda done: progress(f"Reading the labels of the {part} set", done, total)


def _kind(item: Any) -> str:
    return clean(type(item).__name__, 60)


def _listed(dataset: Any) -> dict[int, Any] | None:
    """Return the labels from a list that `dataset` keeps, by index; None where there is none to be relied upon."""
    count = len(dataset)
    checked = np.unique(np.linspace(0, count - 1, min(_CHECKED, count)).astype(int)).tolist()
    for key in ("targets", "labels", "_labels", "_samples"):
        listed = getattr(dataset, key, None)
        if not isinstance(listed, (list, tuple, np.ndarray, Tensor)) or len(listed) != count:
            continue
        values = listed.tolist() if isinstance(listed, (np.ndarray, Tensor)) else list(listed)
        if key == "_samples":
            values = [value[1] if isinstance(value, tuple) and len(value) == 2 else None for value in values]
        if all(_agrees(dataset, index, values[index]) for index in checked):
            return dict(enumerate(values))
    return None


def _agrees(dataset: Any, index: int, label: Any) -> bool:
    """Return whether the item says the same, or nothing because it cannot be read."""
    try:
        item = dataset[index]
    except Exception:  # noqa: BLE001  # it is told when the images are read
        return True
    if not isinstance(item, (tuple, list)) or len(item) != 2:
        return False
    return _number(item[1]) is not None and _number(item[1]) == _number(label)


def _number(label: Any) -> int | None:
    # Of one element: as medmnist and many .mat files have them, in an array of their own.
    if isinstance(label, (Tensor, np.ndarray)):
        values = np.asarray(label)
        return int(values.item()) if values.size == 1 and values.dtype.kind in "iu" else None
    return int(label) if isinstance(label, (int, np.integer)) else None


def _whole(label: Any, name: str, part: str, index: int) -> int:
    number = _number(label)
    if number is None or number < 0:
        shown = clean(str(label), 60) if isinstance(label, (float, int, str)) or number is not None else _kind(label)
        raise BadInput(f"{name}: the label of {part} item {index} is {shown}, not a whole number from 0")
    if number >= _MOST_CLASSES:
        raise BadInput(f"{name}: the label of {part} item {index} is {number}; number the classes from 0 on")
    return number


def class_names(train: Any, count: int, name: str) -> tuple[str, ...]:
    """Return the names that `train` has for its classes, else their numbers; `count` is the highest label plus 1."""
    names = getattr(train, "classes", None)
    if not isinstance(names, Sequence) or isinstance(names, str):
        return tuple(str(number) for number in range(max(count, 2)))
    if len(names) < count:
        raise BadInput(f"{name}: there are {len(names)} class names, and labels up to {count - 1}; name every class")
    # Of Imagenette each class is a tuple of names.
    return tuple(clean(str(label[0] if isinstance(label, tuple) and label else label), 100) for label in names)
