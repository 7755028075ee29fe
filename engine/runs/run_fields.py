"""What runs are filtered, sorted and listed by: a name, its kind, and its value in a summary."""

import math
import re
import shlex
from collections.abc import Callable, Iterable
from typing import Literal

import msgspec

from finetui.engine.errors import BadInput
from finetui.engine.runs.summaries import RunSummary
from finetui.engine.text import meant

# A share is a number from 0 to 1 that is shown in percent, a duration one of seconds; a date is text in ISO 8601.
Kind = Literal["text", "words", "number", "share", "duration", "size", "date"]
NUMERIC: frozenset[Kind] = frozenset({"number", "share", "duration", "size"})
Value = str | tuple[str, ...] | float | None

_UNITS: dict[Kind, dict[str, float]] = {
    "number": {"": 1},
    "share": {"": 1, "%": 0.01},
    "duration": {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400},
    "size": {"": 1, "B": 1, "K": 1e3, "KB": 1e3, "M": 1e6, "MB": 1e6, "G": 1e9, "GB": 1e9, "T": 1e12, "TB": 1e12},
}
_EXAMPLES: dict[Kind, str] = {"number": "0.01", "share": "0.98 or 98%", "duration": "90s, 10m or 2h", "size": "20MB"}


class RunField(msgspec.Struct, frozen=True):
    """One field: None, empty text and no words stand for a run that has none."""

    name: str
    kind: Kind
    of: Callable[[RunSummary], Value]


def _commit(run: RunSummary) -> str:
    """Return the commits of its code, the folder's where it was started first."""
    return " ".join(state.short for state in run.provenance.git) if run.provenance is not None else ""


_ALL = (
    RunField("name", "text", lambda run: run.name),
    RunField("state", "text", lambda run: run.state),
    RunField("live", "text", lambda run: "yes" if run.live else "no"),
    RunField("best", "share", lambda run: run.best_accuracy),
    RunField("last", "share", lambda run: run.accuracy),
    RunField("test", "share", lambda run: run.test_accuracy),
    RunField("epoch", "number", lambda run: run.epoch),
    RunField("epochs", "number", lambda run: run.epochs),
    RunField("step", "number", lambda run: run.step),
    RunField("lr", "number", lambda run: run.lr),
    RunField("batch", "number", lambda run: run.batch_size),
    RunField("optimizer", "text", lambda run: run.optimizer),
    RunField("schedule", "text", lambda run: run.schedule),
    RunField("seed", "number", lambda run: run.seed),
    RunField("recipe", "text", lambda run: run.recipe),
    RunField("model", "text", lambda run: run.model),
    RunField("data", "text", lambda run: run.data),
    RunField("part", "text", lambda run: run.part),
    RunField("started", "date", lambda run: run.started),
    RunField("took", "duration", lambda run: run.took),
    RunField("size", "size", lambda run: run.size),
    RunField("parent", "text", lambda run: run.parent),
    RunField("commit", "text", _commit),
    RunField("command", "text", lambda run: "" if run.provenance is None else shlex.join(run.provenance.command)),
    RunField("tag", "words", lambda run: run.tags),
    RunField("note", "text", lambda run: run.note),
)
FIELDS = {field.name: field for field in _ALL}
_ALSO = {"tags": "tag", "notes": "note", "accuracy": "best", "batch-size": "batch", "batch_size": "batch"}


def field_named(name: str, where: str) -> RunField:
    """Return the field that a person calls `name`. Raises `BadInput` that begins with `where`."""
    known = _ALSO.get(name.lower(), name.lower())
    if known not in FIELDS:
        raise BadInput(f"{where}: there is no field {name!r}; {meant(name, FIELDS, 'there are, among others')}")
    return FIELDS[known]


def number(text: str, kind: Kind) -> float | None:
    """Return what `text` is in the unit of `kind` (`98%`, `10m`, `20MB`), None where it is no such number."""
    parts = re.fullmatch(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)([A-Za-z%]*)", text, re.IGNORECASE)
    units = {unit.lower(): factor for unit, factor in _UNITS[kind].items()}
    if parts is None or parts[2].lower() not in units:
        return None
    value = float(parts[1]) * units[parts[2].lower()]
    return value if math.isfinite(value) else None


def number_example(kind: Kind) -> str:
    """Return how a number of `kind` is written."""
    return _EXAMPLES[kind]


def in_order(found: Iterable[RunSummary], field: RunField, *, reverse: bool = False) -> list[RunSummary]:
    """Return `found` by `field`: numbers highest first, dates newest first, text from A to Z; `reverse` the other way.

    Runs that have none come last either way; equal ones stay in their order.
    """
    runs = list(found)
    have = [run for run in runs if field.of(run) not in (None, "", ())]
    falling = (field.kind in NUMERIC or field.kind == "date") != reverse
    have.sort(key=lambda run: _key(field.of(run)), reverse=falling)
    return have + [run for run in runs if field.of(run) in (None, "", ())]


def _key(value: Value) -> tuple[float, str]:
    if isinstance(value, str | tuple):
        return 0.0, " ".join([value] if isinstance(value, str) else value).lower()
    return value or 0.0, ""
