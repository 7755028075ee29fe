"""Many lines of a table of text at once, as columns of numbers; what is unusual in them is left to be read by itself.

JSON is decoded by msgspec into an object that has the keys which the lines before had: that is several times as fast
as a dictionary for each line, and a line with another key is noticed.
"""

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from operator import attrgetter
from types import NoneType
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from finetui.engine.sources.names import Kind, is_place, meaning
from finetui.engine.sources.rows import Floats, Rows

UNIX = 1e8  # seconds: less is counted from the start of the run
DEEPEST = 4  # levels of an object in another
_EXACT = 2.0**53  # steps from here on are no whole numbers of a float
_MOST_KEYS = 1000
_MOST_LEARNED = 20  # times; lines that always have new keys are not worth it
# Python writes what is no number into JSON, where no decoder but its own takes it: these stand for it meanwhile.
_NO_NUMBERS = {
    b"NaN": np.finfo(float).max,
    b"Infinity": np.finfo(float).max / 3,
    b"-Infinity": -np.finfo(float).max / 3,
}
_NO_NUMBER = re.compile(rb"(:\s*)(NaN|-?Infinity)(?=\s*[,}])")


class Columns(NamedTuple):
    """`n` lines with numbers called `names`, `[c]`: `values` float64 `[n, c]`, of which those that are `told`, bool."""

    names: Sequence[str]
    values: Floats
    told: npt.NDArray[np.bool_]


def number(cell: str) -> tuple[float] | None:
    """Return the number in a cell; None where there is none."""
    try:
        return (float(cell),)
    except ValueError:
        return None


def rows_of(lines: Columns, before: int) -> Rows | None:
    """Return the rows that `lines` make, before which there were so many; None where they have to be made one by one.

    A line without a number beside step, epoch and time makes none.
    """
    kinds = [meaning(name).kind for name in lines.names]
    epoch = _first(lines, kinds, "epoch")
    at = np.nan_to_num(_first(lines, kinds, "time"))
    steps = _first(lines, kinds, "step")
    counted = before + 1.0 + np.arange(len(steps))
    steps = np.where(np.isfinite(steps), steps, np.where(np.isfinite(epoch), epoch, counted))
    if np.abs(steps).max(initial=0.0) >= _EXACT:
        return None
    own = np.array([not is_place(name) for name in lines.names], bool)
    told = lines.told[:, own]
    kept = told.any(axis=1)
    row, name = np.nonzero(told[kept])
    return Rows(
        [one for one, is_own in zip(lines.names, own.tolist(), strict=True) if is_own],
        steps[kept].astype(np.int64),
        at[kept],
        epoch[kept],
        row,
        name,
        lines.values[:, own][kept][row, name],
    )


def _first(lines: Columns, kinds: Sequence[Kind], kind: Kind) -> Floats:
    """Return of each line the first finite number of a kind; NaN where it has none."""
    found = np.full(len(lines.values), np.nan)
    for at in (at for at, one in enumerate(kinds) if one == kind):
        takes = np.isnan(found) & lines.told[:, at] & np.isfinite(lines.values[:, at])
        found[takes] = lines.values[takes, at]
    return found


def of_csv(block: bytes, names: Sequence[str], between: str) -> tuple[Columns, int] | None:
    """Return the lines of CSV in `block`, and how many hold no numbers; None where they have to be read one by one."""
    text = block.decode("utf-8", "replace").replace("\r\n", "\n")
    if '"' in text or "\r" in text or len(set(names)) < len(names):
        return None
    if between != ",":
        text = text.replace(",", ".")
    columns, damaged = _cells(text if text.endswith("\n") else f"{text}\n", between, len(names))
    if not columns or max(max(map(len, column), default=0) for column in columns) > csv.field_size_limit():
        return None
    numbers = [_numbers(column) for column in columns]
    values = np.stack([values for values, _ in numbers], axis=1)
    told = np.stack([told for _, told in numbers], axis=1)
    tells = told.any(axis=1)
    header = [name.replace(",", ".") if between != "," else name for name in names]
    without = np.flatnonzero(~tells).tolist()
    begun_again = sum([column[at].strip() for column in columns] == header for at in without)
    return Columns(names, values[tells], told[tells]), damaged + len(without) - begun_again


