"""The links to other runs than the one that the dashboard was opened on."""

from pathlib import Path
from typing import TYPE_CHECKING

from finetui.engine.errors import BadInput
from finetui.engine.link.attach_link import AttachLink
from finetui.engine.link.base import Link
from finetui.engine.link.journal_link import JournalLink
from finetui.engine.link.process_link import ProcessLink
from finetui.engine.protocol.commands import ChangeTraining, FinetunePlan
from finetui.engine.protocol.config import SectionName
from finetui.engine.runs import kept_checkpoints
from finetui.engine.runs.derived import child_config
from finetui.engine.runs.folder import RunFolder, no_checkpoint
from finetui.engine.runs.resume import configuration, resumable, with_changes
from finetui.engine.runs.trust import check_trusted, check_trusted_data

if TYPE_CHECKING:
    from finetui.engine.sources.watched_runs import WatchedRuns


def link_to_run(folder: RunFolder, *, reading: bool) -> Link:
    """Return the link to the engine of the run in `folder`, not to be steered with `reading`; else to its journal."""
    try:
        return AttachLink(folder, reading=reading)
    except BadInput:
        return JournalLink(folder)


def link_to_watched(path: Path, watched: "WatchedRuns | None") -> Link | None:
    """Return the link to the files of the run at `path`; None where it is none of others' that are `watched`."""
    found = None if watched is None else watched.named(str(path))
    if found is None or found.is_own:
        return None
    from finetui.engine.link.watch_link import WatchLink  # with what reads all the formats

    return WatchLink(found)


def link_to_resumed(folder: RunFolder, *, own: bool, other: ChangeTraining | None = None) -> ProcessLink:
    """Return the link to a new engine that goes on with the run in `folder`. Raises `BadInput` when it cannot.

    With `own` a person has started that run here, with code of their own if it uses any. It goes on by `other` settings
    if there are any, also where it has finished.
    """
    config = configuration(folder)
    named = {"model": config.model.name, "data": config.data.name} if own else {"model": None, "data": None}
    config = resumable(folder, **named, epochs=other.training.epochs if other is not None else 0)
    if other is not None:
        changes: dict[tuple[SectionName, str], object] = {
            ("training", "epochs"): other.training.epochs,
            ("training", "lr"): other.training.lr,
            ("guards", "early_stop"): other.early_stop,
        }
        config = with_changes(config, changes)
    return ProcessLink(config, autostart=True, resume=folder)


def link_to_finetuned(folder: RunFolder, plan: FinetunePlan, *, own: bool) -> ProcessLink:
    """Return the link to a new engine that trains the finetune `plan` of the run in `folder`; that stays as it is.

    `own` as in `link_to_resumed`. Raises `BadInput` when there can be none.
    """
    config = configuration(folder)
    if not own:
        check_trusted("the run uses", config.model.name, "--model", None)
        if plan.data is None:
            check_trusted_data("the run uses", config.data.name, None)
    checkpoint = folder.checkpoint(plan.checkpoint)
    if not checkpoint.is_file():
        raise no_checkpoint(folder, plan.checkpoint)
    start = kept_checkpoints.lasting(checkpoint.absolute())
    return ProcessLink(child_config(config, plan, start, folder.name), autostart=True)
