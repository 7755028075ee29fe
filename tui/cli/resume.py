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
    """Go on with a run that was stopped, or whose engine was killed, from its last checkpoint, as if nothing had been.

    What the journal tells of after that checkpoint is undone, and done again. With other settings the run is the same
    up to there; the journal tells of the change, and the run's config.toml keeps it.

    RUN:CHECKPOINT goes on from that one of its checkpoints instead: previous, best, or the name that you gave it.
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
    """Let a run, also a finished one, go on to N epochs in all.

    Its schedule is that of N epochs from there on: one-cycle and cosine take their rate up again. It goes on without
    --early-stop.

    Parameters
    ----------
    epochs
        Number of epochs in all, those that it has trained included.
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
    """Start a new run that goes on from a checkpoint of another one, weights, optimizer, schedule and all.

    It goes on from the best one, or from that which RUN:CHECKPOINT names: last, previous, or a name that you gave. The
    other run stays as it is, also while it trains.

    Parameters
    ----------
    name
        Name of the new run (default: that of the other with -branch).
    epochs
        Number of epochs in all (default: as the other run).
    """
    folder, named = find_run_at(run, runs_dir)
    checkpoint = one_checkpoint(named, checkpoint) or "best"
    check_run_trusted(configuration(folder), model=model, data=data)
    return start(branched(folder, checkpoint, name, epochs), mode or RunMode())
