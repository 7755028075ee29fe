"""Run folders: naming, creating and finding them.

A run folder holds `config.toml`, `journal.jsonl`, `last.ckpt`, `best.ckpt`, the predictions of the last and of the best
evaluation, `images.safetensors` and `engine.log`, and while its engine lives the locked file `engine.lock`.
"""

import itertools
import os
import re
import shlex
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from finetui.engine.errors import BadInput, reason_of
from finetui.engine.protocol.config import RunConfig, is_factory
from finetui.engine.protocol.config_file import to_toml
from finetui.engine.protocol.events import RunPrepared
from finetui.engine.protocol.paths import code_file
from finetui.engine.protocol.values import Part
from finetui.engine.runs.journal import JournalReader
from finetui.engine.text import clean, meant

_FILES = frozenset((".ckpt", ".onnx", ".pt", ".pt2", ".pth", ".safetensors"))  # that networks and weights are in
_LONGEST_PART = 24  # of a default name: its date, data and model have 60 characters at most
LAST_PREDICTIONS, BEST_PREDICTIONS = "last.predictions", "best.predictions"


@dataclass(frozen=True)
class RunFolder:
    """The files of one run."""

    path: Path

    @property
    def name(self) -> str:
        """The run's name: that of its folder."""
        return clean(self.path.name)

    @property
    def argument(self) -> str:
        """What names the run on a command line: its name where runs are by default, else its folder; quoted."""
        path = self.path.absolute()
        by_name = path.parent == Path("checkpoints").absolute() and not path.name.startswith("-")
        return shlex.quote(clean(path.name if by_name else str(path), 4096))

    @property
    def config(self) -> Path:
        """The configuration, as TOML."""
        return self.path / "config.toml"

    @property
    def journal(self) -> Path:
        """Every event of the run."""
        return self.path / "journal.jsonl"

    @property
    def last(self) -> Path:
        """The newest checkpoint."""
        return self.path / "last.ckpt"

    @property
    def best(self) -> Path:
        """The checkpoint with the best accuracy of the part that is evaluated while training."""
        return self.path / "best.ckpt"

    def checkpoint(self, name: str) -> Path:
        """Return the file of the checkpoint that is kept as `name`."""
        return self.path / f"{name}.ckpt"

    @property
    def last_predictions(self) -> Path:
        """Every prediction of the last evaluation of the part that is evaluated while training."""
        return self.path / LAST_PREDICTIONS

    @property
    def best_predictions(self) -> Path:
        """Every prediction of the evaluation with the best accuracy."""
        return self.path / BEST_PREDICTIONS

    def predictions_of(self, part: Part) -> Path:
        """Return the file with every prediction of the last evaluation of another part."""
        return self.path / f"{part}.predictions"

    @property
    def images(self) -> Path:
        """Which image files were in which part of the data."""
        return self.path / "images.safetensors"

    @property
    def log(self) -> Path:
        """What the engine process and its libraries printed."""
        return self.path / "engine.log"

    @property
    def notes(self) -> Path:
        """What a person said of the run, if anything: tags and a note (`finetui.engine.runs.notes`)."""
        return self.path / "notes.toml"

    @property
    def job(self) -> Path:
        """Which job of a batch system began it, if one did (`finetui.engine.runs.begun_runs`)."""
        return self.path / "job.json"

    def rank_log(self, rank: int) -> Path:
        """Return the file with what the process `rank` of several printed; that of rank 0 is `log`."""
        return self.path / f"rank-{rank}.log"

    @property
    def lock(self) -> Path:
        """Locked by the run's engine for as long as that lives."""
        return self.path / "engine.lock"


def check_runs_dir(runs_dir: Path) -> None:
    """Raise `BadInput` unless a run folder can be created in `runs_dir`, which need not exist yet."""
    where = str(runs_dir)
    existing = runs_dir
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        raise BadInput(f"runs cannot be kept in {where}: {existing} is not a folder; choose another --runs-dir")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise BadInput(f"runs cannot be kept in {where}: no permission to write there; choose another --runs-dir")


def create_run(config: RunConfig, default_name: str) -> RunFolder:
    """Create the folder of a new run, with its configuration in it.

    A name that a person gave must be free; a default one gets a number where it is not.
    Raises `BadInput` when the name is taken or the folder cannot be created.
    """
    runs_dir = Path(config.run.runs_dir).absolute()
    try:
        runs_dir.mkdir(parents=True, exist_ok=True)
        folder = RunFolder(_new_folder(runs_dir, config.run.name, default_name))
        write_config(folder, config)
    except OSError as error:
        reason = reason_of(error)
        raise BadInput(f"a run cannot be created in {runs_dir}: {reason}; choose another --runs-dir") from error
    return folder


def write_config(folder: RunFolder, config: RunConfig) -> None:
    """Write a run's configuration into its folder. Raises OSError."""
    folder.config.write_text(to_toml(config), encoding="utf-8")


def how_it_began(folder: RunFolder) -> RunPrepared | None:
    """Return what the journal says was prepared at first; None where its beginning, or all of it, is lost."""
    if not folder.journal.exists():
        return None
    events = itertools.islice(JournalReader(folder.journal).read(), 100)
    return next((event for event in events if isinstance(event, RunPrepared)), None)


