"""`finetui tag`, `note`, `rename` and `delete`: what a person says of runs, what they are called, and which go."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from finetui.engine.errors import BadInput
from finetui.engine.runs.folder import RunFolder, find_run
from finetui.engine.runs.housekeeping import delete_run, rename_run
from finetui.engine.runs.lock import holder_of
from finetui.engine.runs.notes import noted, read_notes, tagged
from finetui.engine.runs.summaries import folder_size
from finetui.tui.cli.complete import runs
from finetui.tui.cli.options import Run, RunsDir
from finetui.tui.state.numbers import in_bytes
from finetui.tui.state.run_loss import left_without_parent, loss_of, names_of

_ELSEWHERE = "runs in other folders are not checked"


def tag(run: Run, /, *tags: str, remove: bool = False, runs_dir: RunsDir = Path("checkpoints")) -> int:
    """Tag a run with words to find it by (finetui runs tag:keep); without any, print its tags.

    Parameters
    ----------
    tags
        The tags: each one word.
    remove
        Remove these tags from the run instead.
    """
    folder = find_run(run, runs_dir)
    if remove and not tags:
        raise BadInput("--remove: name the tags to remove")
    found = tagged(folder, () if remove else tags, tags if remove else ()) if tags else read_notes(folder)
    print(f"{folder.name}: {' '.join(found.tags) or 'no tags'}")
    return 0


def note(run: Run, text: str | None = None, /, *, runs_dir: RunsDir = Path("checkpoints")) -> int:
    """Set the note of a run, replacing the one it has; without a text, print it.

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
    """Rename a run. Runs beside it that began from it are updated; runs in other folders are not.

    Parameters
    ----------
    name
        The new name.
    """
    before = find_run(run, runs_dir)
    now, children = rename_run(before, name)
    told = f", also as the parent of {names_of(children)}" if children else ""
    print(f"{before.name} is now called {now.name}{told} ({_ELSEWHERE})")
    return 0


def delete(
    *names: Annotated[str, Parameter(name="RUN", help="The runs: their names or folders.", completer=runs)],
    yes: bool = False,
    runs_dir: RunsDir = Path("checkpoints"),
) -> int:
    """Delete runs, with their checkpoints, curves and predictions, after asking. Live runs are refused.

    Runs beside them are checked for having begun from them; runs in other folders are not.

    Parameters
    ----------
    yes
        Do not ask. Needed without a terminal, and for a run that others began from.
    """
    if not names:
        raise BadInput("delete: RUN is missing; see finetui delete --help")
    found = {folder.path.absolute(): folder for folder in (find_run(name, runs_dir) for name in names)}
    folders = list(found.values())
    for folder in folders:
        there = holder_of(folder)
        if there is not None:
            raise BadInput(f"the run {folder.name} is live ({there}); stop it first: finetui stop {folder.argument}")
    if not yes:
        for folder in folders:
            print(loss_of(folder))
        _check_no_children(folders)
        if not _agreed(folders):
            print("Nothing was deleted.")
            return 1
    for folder in folders:
        size = folder_size(folder)
        delete_run(folder)
        print(f"Deleted {folder.name} ({in_bytes(size)})")
    return 0


def _check_no_children(folders: Sequence[RunFolder]) -> None:
    for folder, staying in left_without_parent(folders):
        raise BadInput(
            f"{names_of(staying)} began from a checkpoint of {folder.name}, and cannot be replayed without it "
            "(everything else keeps working); --yes deletes it anyway"
        )


def _agreed(folders: Sequence[RunFolder]) -> bool:
    total = in_bytes(sum(map(folder_size, folders)))
    what = f"the run {folders[0].name}" if len(folders) == 1 else f"these {len(folders)} runs"
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise BadInput(f"to delete {what} ({total}) without a terminal, add --yes")
    try:
        answer = input(f"Delete {what}, {total}? It cannot be undone ({_ELSEWHERE}). [y/N] ")
    except EOFError:
        print()
        return False
    return answer.strip().lower() in ("y", "yes")
