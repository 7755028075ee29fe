"""Which runs there are in a file or folder, by looking into it."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from finetui.engine.errors import BadInput, reason_of
from finetui.engine.runs.folder import RunFolder
from finetui.engine.sources import csv_log, tensorboard, trackio, trainer_state
from finetui.engine.sources.names import PARTS, tells_of_training
from finetui.engine.sources.settings_file import WithSettings
from finetui.engine.sources.source import Source
from finetui.engine.sources.sqlite_file import is_database
from finetui.engine.sources.table import CsvRun, JsonLinesRun, flat, header

OWN = "finetui"  # the kind of its own runs
KINDS = "TensorBoard event files, CSV, JSON lines, trainer_state.json, trackio's database, finetui's own runs"
_DEEPEST = 8  # folders in one another
_MOST_FOLDERS = 20_000
_LOOK = 1 << 16  # bytes of a file that tell what it is
_DATABASES = (".db", ".sqlite", ".sqlite3")


class Found(NamedTuple):
    """A run: what it is called, where it lies, and of which kind (`OWN`: a folder of finetui's own).

    `run` tells those of one database apart.
    """

    name: str
    path: Path
    kind: str
    run: str = ""

    @property
    def is_own(self) -> bool:
        """Whether it is one of finetui's own runs."""
        return self.kind == OWN

    @property
    def place(self) -> str:
        """What tells it from all other runs."""
        return f"{self.path.absolute()}{f'#{self.run}' if self.run else ''}"

    def open(self) -> Source:
        """Return what reads it."""
        if self.kind == "trackio":
            return trackio.TrackioRun(self.path, self.run)
        kinds: dict[str, Callable[[Path], Source]] = {
            "TensorBoard": tensorboard.TensorBoardRun,
            "Hugging Face Trainer": trainer_state.TrainerRun,
            "CSV": CsvRun,
            "finetui's CSV": csv_log.CsvLogRun,
            "JSON lines": JsonLinesRun,
        }
        source = kinds[self.kind](self.path)
        return WithSettings(source, self.path if self.path.is_dir() else self.path.parent)


def find_runs(path: Path, say: Callable[[str], None] = lambda _text: None) -> list[Found]:
    """Return the runs in the file or folder `path`, in the order of their names; none while there are none yet.

    What a person should know of the search goes to `say`, as a sentence. Raises `BadInput` where there is no such
    place, it cannot be read, or it is a file of another kind.
    """
    try:
        if path.is_dir():
            os.scandir(path).close()  # what cannot be listed is no empty folder
            return sorted(_in_folders(path, say), key=lambda found: found.name)
        if not path.exists():
            raise BadInput(f"there is no file or folder {path}")
        found = list(_in_file(path, path.parent.name if path.parent.name else path.stem))
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {reason_of(error)}") from error
    if not found:
        raise BadInput(f"{path} is not a file that can be watched: {KINDS}")
    return found


def _in_folders(root: Path, say: Callable[[str], None]) -> Iterator[Found]:
    """Yield the runs in `root` and in folders below it; links to folders are not followed."""
    seen = 0
    for folder, below, files in os.walk(root):
        here = Path(folder)
        seen += 1
        depth = len(here.relative_to(root).parts)
        below[:] = sorted(one for one in below if not one.startswith("."))
        if seen > _MOST_FOLDERS:
            say(f"only the first {_MOST_FOLDERS:,} folders of {root} are searched for runs")
            return
        if depth >= _DEEPEST:
            below.clear()
        name = _name(root, here)
        if RunFolder(here).journal.is_file():
            yield Found(name, here, OWN)
            below.clear()
            continue
        belongs = _event_folders(here, below, files)
        if belongs is not None:
            yield Found(name, here, "TensorBoard")
            below[:] = [one for one in below if one not in belongs]
            continue
        checkpoints = [one for one in below if one.startswith("checkpoint-")]
        if any((here / one / trainer_state.NAME).is_file() for one in ("", *checkpoints)):
            yield Found(name, here, "Hugging Face Trainer")
            below[:] = [one for one in below if one not in checkpoints]
            continue
        if csv_log.is_log(here, files):
            yield Found(name, here, "finetui's CSV")
            continue
        tables = [found for file in sorted(files) for found in _readable(here / file, name)]
        several = len([found for found in tables if found.kind != "trackio"]) > 1
        for found in tables:
            named = several and found.kind != "trackio"
            yield found._replace(name=f"{name}/{found.path.stem}") if named else found


def _readable(path: Path, name: str) -> Iterator[Found]:
    try:
        yield from _in_file(path, name)
    except OSError:  # somebody else's file, or gone by now
        return


def _name(root: Path, folder: Path) -> str:
    """Return what the run in `folder` is called: its place below `root`, or the folder's own name."""
    if folder == root:
        return root.absolute().name or str(root)
    return str(folder.relative_to(root))


def _event_folders(folder: Path, below: list[str], files: list[str]) -> list[str] | None:
    """Return which of the folders `below` belong to the run whose event files are in `folder`; None: there is none.

    That is each with event files of its own, or where `folder` has none itself, those that Keras makes.
    """
    with_events = [one for one in below if _has_events(folder / one)]
    if any(tensorboard.NAMED in file and (folder / file).is_file() for file in files):
        return with_events
    parts = [one for one in with_events if one in PARTS]
    return parts or None


def _has_events(folder: Path) -> bool:
    try:
        return any(tensorboard.NAMED in entry.name and entry.is_file() for entry in os.scandir(folder))
    except OSError:
        return False


def _in_file(path: Path, name: str) -> Iterator[Found]:
    """Yield the run that the file at `path` is, or those in it. Raises OSError."""
    if not path.is_file():
        return
    if tensorboard.NAMED in path.name:
        yield Found(name, path, "TensorBoard")
    elif path.name == "journal.jsonl" and RunFolder(path.parent).journal == path:
        yield Found(path.parent.absolute().name, path.parent, OWN)
    elif path.name == trainer_state.NAME:
        yield Found(name, path, "Hugging Face Trainer")
    elif path.suffix in _DATABASES and is_database(path):
        for key, run in trackio.runs_in(path):
            yield Found(f"{path.stem}/{run}", path, "trackio", key)
    elif path.suffix == ".csv":
        if tells_of_training(_header(path)):
            yield Found(name, path, "CSV")
    elif path.suffix in (".jsonl", ".ndjson", ".json", ".log") and _begins_with_object(path):
        yield Found(name, path, "JSON lines")


def _beginning(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(_LOOK).decode("utf-8", "replace")


def _header(path: Path) -> list[str]:
    """Return the names of the columns of the CSV file at `path`. Raises OSError."""
    return header(_beginning(path).partition("\n")[0].rstrip("\r"))[0]


def _begins_with_object(path: Path) -> bool:
    """Whether one of the first lines of a file is an object with a figure of a training. Raises OSError."""
    for line in _beginning(path).split("\n")[:50]:
        try:
            told = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(told, dict) and tells_of_training(flat(told)):
            return True
    return False
