"""What the shell offers on Tab: runs, checkpoints of them, networks and other known values. Without torch."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from finetui.engine.errors import BadInput
from finetui.engine.runs.folder import RunFolder, checkpoint_names, run_folders
from finetui.engine.runs.lock import live_runs

if TYPE_CHECKING:
    from cyclopts.completion import CompletionContext

Completer = Callable[["CompletionContext"], Iterable[str]]


def _runs_dir(context: "CompletionContext") -> Path:
    given = context.get("--runs-dir")
    return Path(given.raw if given is not None and given.raw else "checkpoints").expanduser()


def _names(context: "CompletionContext", folders: Callable[[Path], list[RunFolder]]) -> list[str]:
    try:
        return [folder.name for folder in folders(_runs_dir(context))]
    except BadInput:  # a folder that cannot be read: there is nothing to offer, and no line to say it on
        return []


def runs(context: "CompletionContext") -> list[str]:
    """Return the names of all runs, newest first."""
    return _names(context, run_folders)


def live(context: "CompletionContext") -> list[str]:
    """Return the names of the runs that an engine has now, newest first."""
    return _names(context, live_runs)


def checkpoints(context: "CompletionContext") -> list[str]:
    """Return the names of all runs or, once a colon was typed, the checkpoints of the run before it."""
    run, colon, _ = context.incomplete.rpartition(":")
    if not colon:
        return [*runs(context), *(_paths(context.incomplete) if "/" in context.incomplete else ())]
    return [f"{run}:{name}" for name in checkpoint_names(RunFolder(_runs_dir(context) / run))]


def one_of(*values: str) -> Completer:
    """Return a completer that offers `values`."""
    return lambda _context: values


def folders_or(*values: str) -> Completer:
    """Return a completer that offers `values`, and folders."""
    return lambda context: [*values, *(path for path in _paths(context.incomplete) if path.endswith("/"))]


def files_or(*values: str) -> Completer:
    """Return a completer that offers `values`, files and folders."""
    return lambda context: [*values, *_paths(context.incomplete)]


def _paths(typed: str) -> list[str]:
    """Return what begins as `typed` does, folders with a slash at the end."""
    folder, slash, name = typed.rpartition("/")
    try:
        found = sorted(Path(folder + slash or ".").expanduser().iterdir())
    except OSError:  # there is no such folder, or none that may be read
        return []
    shown = [path for path in found if path.name.startswith(name) and (name or not path.name.startswith("."))]
    return [f"{folder}{slash}{path.name}{'/' if path.is_dir() else ''}" for path in shown]


def models(context: "CompletionContext | None" = None) -> Sequence[str]:
    """Return lenet, and the names of torchvision's classification models, which are read from its source.

    Once `timm:` was typed, those of timm, if it is there.
    """
    if context is not None and context.incomplete.startswith("timm:"):
        return [f"timm:{name}" for name in sorted(_registered("timm"))]
    return ["lenet", *sorted(_registered("torchvision"))]


def _registered(library: str) -> Iterator[str]:
    """Yield the names of the networks in the source of `library`: importing it takes seconds."""
    found = find_spec(library)
    for folder in (found.submodule_search_locations or ()) if found is not None else ():
        for file in (Path(folder) / "models").glob("*.py"):
            source = file.read_text(encoding="utf-8", errors="replace")
            yield from re.findall(r"^@register_model(?:\(\))?\n(?:@.*\n)*def (\w+)\(", source, re.MULTILINE)
