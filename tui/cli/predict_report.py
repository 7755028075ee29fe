"""`finetui predict`: a person's own image files, and what a network takes them for."""

import csv
import io
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from rich.console import Console
from rich.segment import Segments
from textual.content import Content

import finetui
from finetui.engine.errors import BadInput
from finetui.engine.protocol.requests import BareWeights
from finetui.engine.text import clean
from finetui.tui.cli.predict_files import files_of
from finetui.tui.cli.reports import write_data
from finetui.tui.graphics import Mode, choose_mode, strips

if TYPE_CHECKING:
    from finetui.engine.inspection.classify import Classified

_BAR = 30  # cells
_LABEL = 24
Form = Literal["text", "csv", "json"]


@dataclass
class Asked:
    """How predictions are told: the `top` likeliest classes, in this `form`; no class less probable than `threshold`.

    `images` is how they are drawn, if at all.
    """

    top: int
    threshold: float
    form: Form
    images: str

    def check(self) -> None:
        """Raise `BadInput` where that cannot be told."""
        if self.top < 1:
            raise BadInput(f"--top must be at least 1, not {self.top}")
        if not 0 <= self.threshold <= 1:
            raise BadInput(f"--threshold must be from 0 to 1, not {self.threshold:g}")

    def abstains(self, found: "Classified") -> bool:
        """Whether the likeliest class is not likely enough to be told."""
        return not found.problem and found.top[0][1] < self.threshold


@dataclass
class Tally:
    """How many files there were, and of which kind; those that were `named` one by one must be readable."""

    named: frozenset[str]
    files: int = 0
    problems: int = 0
    abstained: int = 0
    pale: int = 0
    failed: list[str] = field(default_factory=list)

    def unlistable(self, path: Path, reason: str) -> None:
        """Say that the folder `path` cannot be listed."""
        self._say(path, reason)
        if str(path) in self.named:
            self.failed.append(str(path))

    def add(self, found: "Classified", *, abstained: bool) -> None:
        """Count `found`, and say what is wrong with it."""
        self.files += 1
        self.pale += found.pale
        self.abstained += abstained
        if found.problem:
            self.problems += 1
            self._say(found.path, found.problem)
            if str(found.path) in self.named:
                self.failed.append(str(found.path))

    @staticmethod
    def _say(path: Path, problem: str) -> None:
        print(f"finetui: {clean(str(path), 1000)}: {problem}", file=sys.stderr)


def print_predictions(
    checkpoint: Path,
    files: Sequence[Path],
    asked: Asked,
    *,
    model: str,
    device: str,
    invert: bool,
    bare: BareWeights,
) -> int:
    """Print what `files`, and those in the folders among them, are taken for, one after the other.

    Return the exit status: 2 when a file that was named could not be read, or none in a folder.
    """
    asked.check()
    if not files:
        raise BadInput("name the image files to classify, or a folder that holds them")
    tally = Tally(frozenset(map(str, files)))
    with _progress(files, asked) as advance:
        told = _Printer(asked)
        found_files = files_of(files, tally.unlistable)
        classified = finetui.classify(
            checkpoint, found_files, top=asked.top, model=model, device=device, invert=invert, bare=bare
        )
        for found in classified:
            abstained = asked.abstains(found)
            tally.add(found, abstained=abstained)
            told.tell(found, abstained=abstained)
            advance(1)
    return _summed_up(tally, asked, invert=invert, folders=[path for path in files if path.is_dir()])


def _summed_up(tally: Tally, asked: Asked, *, invert: bool, folders: Sequence[Path]) -> int:
    """Say what there was to all files together, on standard error, and return the exit status."""
    if folders and not tally.files and not tally.failed:
        raise BadInput(f"there are no files in {folders[0]}")
    if folders or asked.threshold:
        done = tally.files - tally.problems
        words = [f"{done:,} image{'' if done == 1 else 's'} classified"]
        if asked.threshold:
            words.append(f"{tally.abstained:,} of them less than {asked.threshold:.0%} sure")
        if tally.problems:
            words.append(f"{tally.problems:,} file{'' if tally.problems == 1 else 's'} could not be read")
        print("; ".join(words), file=sys.stderr)
    if tally.pale and not invert:
        print(
            f"finetui: {tally.pale} of the images look dark on a light background; if the network was trained on "
            "light on black (as in MNIST), use --invert",
            file=sys.stderr,
        )
    return 2 if tally.failed or (tally.files and tally.problems == tally.files) else 0


class _Printer:
    """Prints one file after the other, in the form that is asked for."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        draws = sys.stdout.isatty() and asked.images != "none" and asked.form == "text"
        self._mode: Mode | None = choose_mode(asked.images) if draws else None
        self._console = Console(markup=False, highlight=False)
        self._has_header = False

    def tell(self, found: "Classified", *, abstained: bool) -> None:
        """Print what is known of a file."""
        match self._asked.form:
            case "json":
                write_data(json.dumps(_as_object(found, abstained)).encode() + b"\n")  # ASCII: any path can be written
            case "csv":
                self._tell_csv(found, abstained)
            case "text":
                if not found.problem:
                    self._tell_text(found, abstained)

    def _tell_csv(self, found: "Classified", abstained: bool) -> None:
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\r\n")
        if not self._has_header:
            self._has_header = True
            ranks = range(1, self._asked.top + 1)
            writer.writerow(
                [
                    "path",
                    "prediction",
                    "problem",
                    *(f"{name}_{rank}" for rank in ranks for name in ("class", "probability")),
                ]
            )
        cells = [cell for name, value in found.top for cell in (name, f"{value:.6g}")]
        cells += [""] * (2 * self._asked.top - len(cells))
        prediction = "" if found.problem or abstained else found.top[0][0]
        writer.writerow([str(found.path), prediction, found.problem, *cells])
        write_data(text.getvalue().encode("utf-8", "surrogateescape"))

    def _tell_text(self, found: "Classified", abstained: bool) -> None:
        sure = f"  less than {self._asked.threshold:.0%} sure: no class" if abstained else ""
        print(clean(str(found.path), 1000) + sure)
        if self._mode is not None and found.pixels is not None:
            pixels = np.ascontiguousarray(found.pixels.transpose(1, 2, 0))
            for strip in strips(pixels, 28, 14, ascii=self._mode == "ascii"):
                self._console.print(Segments(list(strip)))
        for name, value in found.top:
            full = round(value * _BAR)
            label = Content(name).truncate(_LABEL, ellipsis=True, pad=True).plain
            print(f"  {label} {'━' * full}{'─' * (_BAR - full)} {value:>6.1%}")


def _as_object(found: "Classified", abstained: bool) -> dict[str, object]:
    return {
        "path": str(found.path),
        "prediction": None if found.problem or abstained else found.top[0][0],
        "top": [{"class": name, "probability": float(f"{value:.6g}")} for name, value in found.top],
        "problem": found.problem,
    }


@contextmanager
def _progress(files: Sequence[Path], asked: Asked) -> Iterator[Callable[[int], None]]:
    """Show a bar on standard error, where that is a terminal and standard output is another place."""
    if not sys.stderr.isatty() or (asked.form == "text" and sys.stdout.isatty()):
        yield lambda _count: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    total = sum(1 for _ in files_of(files, lambda _path, _reason: None))
    columns = (TextColumn("Classifying"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True, markup=False, highlight=False), transient=True) as progress:
        task = progress.add_task("", total=total)
        yield lambda count: progress.advance(task, count)