def _new_folder(runs_dir: Path, name: str, default_name: str) -> Path:
    if name:
        path = runs_dir / name
        try:
            path.mkdir()
        except FileExistsError:
            raise BadInput(f"a run named {name!r} exists in {runs_dir}; choose another --name") from None
        return path
    number = 1
    while True:
        path = runs_dir / (default_name if number == 1 else f"{default_name}-{number}")
        with suppress(FileExistsError):
            path.mkdir()
            return path
        number += 1


def default_run_name(data: str, model: str, recipe: str | None = None) -> str:
    """Return the name of a run that starts today: date, data, model and, for a finetune, its recipe.

    A folder gives its own name, a person's code those of its file and factory (`nets.py:Seq` gives `nets-Seq`); where
    data and model are of one file, the model is left out. Data and model have at most 24 characters each.
    """
    parts = [_short(data)]
    if not (is_factory(data) and is_factory(model) and code_file(data) == code_file(model)):
        parts.append(_short(model))
    return "-".join([time.strftime("%Y-%m-%d"), *(part for part in parts if part), *([recipe] if recipe else [])])


def _short(name: str) -> str:
    if is_factory(name):
        factory = name.rpartition(":")[2]
        name = f"{code_file(name).stem}-{factory}"
    elif "/" in name or name in (".", ".."):
        name = Path(os.path.abspath(name)).name  # noqa: PTH100  # `photos/..` is the folder that `photos` is in
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name)[:_LONGEST_PART].strip("-.")


def find_run(name_or_path: str, runs_dir: Path, *, lost_journal: bool = False) -> RunFolder:
    """Return the run of this name in `runs_dir`, or the run folder at this path.

    With `lost_journal` one with a configuration and no journal will do. Raises `BadInput` that lists the newest names
    when there is none.
    """
    named = runs_dir / name_or_path
    for path in (named, Path(name_or_path).expanduser()):
        folder = RunFolder(path)
        if folder.journal.is_file() or (lost_journal and folder.config.is_file()):
            return folder
    if Path(name_or_path).expanduser().is_dir():
        raise BadInput(f"the folder {name_or_path} is not a run: it has no journal.jsonl")
    names = [run.name for run in run_folders(runs_dir)]
    known = meant(name_or_path, names) if names else "it has no runs yet"
    raise BadInput(f"there is no run {name_or_path!r} in {runs_dir}; {known}")


def find_run_at(named: str, runs_dir: Path, *, lost_journal: bool = False) -> tuple[RunFolder, str]:
    """Return the run that `RUN` or `RUN:CHECKPOINT` names, as `find_run` does, and the checkpoint's name (empty: none).

    No run that finetui has named has a colon in its name. Raises `BadInput`, also where it has no such checkpoint.
    """
    run, colon, checkpoint = named.rpartition(":")
    try:
        return find_run(named, runs_dir, lost_journal=lost_journal), ""
    except BadInput:
        if not (colon and run):
            raise
    folder = find_run(run, runs_dir, lost_journal=lost_journal)
    if not folder.checkpoint(checkpoint).is_file():
        raise no_checkpoint(folder, checkpoint)
    return folder, checkpoint


def checkpoint_names(folder: RunFolder) -> list[str]:
    """Return the names of the checkpoints in `folder`, sorted."""
    return sorted(clean(file.stem) for file in folder.path.glob("*.ckpt"))


def no_checkpoint(folder: RunFolder, wanted: str) -> BadInput:
    """Return the error that says which checkpoints the run in `folder` has instead of the `wanted` one."""
    names = checkpoint_names(folder)
    known = meant(wanted, names, "it has") if names else "it has none yet"
    return BadInput(f"the run {folder.name} has no checkpoint {wanted!r}; {known}")


def is_own_loop(folder: RunFolder) -> bool:
    """Whether a person's own loop has trained the run in `folder`, which finetui only watched."""
    began = how_it_began(folder)
    return began is not None and began.capabilities is not None


def find_checkpoint(run_or_file: str, runs_dir: Path) -> Path:
    """Return the checkpoint file that a person means: a file, RUN:CHECKPOINT, or a run's best one (else its last).

    Raises `BadInput` when there is none.
    """
    file = Path(run_or_file).expanduser()
    if file.is_file():
        return file
    if file.suffix in _FILES and not (runs_dir / run_or_file).is_dir():
        raise BadInput(f"there is no file {run_or_file}")
    folder, name = find_run_at(run_or_file, runs_dir)
    if is_own_loop(folder):
        raise BadInput(
            f"the run {folder.name} was trained by your own loop, which finetui watched: it knows its figures and its "
            "predictions (finetui open, errors, card), and not how to build its network"
        )
    if name:
        return folder.checkpoint(name)
    for path in (folder.best, folder.last):
        if path.is_file():
            return path
    raise BadInput(f"the run {folder.name} has no checkpoint yet")


def run_folders(runs_dir: Path) -> list[RunFolder]:
    """Return the run folders in `runs_dir`, newest first. Raises `BadInput`."""
    try:
        found = [RunFolder(path) for path in runs_dir.iterdir() if (path / "journal.jsonl").is_file()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise BadInput(f"the runs in {runs_dir} cannot be listed: {reason_of(error)}") from error
    return sorted(found, key=_changed, reverse=True)


def _changed(folder: RunFolder) -> float:
    try:
        return folder.config.stat().st_mtime
    except OSError:
        return 0.0
