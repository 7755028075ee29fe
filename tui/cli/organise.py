"""`finetui tag`, `note`, `rename` and `delete`: what a person says of runs, what they are called, and which go."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from finetui.engine.errors import BadInput, reason_of
from finetui.engine.runs.folder import RunFolder, find_run
from finetui.engine.runs.housekeeping import children_of, delete_run, foreign_files, rename_run
from finetui.engine.runs.lock import holder_of
from finetui.engine.runs.notes import noted, read_notes, tagged
from finetui.engine.runs.summaries import folder_size, summarise_run
from finetui.engine.text import clean
from finetui.tui.cli.complete import runs
from finetui.tui.cli.options import Run, RunsDir
from finetui.tui.state.numbers import scaled

_ELSEWHERE = "runs in other folders are not looked at"


def tag(run: Run, /, *tags: str, remove: bool = False, runs_dir: RunsDir = Path("checkpoints")) -> int:
    """Give a run tags, words to find it by (finetui runs tag:keep); without any, print those that it has.

    Parameters
    ----------
    tags
        The tags: each one word.
    remove
        Take these tags from the run instead.
    """
    folder = find_run(run, runs_dir)
    if remove and not tags:
        raise BadInput("--remove: name the tags to remove")
    found = tagged(folder, () if remove else tags, tags if remove else ()) if tags else read_notes(folder)
    print(f"{folder.name}: {' '.join(found.tags) or 'no tags'}")
    return 0


def note(run: Run, text: str | None = None, /, *, runs_dir: RunsDir = Path("checkpoints")) -> int:
    """Write a note beside a run, in place of the one that it has; without a text, print that.

    Parameters
    ----------
    text
        The note, in quotes; empty quotes remove it.
    """
    folder = find_run(run, runs_dir)
    found = read_notes(folder) if text is None else noted(folder, text)
    print(f"{folder.name}: {found.note or 'no note'}")
    return 0


def rename(run: Run, name: str, /, *, runs_dir: RunsDir = Path("checkpoints")) -> int:
    """Give a run another name. Runs beside it that began from it name it by the new one; no other folder is looked in.

    Parameters
    ----------
    name
        The new name.
    """
    before = find_run(run, runs_dir)
    now, children = rename_run(before, name)
    told = f", also as the parent of {_names(children)}" if children else ""
    print(f"{before.name} is now called {now.name}{told} ({_ELSEWHERE})")
    return 0


def delete(
    *names: Annotated[str, Parameter(name="RUN", help="The runs: their names or folders.", completer=runs)],
    yes: bool = False,
    runs_dir: RunsDir = Path("checkpoints"),
) -> int:
    """Delete runs, with their checkpoints, curves and predictions; a live one is refused. A terminal is asked first.

    Whether others began from them is looked up beside them; runs in other folders are not looked at.

    Parameters
    ----------
    yes
        Do not ask. Needed where there is no terminal, and for a run that others began from.
    """
    if not names:
        raise BadInput("delete: RUN is missing; see finetui delete --help")
    found = {folder.path.absolute(): folder for folder in (find_run(name, runs_dir) for name in names)}
    folders = list(found.values())
    for folder in folders:
        there = holder_of(folder)
        if there is not None:
            raise BadInput(f"the run {folder.name} is live ({there}); end it first: finetui stop {folder.argument}")
    if not yes:
        for folder in folders:
            print(_loss(folder))
        _check_no_children(folders)
        if not _agreed(folders):
            print("Nothing was deleted.")
            return 1
    for folder in folders:
        size = folder_size(folder)
        delete_run(folder)
        print(f"{folder.name}: deleted, {_size(size)}")
    return 0


def _loss(folder: RunFolder) -> str:
    """Return in a line what is lost with the run in `folder`."""
    about = summarise_run(folder)
    parts = [_size(folder_size(folder))]
    if about is not None:
        parts.append(f"{about.data}, {about.model}, epoch {about.epoch} of {about.epochs}")
        if about.best_accuracy is not None:
            parts.append(f"best {about.best_accuracy:.2%} on {about.part}")
        parts += [f"tags {' '.join(about.tags)}"] if about.tags else []
        parts += [f"note: {about.note}"] if about.note else []
    try:
        others = foreign_files(folder)
    except OSError as error:
        raise BadInput(f"the folder {folder.path} cannot be read: {reason_of(error)}") from error
    if others:
        parts.append(f"and what is not the run's own: {clean(', '.join(others))}")
    return f"{folder.name}: {'; '.join(parts)}"


def _check_no_children(folders: Sequence[RunFolder]) -> None:
    going = {folder.path.absolute() for folder in folders}
    for folder in folders:
        staying = [child for child in children_of(folder) if child.path.absolute() not in going]
        if staying:
            raise BadInput(
                f"{_names(staying)} began from a checkpoint of {folder.name}, and cannot be replayed without it (all "
                "else goes on working); --yes deletes it all the same"
            )


def _agreed(folders: Sequence[RunFolder]) -> bool:
    total = _size(sum(map(folder_size, folders)))
    what = f"the run {folders[0].name}" if len(folders) == 1 else f"these {len(folders)} runs"
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise BadInput(f"to delete {what} ({total}) where nobody can be asked, add --yes")
    try:
        answer = input(f"Delete {what}, {total}? It cannot be undone ({_ELSEWHERE}). [y/N] ")
    except EOFError:
        print()
        return False
    return answer.strip().lower() in ("y", "yes")


def _size(size: int) -> str:
    value, prefix = scaled(size)
    return f"{value} {prefix}B"


def _names(folders: Sequence[RunFolder]) -> str:
    names = [folder.name for folder in folders]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
