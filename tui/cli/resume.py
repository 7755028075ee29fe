"""`finetui resume`, `extend` and `branch`: a run, or a new one, goes on from a checkpoint."""

from pathlib import Path

from finetui.engine.runs.folder import find_run, find_run_at
from finetui.engine.runs.resume import branched, configuration, extended, resumable, with_changes
from finetui.engine.runs.trust import check_run_trusted
from finetui.tui.cli.options import (
    ChangedSettings,
    EarlierCheckpoint,
    OwnData,
    OwnModel,
    Run,
    RunAt,
    RunMode,
    RunsDir,
    WholeNumber,
    one_checkpoint,
)
from finetui.tui.cli.start import start


def resume(
    run: RunAt,
    /,
    *,
    checkpoint: EarlierCheckpoint = "",
    settings: ChangedSettings | None = None,
    mode: RunMode | None = None,
    model: OwnModel = None,
    data: OwnData = None,
    runs_dir: RunsDir = Path("checkpoints"),
) -> int:
    """Resume a run that was stopped, or whose engine was killed, from its last checkpoint, as if uninterrupted.

    What the journal records after that checkpoint is undone, and done again. Other settings apply from there
    on; the journal records the change, and the run's config.toml keeps it.

    RUN:CHECKPOINT resumes from another of its checkpoints: previous, best, or a name that you gave.
    """
    folder, named = find_run_at(run, runs_dir, lost_journal=True)
    checkpoint = one_checkpoint(named, checkpoint)
    changes = (settings or ChangedSettings()).changes()
    more = (settings or ChangedSettings()).epochs or 0
    config = resumable(folder, checkpoint, model=model, data=data, epochs=more)
    return start(with_changes(config, changes), mode or RunMode(), resume=folder, resume_from=checkpoint)


def extend(
    run: Run,
    /,
    *,
    epochs: WholeNumber,
    mode: RunMode | None = None,
    model: OwnModel = None,
    data: OwnData = None,
    runs_dir: RunsDir = Path("checkpoints"),
) -> int:
    """Continue a run, even a finished one, to N epochs in total.

    From there on, its schedule is that of N epochs: one-cycle and cosine raise the rate again. --early-stop no longer
    applies.

    Parameters
    ----------
    epochs
        Total number of epochs, including those already trained.
    """
    folder = find_run(run, runs_dir, lost_journal=True)
    return start(extended(folder, epochs, model=model, data=data), mode or RunMode(), resume=folder)


def branch(
    run: RunAt,
    /,
    *,
    checkpoint: EarlierCheckpoint = "",
    name: str = "",
    epochs: WholeNumber | None = None,
    mode: RunMode | None = None,
    model: OwnModel = None,
    data: OwnData = None,
    runs_dir: RunsDir = Path("checkpoints"),
) -> int:
    """Start a new run that continues from a checkpoint of another one: weights, optimizer, schedule and all.

    It continues from the best checkpoint, or from the one that RUN:CHECKPOINT names: last, previous, or a name that you
    gave. The other run is left unchanged, even while it trains.

    Parameters
    ----------
    name
        Name of the new run (default: the name of the other with -branch).
    epochs
        Total number of epochs (default: as in the other run).
    """
    folder, named = find_run_at(run, runs_dir)
    checkpoint = one_checkpoint(named, checkpoint) or "best"
    check_run_trusted(configuration(folder), model=model, data=data)
    return start(branched(folder, checkpoint, name, epochs), mode or RunMode())