def _cells(text: str, between: str, width: int) -> tuple[list[list[str]], int]:
    """Return the cells of the lines of `text` by columns, and how many lines have another number of them, left out."""
    content = np.frombuffer(text.encode(), np.uint8)
    ends = content[(content == ord(between)) | (content == ord("\n"))] == ord("\n")
    if len(ends) % width == 0 and (ends.reshape(-1, width) == (np.arange(width) == width - 1)).all() and width > 1:
        cells = text.replace("\n", between).split(between)
        cells.pop()
        return [cells[at::width] for at in range(width)], 0
    lines = [line.split(between) for line in text.split("\n") if line and not line.isspace()]
    whole = [line for line in lines if len(line) == width]
    return [list(column) for column in zip(*whole, strict=True)], len(lines) - len(whole)


def _numbers(cells: list[str]) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Return the numbers in the cells of a column, and where there are some."""
    told = np.fromiter(map(bool, cells), bool, len(cells))
    values = np.zeros(len(cells))
    try:
        values[told] = np.fromiter(map(float, filter(None, cells)), float)
    except ValueError:
        found = list(map(number, cells))
        told = np.array([one is not None for one in found])
        values = np.array([0.0 if one is None else one[0] for one in found])
    return values, told


class JsonColumns:
    """The lines of a file with one JSON object a line, by the keys that were in it so far."""

    def __init__(self) -> None:
        self._keys: dict[str, Any] = {}  # what is under each: a type, or the keys of the object that it is
        self._names: list[str] = []
        self._decoder: msgspec.json.Decoder[Any] | None = None
        self._columns: Any = None
        self._learned = 0

    def of(self, block: bytes) -> Columns | None:
        """Return the lines in `block`; None where they have to be read one by one."""
        if self._decoder is None:
            return None
        replaced = block
        if b"NaN" in block or b"Infinity" in block:
            replaced = _NO_NUMBER.sub(lambda found: found[1] + repr(float(_NO_NUMBERS[found[2]])).encode(), block)
        try:
            lines = self._decoder.decode_lines(replaced)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        if len(lines) != block.count(b"\n") + (not block.endswith(b"\n")):
            return None
        values = np.array(list(map(self._columns, lines)), float).reshape(len(lines), len(self._names))
        told = ~np.isnan(values)  # no number that was decoded is one
        if replaced is not block:
            for word, stand_in in _NO_NUMBERS.items():
                values[values == stand_in] = float(word)
        return Columns(self._names, values, told)

    def learn(self, lines: Sequence[Mapping[str, object]]) -> None:
        """Note the keys of `lines`, which were read one by one."""
        if self._learned >= _MOST_LEARNED:
            return
        self._learned += 1
        self._decoder = None
        if not all(_note(line, self._keys) for line in lines):
            self._learned = _MOST_LEARNED  # a key is of several kinds
            return
        found = list(_numbers_in(self._keys))
        self._names = [name for name, _ in found]
        if 0 < len(found) <= _MOST_KEYS and len(set(self._names)) == len(found):
            self._decoder = msgspec.json.Decoder(_struct(self._keys))
            self._columns = attrgetter(*(place for _, place in found))


def _note(line: Mapping[str, object], keys: dict[str, Any], depth: int = 0) -> bool:
    """Note of which kind the values of `line` are; whether each is of the one that it was so far."""
    for name, value in line.items():
        known = keys.get(name, NoneType)
        if isinstance(value, Mapping) and depth < DEEPEST:
            keys[name] = below = {} if known is NoneType else known
            if not isinstance(below, dict) or not _note(value, below, depth + 1):
                return False
            continue
        kind = float if isinstance(value, int | float) and not isinstance(value, bool) else type(value)
        if NoneType not in (known, kind) and known != kind:
            return False
        keys[name] = kind if known is NoneType else known
    return len(keys) <= _MOST_KEYS


def _struct(keys: Mapping[str, Any]) -> type[msgspec.Struct]:
    """Return the type of an object with these keys and no others, each of which may be absent."""
    fields: list[Any] = []
    for at, kind in enumerate(keys.values()):
        if isinstance(kind, dict):
            below = _struct(kind)
            fields.append((f"f{at}", below, msgspec.field(default_factory=below)))
        else:
            fields.append((f"f{at}", kind | None, None))
    names = {f"f{at}": name for at, name in enumerate(keys)}
    return msgspec.defstruct("Line", fields, rename=names, forbid_unknown_fields=True)


def _numbers_in(keys: Mapping[str, Any], name: str = "", place: str = "") -> Iterator[tuple[str, str]]:
    """Yield the numbers that objects with these keys have: what each is called, and where it is in a `_struct`."""
    for at, (key, kind) in enumerate(keys.items()):
        if isinstance(kind, dict):
            yield from _numbers_in(kind, f"{name}{key}/", f"{place}f{at}.")
        elif kind is float:
            yield name + key, f"{place}f{at}"
