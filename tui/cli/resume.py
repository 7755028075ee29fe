"""The commands for runs that go on: `finetui resume`, `rollback`, `branch` and `replay`."""

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from finetui.engine.errors import BadInput
from finetui.engine.runs.folder import find_run
from finetui.engine.runs.lock import is_live
from finetui.tui.cli.options import RunMode, WholeNumber
from finetui.tui.cli.start import begin

RunsDir = Annotated[Path, Parameter(help="Folder that holds the runs (default: checkpoints).")]
OwnModel = Annotated[
    str | None, Parameter(help="Needed only for a network of your own code: module:factory or file.py:factory.")
]
OwnData = Annotated[
    str | None, Parameter(help="Needed only for data of your own code: module:factory or file.py:factory.")
]


def add_to(app: App) -> None:
    """Make the commands part of `app`."""
    for command in (resume, rollback, branch, replay):
        app.command(command)


def resume(
    run: str,
    /,
    *,
    checkpoint: str = "",
    way: RunMode | None = None,
    model: OwnModel = None,
    data: OwnData = None,
    runs_dir: RunsDir = Path("checkpoints"),
) -> int:
    """Go on with a run that was stopped, or whose engine was killed, from its last checkpoint, as if nothing had been.

    What the journal tells of after that checkpoint is undone, and done again.

    Parameters
    ----------
    run
        The run: its name or its folder.
    checkpoint
        Go on from this one of its checkpoints instead: previous, best, or the name that you gave it.
    """
    from finetui.engine.runs.resume import resumable

    way = way or RunMode()
    way.check()
    folder = find_run(run, runs_dir, lost_journal=True)
    config = resumable(folder, checkpoint, model=model, data=data)
    return begin(config, way, resume=folder, resume_from=checkpoint)


def rollback(
    run: str,
    checkpoint: str,
    /,
    *,
    rate_factor: float = 1.0,
    runs_dir: RunsDir = Path("checkpoints"),
) -> int:
    """Take a live run back to one of its checkpoints; it goes on from there.

    The state that it leaves becomes the checkpoint `previous`. A run that is not live is taken back with
    `finetui resume RUN --checkpoint NAME`.

    Parameters
    ----------
    run
        The run: its name or its folder.
    checkpoint
        last, previous, best, or the name that you gave it.
    rate_factor
        Multiply the learning rate by this (default: 1).
    """
    from finetui.engine.protocol.commands import RollBack
    from finetui.tui.cli.ask import ask

    folder = find_run(run, runs_dir)
    if not is_live(folder):
        raise BadInput(f"the run {folder.name} is not live: finetui resume {folder.argument} --checkpoint {checkpoint}")
    event = ask(folder, RollBack(checkpoint=checkpoint, rate_factor=rate_factor))
    print(f"{folder.name}: rolled back to {checkpoint}, step {event.step:,}")
    return 0


def branch(
    run: str,
    /,
    *,
    checkpoint: str = "best",
    name: str = "",
    epochs: WholeNumber | None = None,
    way: RunMode | None = None,
    model: OwnModel = None,
    data: OwnData = None,
    runs_dir: RunsDir = Path("checkpoints"),
) -> int:
    """Start a new run that goes on from a checkpoint of another one, weights, optimizer, schedule and all.

    The other run stays as it is, also while it trains.

    Parameters
    ----------
    run
        The run to branch from: its name or its folder.
    checkpoint
        last, previous, best (default), or the name that you gave it.
    name
        Name of the new run (default: that of the other with -branch).
    epochs
        Number of epochs in all (default: as the other run).
    """
    from finetui.engine.runs.resume import branched, configuration
    from finetui.engine.runs.trust import check_run_trusted

    way = way or RunMode()
    way.check()
    folder = find_run(run, runs_dir)
    check_run_trusted(configuration(folder), model=model, data=data)
    config = branched(folder, checkpoint, name, epochs)
    return begin(config, way)


def replay(
    run: str,
    /,
    *,
    name: str = "",
    model: OwnModel = None,
    data: OwnData = None,
    runs_dir: RunsDir = Path("checkpoints"),
    json: bool = False,
) -> int:
    """Run a run again from its journal, with every change by hand at its step, and compare the weights.

    Exit status 0 when they are the same at every checkpoint, 1 when they are not.

    Parameters
    ----------
    run
        The run: its name or its folder.
    name
        Name of the new run (default: that of the old one with -replay).
    json
        Print one JSON object: run, path, steps, changes, compared, same, different_at, weights.
    """
    from finetui.tui.cli.replay import replay_headless

    return replay_headless(find_run(run, runs_dir), name=name, model=model, data=data, as_json=json)
