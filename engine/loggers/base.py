"""What a log is told of a run, and the names that its figures have in every tool."""

import math
from collections.abc import Mapping
from typing import Any

import msgspec

from finetui.engine.protocol.config import RunConfig
from finetui.engine.protocol.events import Evaluated, Rewound, TrainPoint
from finetui.engine.protocol.provenance import Provenance
from finetui.engine.protocol.values import Part
from finetui.engine.text import clean

_MOST_CLASSES = 100  # whose scores get curves of their own; CSV has them all


class About(msgspec.Struct, frozen=True, kw_only=True):
    """The run that is logged: `id` is the same whenever it goes on, `groups` are its layer groups in order.

    `watched` is the part that is evaluated while training.
    """

    name: str
    folder: str
    id: str
    config: RunConfig
    classes: tuple[str, ...]
    groups: tuple[str, ...]
    watched: Part


class RunLog:
    """Writes one run in one tool, from the first event that it is told of to `close`.

    Every method may raise: what its library raises, and OSError for what may mend itself, after which the log is made
    anew and told of the same event again.
    """

    def point(self, point: TrainPoint, values: Mapping[str, float]) -> None:
        """Write what the steps since the last point were like; `values` by name as in `point_values`."""
        raise NotImplementedError

    def evaluated(self, scores: Evaluated, values: Mapping[str, float]) -> None:
        """Write the scores of a part; `values` by name as in `score_values`, of each class as well."""
        raise NotImplementedError

    def note(self, step: int, time: float, text: str) -> None:
        """Write what was changed, or happened, after `step` steps."""
        raise NotImplementedError

    def comes_from(self, provenance: Provenance) -> None:
        """Write where the run's results come from."""
        raise NotImplementedError

    def go_back(self, rewound: Rewound) -> None:
        """From here on the run is at an earlier step again: what was written of later ones does not hold."""
        raise NotImplementedError

    def flush(self) -> None:
        """Let everybody see what was written."""

    def close(self, *, failed: bool = False) -> None:
        """End the log; `failed`: the run has, or was cut."""

    def take_hint(self) -> str:
        """Return, once, a sentence that a person should read; else nothing."""
        return ""


def settings(config: RunConfig) -> dict[str, bool | int | float | str]:
    """Return the settings of a run by name, `training.lr` for one; None and lists as text."""
    found: dict[str, bool | int | float | str] = {}
    for section, fields in msgspec.to_builtins(config).items():
        for field, value in (fields or {}).items():
            if value is not None:
                told = ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
                found[f"{section}.{field}"] = told if isinstance(told, bool | int | float | str) else str(told)
    return found


def point_values(point: TrainPoint, groups: tuple[str, ...]) -> dict[str, float]:
    """Return the figures of a train point by name; what is not finite as it is."""
    found: dict[str, float | None] = {
        "train/loss": point.loss,
        "train/accuracy": point.accuracy,
        "train/learning_rate": point.learning_rate,
        "train/grad_norm": point.grad_norm,
        "train/images_per_second": point.samples_per_second,
        "train/epoch": float(point.epoch),
    }
    found |= {f"grad_norm/{clean(name)}": norm for name, norm in zip(groups, point.group_grad_norms, strict=False)}
    if point.learning_rate is not None:
        factors = zip(groups, point.group_rate_factors, strict=False)
        found |= {f"learning_rate/{clean(name)}": point.learning_rate * factor for name, factor in factors}
    if point.time_shares is not None:
        shares: dict[str, Any] = msgspec.structs.asdict(point.time_shares)
        found |= {f"time/{name}": share for name, share in shares.items() if name != "seconds"}
    return _told(found)


def score_values(scores: Evaluated) -> dict[str, float]:
    """Return the figures of an evaluation by name: `val/accuracy`, `val/macro_f1`, `val_f1/CLASS` and others.

    Of more than 100 classes there are none for each.
    """
    part = scores.part
    found: dict[str, float | None] = {
        f"{part}/loss": scores.loss,
        f"{part}/accuracy": scores.accuracy,
        f"{part}/seconds": scores.seconds,
    }
    if scores.figure is not None and scores.best_by not in ("accuracy", "loss"):
        found[f"{part}/{scores.best_by.replace('-', '_')}"] = scores.figure
    for average in scores.averages:
        kind = clean(average.label).partition(" ")[0].lower()
        for name in ("precision", "recall", "f1"):
            found[f"{part}/{kind}_{name}"] = getattr(average, name)
    if len(scores.per_class) <= _MOST_CLASSES:
        for report in scores.per_class:
            for name in ("precision", "recall", "f1"):
                found[f"{part}_{name}/{clean(report.label)}"] = getattr(report, name)
    return _told(found)


def _told(values: Mapping[str, float | None]) -> dict[str, float]:
    return {name: value for name, value in values.items() if value is not None}


def finite(values: Mapping[str, float]) -> dict[str, float]:
    """Return those of the `values` that are finite."""
    return {name: value for name, value in values.items() if math.isfinite(value)}
