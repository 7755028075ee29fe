"""Every prediction of one evaluation: in memory, and in a file of which only the page that is looked at is read.

The file is in the safetensors format: plain arrays, no code, mapped into memory. This module needs no torch.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from finetui.engine.errors import BadInput, reason_of
from finetui.engine.files import replacing
from finetui.engine.predictions.criteria import LABEL_FILTERS, LabelFilter
from finetui.engine.protocol.description import DataDescription
from finetui.engine.protocol.values import Part
from finetui.engine.text import clean

TOP = 10  # classes kept for each image, likeliest first
_FORMAT = "finetui predictions 1"
_COLUMNS = {
    "index": np.int32,
    "label": np.int32,
    "predicted": np.int32,
    "confidence": np.float32,
    "loss": np.float32,
    "margin": np.float32,
}
_BY_CLASS = ("roc_auc", "average_precision")  # not in every file
_FLAG = "label_errors."  # before the name of a filter: an array that not every file has
_PAGE = 65536  # rows looked at at a time, where all are

Ints = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """What was evaluated: `part` of `data`, by the weights of `run` after `step` steps.

    The logits were divided by `temperature`. `notices` say what a person should know of the images that were scored,
    `description` says what they are; None in files of earlier versions.
    """

    classes: tuple[str, ...]
    data: str
    run: str = ""
    step: int = 0
    temperature: float = 1.0
    notices: tuple[str, ...] = ()
    description: DataDescription | None = None
    part: Part = "test"


class Files:
    """The paths of the images' files: a common `root`, and the rest of each. Empty for images without files."""

    def __init__(self, root: str, text: npt.NDArray[np.uint8] | Any, ends: npt.NDArray[np.int64]) -> None:
        """Take the bytes of all names, one after the other, and where each ends: int64 `[n]`."""
        self.root = root
        self.text = text
        self.ends = ends

    @classmethod
    def of(cls, paths: Sequence[str]) -> "Files":
        """Return the files with these absolute `paths`."""
        folders = [os.path.dirname(path) for path in (min(paths), max(paths))] if paths else [""]  # noqa: PTH120
        root = os.path.commonpath(folders)
        cut = len(os.fsencode(root)) + 1 if root else 0
        names = [os.fsencode(path)[cut:] for path in paths]
        text = np.frombuffer(b"".join(names), dtype=np.uint8)
        return cls(root, text, np.cumsum([len(name) for name in names], dtype=np.int64))

    def __len__(self) -> int:
        return len(self.ends)

    def at(self, rows: npt.NDArray[Any]) -> "Files":
        """Return the files of `rows` alone."""
        names = [os.fsencode(self.name(int(row))) for row in rows]
        text = np.frombuffer(b"".join(names), dtype=np.uint8)
        return Files(self.root, text, np.cumsum([len(name) for name in names], dtype=np.int64))

    def _bounds(self, row: int) -> tuple[int, int]:
        return (int(self.ends[row - 1]) if row else 0), int(self.ends[row])

    def name(self, row: int) -> str:
        """Return the path of image `row` below `root`, as the file system has it; empty where it has no file."""
        if not len(self):
            return ""
        start, end = self._bounds(row)
        return os.fsdecode(bytes(self.text[start:end]))

    def path(self, row: int) -> str:
        """Return the whole path of image `row`; empty where it has no file."""
        name = self.name(row)
        return os.path.join(self.root, name) if name else ""  # noqa: PTH118 - names need not be text

    def containing(self, part: str) -> npt.NDArray[Any]:
        """Tell of each file whether its path below `root` contains `part`, upper or lower case: bool `[n]`."""
        if not part:
            return np.ones(len(self), dtype=np.bool_)
        found = np.zeros(len(self), dtype=np.bool_)
        wanted = os.fsencode(part.lower())
        for first in range(0, len(self), _PAGE):
            last = min(first + _PAGE, len(self)) - 1
            start, end = self._bounds(first)[0], self._bounds(last)[1]
            page = os.fsencode(os.fsdecode(bytes(self.text[start:end])).lower())
            if end - start != len(page):  # lower case of some letters takes another number of bytes
                found[first : last + 1] = [part.lower() in self.name(row).lower() for row in range(first, last + 1)]
                continue
            ends = self.ends[first : last + 1] - start
            at = page.find(wanted)
            while at >= 0:
                row = int(np.searchsorted(ends, at, side="right"))
                # A match may not reach into the next name.
                inside = at + len(wanted) <= ends[row]
                found[first + row] |= inside
                at = page.find(wanted, int(ends[row]) if inside else at + 1)
        return found


