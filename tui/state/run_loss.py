"""What is lost with a run that is deleted, in words."""

from collections.abc import Iterable, Sequence

from finetui.engine.errors import BadInput, reason_of
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.housekeeping import children_of, foreign_files
from finetui.engine.runs.summaries import folder_size, summarise_run
from finetui.engine.text import clean
from finetui.tui.state.numbers import in_bytes


def loss_of(folder: RunFolder) -> str:
    """Return in a line what is lost with the run in `folder`. Raises `BadInput` where that cannot be read."""
    about = summarise_run(folder)
    parts = [in_bytes(folder_size(folder))]
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
        parts.append(f"and files that are not the run's own: {clean(', '.join(others))}")
    return f"{folder.name}: {'; '.join(parts)}"


def left_without_parent(folders: Iterable[RunFolder]) -> list[tuple[RunFolder, list[RunFolder]]]:
    """Return those of `folders` that runs beside them began from which are to stay, with these. Raises `BadInput`."""
    going = list(folders)
    paths = {folder.path.absolute() for folder in going}
    found = []
    for folder in going:
        staying = [child for child in children_of(folder) if child.path.absolute() not in paths]
        if staying:
            found.append((folder, staying))
    return found


def names_of(folders: Sequence[RunFolder]) -> str:
    """Return the names of runs as one says them."""
    names = [folder.name for folder in folders]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
