"""CSV files in the run's folder, for spreadsheets and pandas: plain rows, each step once, headers that stay.

`train.csv`, `layers.csv`, `evaluations.csv`, `classes.csv`, `changes.csv`, `settings.csv` and, of each part, the
confusion matrix of its last evaluation.
"""

import csv
import io
import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from finetui.engine import files
from finetui.engine.loggers.base import About, RunLog, settings
from finetui.engine.protocol.events import Evaluated, Rewound, TrainPoint
from finetui.engine.protocol.provenance import Provenance
from finetui.engine.text import clean

_SHARES = ("waiting", "copying", "computing", "evaluating", "saving")
# In each the second column is the step, which a run that goes back is cut by.
_HEADERS: Mapping[str, Sequence[str]] = {
    "train": ("time", "step", "epoch", "step_in_epoch", "loss", "accuracy", "learning_rate", "grad_norm",
              "images_per_second", *(f"share_{name}" for name in _SHARES)),
    "layers": ("time", "step", "group", "grad_norm", "learning_rate"),
    "evaluations": ("time", "step", "epoch", "part", "checkpoint", "images", "loss", "accuracy", "macro_precision",
                    "macro_recall", "macro_f1", "weighted_precision", "weighted_recall", "weighted_f1", "best_by",
                    "figure", "best", "seconds"),
    "classes": ("time", "step", "part", "checkpoint", "class", "images", "accuracy", "precision", "recall", "f1",
                "loss"),
    "changes": ("time", "step", "change"),
}  # fmt: skip
_FORMULA = ("=", "+", "-", "@")


class CsvLog(RunLog):
    """Appends to the files below `csv` in the run's folder; one event's rows are there all or not at all."""

    def __init__(self, about: About) -> None:
        self._about = about
        self._folder = Path(about.folder) / "csv"
        self._folder.mkdir(exist_ok=True)
        self._ends: dict[Path, int] = {}
        for name in _HEADERS:
            self._open(self._folder / f"{name}.csv", _HEADERS[name])
        self._settings: dict[str, object] = {"name": about.name, **settings(about.config)}
        self._write_settings()

    def point(self, point: TrainPoint, values: Mapping[str, float]) -> None:
        """Append to `train.csv` and `layers.csv`."""
        shares = point.time_shares
        row: tuple[object, ...] = (point.time, point.step, point.epoch, point.step_in_epoch, point.loss, point.accuracy)
        row += (point.learning_rate, point.grad_norm, point.samples_per_second)
        row += tuple("" if shares is None else getattr(shares, name) for name in _SHARES)
        factors = point.group_rate_factors or (1.0,) * len(point.group_grad_norms)
        groups = zip(self._about.groups, point.group_grad_norms, factors, strict=False)
        layers = [
            (point.time, point.step, _text(name), norm, (point.learning_rate or 0.0) * f) for name, norm, f in groups
        ]
        self._append({"train": [row], "layers": layers})

    def evaluated(self, scores: Evaluated, values: Mapping[str, float]) -> None:
        """Append to `evaluations.csv` and `classes.csv`, and replace the part's confusion matrix."""
        where = (scores.part, scores.checkpoint)
        averages = [getattr(a, name) for a in scores.averages for name in ("precision", "recall", "f1")]
        row: tuple[object, ...] = (
            scores.time,
            scores.step,
            scores.epoch,
            *where,
            scores.n,
            scores.loss,
            scores.accuracy,
        )
        row += (*(averages or [""] * 6), scores.best_by, scores.accuracy if scores.figure is None else scores.figure)
        row += (int(scores.best), scores.seconds)
        classes = [
            (
                scores.time,
                scores.step,
                *where,
                _text(c.label),
                c.support,
                c.accuracy,
                c.precision,
                c.recall,
                c.f1,
                c.loss,
            )
            for c in scores.per_class
        ]
        self._append({"evaluations": [row], "classes": classes})
        if scores.confusion:
            names = [_text(report.label) for report in scores.per_class]
            rows = [["true \\ predicted", *names]]
            rows += [[name, *counts] for name, counts in zip(names, scores.confusion, strict=True)]  # type: ignore[list-item]
            _replace(self._folder / f"confusion-{scores.part}.csv", rows)

    def note(self, step: int, time: float, text: str) -> None:
        """Append to `changes.csv`."""
        self._append({"changes": [(time, step, _text(text))]})

    def comes_from(self, provenance: Provenance) -> None:
        """Put it into `settings.csv`."""
        for name, value in msgspec.to_builtins(provenance).items():
            if name == "packages":
                self._settings |= {f"package.{package}": version for package, version in value.items()}
            elif name == "git":
                self._settings["provenance.git"] = "; ".join(f"{g.short} of {g.folder}" for g in provenance.git)
            else:
                self._settings[f"provenance.{name}"] = shlex.join(value) if name == "command" else value
        self._write_settings()

    def go_back(self, rewound: Rewound) -> None:
        """Take the rows of later steps out of all files."""
        for path in self._ends:
            with path.open("r", encoding="utf-8", newline="") as file:
                header, *rows = csv.reader(file)
            kept = [row for row in rows if _step(row) <= rewound.step]
            if len(kept) < len(rows):
                _replace(path, [header, *kept])
                self._ends[path] = path.stat().st_size

    def _write_settings(self) -> None:
        rows = [("setting", "value"), *((name, _text(str(value))) for name, value in self._settings.items())]
        _replace(self._folder / "settings.csv", rows)

    def _open(self, path: Path, header: Sequence[str]) -> None:
        """Begin the file, or go on with it: a line that was torn when the log was killed is taken away."""
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            content = b""
        whole = content.rfind(b"\n") + 1
        if not whole:
            _replace(path, [header])
            whole = path.stat().st_size
        elif whole < len(content):
            os.truncate(path, whole)
        self._ends[path] = whole

    def _append(self, rows: Mapping[str, Iterable[Sequence[object]]]) -> None:
        """Append rows to files, to all of them or to none. Raises OSError."""
        done: list[Path] = []
        try:
            for name, new in rows.items():
                path, content = self._folder / f"{name}.csv", _lines(new)
                done.append(path)
                with path.open("r+b", buffering=0) as file:
                    file.seek(self._ends[path])
                    if file.write(content) != len(content):
                        raise OSError(28, os.strerror(28))  # as a full disk says it
        except OSError:
            for path in done:
                if path.exists():
                    os.truncate(path, self._ends[path])
            raise
        for path in done:
            self._ends[path] = path.stat().st_size


def _lines(rows: Iterable[Sequence[object]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def _replace(path: Path, rows: Iterable[Sequence[object]]) -> None:
    with files.replacing(path, synced=False) as file:
        file.write(_lines(rows))


def _text(text: str) -> str:
    """Return `text` so that no spreadsheet takes it for a formula."""
    harmless = clean(text, 1000)
    number = harmless[1:].replace(".", "", 1).isdigit()
    return f"'{harmless}" if harmless.startswith(_FORMULA) and not number else harmless


def _step(row: Sequence[str]) -> int:
    try:
        return int(row[1])
    except (IndexError, ValueError):  # somebody has edited it
        return 0