class Predictions:
    """The predictions for `n` images; a row is one of them.

    `index` is the image's place in its part, `label` and `predicted` are classes: int32 `[n]`. `confidence` is the
    probability of the predicted class, `loss` the cross entropy in nats, `margin` the probability of the true class
    less that of the likeliest other (negative for mistakes): float32 `[n]`. `roc_auc` and `average_precision` are those
    of each class against the rest: float64 `[classes]`, NaN where not defined; empty where they were not computed.
    """

    index: Ints
    label: Ints
    predicted: Ints
    confidence: Floats
    loss: Floats
    margin: Floats

    def __init__(
        self,
        origin: Origin,
        columns: dict[str, Any],
        top: Any,
        top_probability: Any,
        files: Files,
        *,
        label_errors: Mapping[LabelFilter, Any] | None = None,
        roc_auc: Any = None,
        average_precision: Any = None,
    ) -> None:
        """Take arrays by the names above, and `top` and `top_probability` `[n, k]`, likeliest class first.

        `label_errors` tells by the name of a filter of each row whether its label is possibly wrong: bool `[n]`. It is
        kept where there are more than `TOP` classes, else it follows from `top_probability`.
        """
        self.label_errors = {name: np.asarray(mask, dtype=np.bool_) for name, mask in (label_errors or {}).items()}
        self.origin = origin
        self.files = files
        for name, kind in _COLUMNS.items():
            setattr(self, name, np.asarray(columns[name], dtype=kind))
        self._top = top
        self._top_probability = top_probability
        self.roc_auc, self.average_precision = (
            np.ascontiguousarray(() if found is None else found, dtype=np.float64)
            for found in (roc_auc, average_precision)
        )

    def __len__(self) -> int:
        return len(self.index)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes."""
        return self.origin.classes

    @property
    def wrong(self) -> npt.NDArray[np.bool_]:
        """Tell of each row whether it is a mistake: bool `[n]`."""
        return np.not_equal(self.label, self.predicted)

    def top(self, row: int) -> list[tuple[int, float]]:
        """Return the likeliest classes of `row` with their probabilities, `TOP` at most; reads this row only."""
        classes = self._top[row : row + 1][0]
        return list(zip(classes.tolist(), self._top_probability[row : row + 1][0].tolist(), strict=True))

    def top_pages(self) -> Iterator[tuple[slice, Ints, Floats]]:
        """Yield the likeliest classes of all rows and their probabilities, `[m, k]` each, by slices of rows."""
        for start in range(0, len(self), _PAGE):
            rows = slice(start, min(start + _PAGE, len(self)))
            yield rows, self._top[rows], self._top_probability[rows]

    def at(self, rows: npt.NDArray[Any]) -> "Predictions":
        """Return the predictions in `rows` alone, in their order."""
        columns = {name: getattr(self, name)[rows] for name in _COLUMNS}
        flags = {name: mask[rows] for name, mask in self.label_errors.items()}
        files = self.files.at(rows) if len(self.files) else self.files
        return Predictions(
            self.origin, columns, self._top[:][rows], self._top_probability[:][rows], files, label_errors=flags
        )

    def confusion(self, rows: npt.NDArray[Any] | None = None) -> npt.NDArray[np.int64]:
        """Return how many of `rows` (default: all) are of one class and taken for another: `[true, predicted]`."""
        count = len(self.classes)
        label, predicted = (self.label, self.predicted) if rows is None else (self.label[rows], self.predicted[rows])
        cells = label.astype(np.int64) * count + predicted
        return np.bincount(cells, minlength=count * count).reshape(count, count)

    def save(self, path: Path) -> None:
        """Write everything to `path`, over what is there once it is complete. Raises OSError."""
        from safetensors.numpy import save  # takes a while to import

        arrays = {name: getattr(self, name) for name in _COLUMNS}
        arrays |= {
            "top": np.ascontiguousarray(self._top[:]),
            "top_probability": np.ascontiguousarray(self._top_probability[:]),
        }
        arrays |= {name: getattr(self, name) for name in _BY_CLASS if len(getattr(self, name))}
        arrays |= {_FLAG + name: mask for name, mask in self.label_errors.items()}
        arrays |= {"file_text": self.files.text[:], "file_ends": self.files.ends}
        about = {
            "format": _FORMAT,
            "origin": msgspec.json.encode(self.origin).decode(),
            "root": self.files.root.encode("utf-8", "surrogateescape").hex(),
        }
        with replacing(path, synced=False) as file:
            for part in _in_order(save(arrays, about)):
                file.write(part)


def _in_order(saved: bytes) -> tuple[bytes, bytes, memoryview]:
    """Return the parts of a safetensors file with its metadata in order of their names; it has them in any.

    So the same predictions are the same bytes. The format is a header's length, eight bytes, the header, the numbers.
    """
    end = 8 + int.from_bytes(saved[:8], "little")
    header = msgspec.json.decode(saved[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = msgspec.json.encode(header)
    text += b" " * (-len(text) % 8)  # the numbers are aligned
    return len(text).to_bytes(8, "little"), text, memoryview(saved)[end:]


def load_predictions(path: Path) -> Predictions:
    """Return the predictions in `path`. Raises `BadInput` that names the file when it cannot be used."""
    from safetensors import SafetensorError, safe_open

    where = str(path)
    try:
        file = safe_open(path, framework="numpy")
        about = file.metadata() or {}
        if about.get("format") != _FORMAT:
            raise BadInput(f"{where} has no predictions that this version of finetui can read; evaluate again")
        origin = msgspec.json.decode(about["origin"], type=Origin)
        # A run is called as its folder is today: that may have been renamed.
        run = path.absolute().parent.name if (path.parent / "journal.jsonl").is_file() else origin.run
        origin = msgspec.structs.replace(origin, classes=tuple(clean(name) for name in origin.classes), run=run)
        root = bytes.fromhex(about["root"]).decode("utf-8", "surrogateescape")
        files = Files(root, _lazily(file, "file_text"), file.get_tensor("file_ends"))
        columns = {name: file.get_tensor(name) for name in _COLUMNS}
        names = set(file.keys())
        by_class = {name: file.get_tensor(name) for name in _BY_CLASS if name in names}
        flags = {name: file.get_tensor(_FLAG + name) for name in LABEL_FILTERS if _FLAG + name in names}
        top, probability = _lazily(file, "top"), _lazily(file, "top_probability")
        predictions = Predictions(origin, columns, top, probability, files, label_errors=flags, **by_class)
        _check(predictions, file)
        return predictions
    except FileNotFoundError as error:
        raise BadInput(f"there is no file {where}; evaluate again") from error
    except OSError as error:
        raise BadInput(f"{where} cannot be read: {reason_of(error)}") from error
    except (SafetensorError, KeyError, ValueError, msgspec.DecodeError) as error:
        raise BadInput(f"{where} is damaged ({reason_of(error, 80)}); evaluate again") from error


def _lazily(file: Any, name: str) -> Any:
    """Return the array called `name`, to be read where it is looked at; safetensors slices none that is empty."""
    found = file.get_slice(name)
    return found if all(found.get_shape()) else file.get_tensor(name)


def _check(predictions: Predictions, file: Any) -> None:
    """Raise ValueError unless all arrays fit each other: what is looked up later must be there."""
    n, count = len(predictions), len(predictions.classes)
    top, probability, text = (file.get_slice(name).get_shape() for name in ("top", "top_probability", "file_text"))
    sizes = {getattr(predictions, name).shape for name in _COLUMNS}
    sizes |= {mask.shape for mask in predictions.label_errors.values()}
    fits = sizes == {(n,)} and top == probability and len(top) == 2 and top[0] == n and 0 < top[1] <= max(count, 1)
    if not fits:
        raise ValueError("its arrays do not match each other")
    for by_class in (predictions.roc_auc, predictions.average_precision):
        if by_class.shape not in ((0,), (count,)):
            raise ValueError("its arrays do not match its classes")
    for classes in (predictions.label, predictions.predicted):
        if n and not (classes.min() >= 0 and classes.max() < count):
            raise ValueError("it has classes without names")
    ends = predictions.files.ends
    if len(ends) not in (0, n) or (len(ends) and (ends[-1] != text[0] or (np.diff(ends, prepend=0) < 0).any())):
        raise ValueError("its file names do not match its images")
