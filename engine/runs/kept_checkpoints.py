"""The checkpoints that a run keeps, by name. Needs no torch."""

from pathlib import Path

import msgspec

from finetui.engine import files
from finetui.engine.errors import BadInput, reason_of
from finetui.engine.protocol.events import CheckpointSaved, Rewound
from finetui.engine.protocol.values import KeptCheckpoint
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.journal import JournalReader
from finetui.engine.text import similar

LAST, PREVIOUS, BEST = "last", "previous", "best"
AUTOMATIC = (LAST, PREVIOUS, BEST)  # written again and again; all others stay as they are


def of(folder: RunFolder) -> tuple[KeptCheckpoint, ...]:
    """Return the checkpoints that the journal in `folder` tells of, and that are there. Raises `BadInput`."""
    kept: tuple[KeptCheckpoint, ...] = ()
    for event in JournalReader(folder.journal).read():
        if isinstance(event, CheckpointSaved | Rewound) and event.kept:
            kept = event.kept
    return tuple(one for one in kept if (folder.path / one.file).is_file())


def find(kept: tuple[KeptCheckpoint, ...], name: str) -> KeptCheckpoint:
    """Return the one of `kept` that is called `name`. Raises `BadInput` that lists them when there is none."""
    found = next((one for one in kept if one.name == name), None)
    if found is None:
        close = similar(name, [one.name for one in kept])
        known = ", ".join(f"{one.name} (step {one.step:,})" for one in kept) or "none yet"
        hint = f"did you mean {' or '.join(close)}? There are" if close else "there are"
        raise BadInput(f"there is no checkpoint {name!r} in this run; {hint}: {known}")
    return found


def pin(folder: RunFolder, kept: tuple[KeptCheckpoint, ...], name: str) -> KeptCheckpoint:
    """Return the checkpoint `name` of `kept` under a name that no later one takes: its own, or that of its step.

    Raises `BadInput` when there is none of that name, or its file cannot be kept.
    """
    found = find(kept, name)
    if name not in AUTOMATIC:
        return found
    same = next((one for one in kept if one.name not in AUTOMATIC and one.at == found.at), None)
    if same is not None:
        return same
    file, pinned, number = folder.path / found.file, f"step-{found.step}", 2
    try:
        # One of that name that the journal does not tell of may be this one, kept before for another run.
        while (path := folder.checkpoint(pinned)).exists() and not path.samefile(file):
            pinned, number = f"step-{found.step}-{number}", number + 1
        if not path.exists():
            files.link(file, path)
    except OSError as error:
        raise BadInput(f"the checkpoint {name} of {folder.name} cannot be kept: {reason_of(error)}") from error
    return msgspec.structs.replace(found, name=pinned, file=path.name)


def lasting(path: Path) -> Path:
    """Return the checkpoint `path` of a run under a name that no later one takes, so that a replay finds it again.

    A file that is no automatic checkpoint of a run, or that cannot be kept (the folder is somebody else's), is returned
    as it is.
    """
    folder = RunFolder(path.parent)
    if path.stem not in AUTOMATIC or not folder.journal.is_file():
        return path
    try:
        return path.with_name(pin(folder, of(folder), path.stem).file)
    except BadInput:
        return path  # it can be read all the same; a replay says if other weights are there by then
