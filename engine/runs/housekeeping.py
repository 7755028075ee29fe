"""Renaming and deleting runs, without anything that refers to them being lost on the way."""

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec

from finetui.engine import files
from finetui.engine.errors import BadInput, reason_of
from finetui.engine.protocol.config import RunConfig
from finetui.engine.protocol.config_checks import check_run_name
from finetui.engine.protocol.config_file import load, to_toml
from finetui.engine.protocol.events import RunPrepared
from finetui.engine.runs.folder import RunFolder, run_folders
from finetui.engine.runs.lock import RunLock, holder_of

_STARTS = ("finetune", "branch")  # the sections of a configuration that name another run's checkpoint
_OWN = (".ckpt", ".predictions", ".toml", ".jsonl", ".safetensors", ".log", ".lock", ".tmp")
_DELETED = ".deleted"  # ends the name of a folder that is being deleted, after the process that does it
_PREPARED = str(RunPrepared.__struct_config__.tag).encode()


def children_of(folder: RunFolder) -> list[RunFolder]:
    """Return the runs beside `folder` that began from a checkpoint in it, newest first. Raises `BadInput`."""
    return [child for child in run_folders(folder.path.absolute().parent) if _began_from(child, folder)]


def rename_run(folder: RunFolder, name: str) -> tuple[RunFolder, list[RunFolder]]:
    """Give the run in `folder` another `name`, also where its children say what they began from; return it, and those.

    Only runs beside it are looked at. Raises `BadInput` where the name is taken or can be none, where one of these runs
    is live, and where something cannot be written: all is called as before then.
    """
    check_run_name(name, "the new name")
    path = folder.path.absolute()
    _check_own(folder)
    to = path.with_name(name)
    if os.path.lexists(to):
        raise BadInput(f"a run named {name!r} exists in {path.parent}; choose another name")
    children = children_of(folder)
    with ExitStack() as stack:
        for run in (folder, *children):
            stack.enter_context(_held(run))
        try:
            path.rename(to)
            with ExitStack() as undo:
                undo.callback(to.rename, path)
                for child in children:
                    undo.callback(_let_begin_from, child, to, path, to)
                    _let_begin_from(child, path, to, to)
                undo.pop_all()
            files.sync_folder(to.parent)
        except OSError as error:
            raise BadInput(f"the run {folder.name} cannot be renamed: {reason_of(error)}") from error
    return RunFolder(to), children


def delete_run(folder: RunFolder) -> None:
    """Delete the run in `folder` and all that is in it. Raises `BadInput` where it is live, or cannot be deleted.

    It is gone at once: what is left where that is interrupted is no run, and goes with the next that is deleted.
    """
    _check_own(folder)
    path = folder.path.absolute()
    gone = path.with_name(f".{path.name}.{os.getpid()}{_DELETED}")
    with _held(folder):
        try:
            path.rename(gone)
        except OSError as error:
            raise BadInput(f"the run {folder.name} cannot be deleted: {reason_of(error)}") from error
        for left in (gone, *_half_deleted(path.parent)):
            try:
                RunFolder(left).journal.unlink(missing_ok=True)
                shutil.rmtree(left)
            except OSError as error:
                raise BadInput(
                    f"the run {folder.name} is no longer listed, but {left} cannot be deleted: {reason_of(error)}; "
                    "delete that folder yourself, or another run later, which tries it again"
                ) from error


def _half_deleted(runs_dir: Path) -> Iterator[Path]:
    """Yield the folders in `runs_dir` of runs whose deletion did not end."""
    for path in sorted(runs_dir.glob(f".*{_DELETED}")):
        if path.is_dir() and not path.is_symlink() and holder_of(RunFolder(path)) is None:
            yield path


def _check_own(folder: RunFolder) -> None:
    if folder.path.is_symlink():
        raise BadInput(f"{folder.path} is a link to {folder.path.resolve()}; name that folder instead")
    there = holder_of(folder)
    if there is not None:
        raise BadInput(f"the run {folder.name} is live ({there}); stop it first: finetui stop {folder.argument}")


@contextmanager
def _held(folder: RunFolder) -> Iterator[None]:
    """Keep every engine from the run in `folder` meanwhile. Raises `BadInput` when one has it."""
    lock = RunLock(folder)
    try:
        yield
    finally:
        lock.release()


def _starts(config: RunConfig) -> Iterator[tuple[str, str]]:
    for section in _STARTS:
        start = getattr(config, section)
        if start is not None:
            yield start.parent, start.parent_run


def _began_from(child: RunFolder, folder: RunFolder) -> bool:
    try:
        starts = list(_starts(load(child.config)))
    except BadInput:  # a child whose configuration is lost says nothing that could be kept up
        return False
    return child.path.absolute() != folder.path.absolute() and any(_is_of(*start, folder.path) for start in starts)


def _is_of(file: str, run: str, folder: Path, lies: Path | None = None) -> bool:
    """Tell whether the checkpoint `file` of `run` is one of `folder`, also where all of these were moved since then.

    `lies` is where the folder is at the moment, if that is elsewhere.
    """
    if os.path.realpath(Path(file).parent) == os.path.realpath(folder):
        return True
    return run == folder.name and not Path(file).exists() and ((lies or folder) / Path(file).name).is_file()


def _let_begin_from(child: RunFolder, before: Path, now: Path, lies: Path) -> None:
    """Let the configuration and the journal of `child` name the folder `now` where they name `before`.

    At the moment that folder is at `lies`. Where one of the two cannot be written, neither is changed.
    """
    config = load(child.config)
    for section in _STARTS:
        start = getattr(config, section)
        if start is not None and _is_of(start.parent, start.parent_run, before, lies):
            moved = msgspec.structs.replace(
                start, parent=str(now / Path(start.parent).name), parent_run=start.parent_run and now.name
            )
            config = msgspec.structs.replace(config, **{section: moved})
    with files.replacing(child.config) as settings:
        settings.write(to_toml(config).encode())
        with child.journal.open("rb") as journal, files.replacing(child.journal) as written:
            for line in journal:
                written.write(_line_from(line, before, now, lies))


def _line_from(line: bytes, before: Path, now: Path, lies: Path) -> bytes:
    """Return `line` of a journal; one that tells how the run began with the folder `now` for `before`."""
    if _PREPARED not in line[:200]:
        return line
    try:
        event: dict[str, Any] = msgspec.json.decode(line)
        starts = [event["config"][section] for section in _STARTS if event["config"].get(section)]
        moved = [start for start in starts if _is_of(start["parent"], start.get("parent_run", ""), before, lies)]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, TypeError, KeyError, AttributeError):
        return line  # damaged, as it was before
    for start in moved:
        start["parent"] = str(now / Path(start["parent"]).name)
        start["parent_run"] = start.get("parent_run") and now.name
    if moved and event.get("parent") == before.name:
        event["parent"] = now.name
    return msgspec.json.encode(event) + b"\n" if moved else line


def foreign_files(folder: RunFolder) -> list[str]:
    """Return the names of what lies in `folder` and is no file of a run; no temporary ones. Raises OSError."""
    return sorted(path.name for path in folder.path.iterdir() if path.is_dir() or path.suffix not in _OWN)
