"""The commands for runs that an engine has now: `finetui attach`, `stop` and `rollback`."""

import shlex
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from finetui.engine.errors import BadInput
from finetui.engine.runs.folder import RunFolder, find_run, find_run_at
from finetui.engine.runs.lock import is_live, live_runs
from finetui.tui.cli.complete import live
from finetui.tui.cli.options import Images, NotifyBy, RunAt, RunsDir, one_checkpoint


def attach(
    run: Annotated[str | None, Parameter(completer=live)] = None,
    /,
    *,
    read_only: bool = False,
    runs_dir: RunsDir = Path("checkpoints"),
    images: Images = "auto",
    notify: NotifyBy = "off",
) -> int:
    """Open the dashboard of a live run: its whole history, then live updates.

    Any number of dashboards can watch and steer one run. Closing one does not affect the run.

    Parameters
    ----------
    run
        The run: its name or its folder (default: the newest live one).
    read_only
        Only look: this dashboard cannot steer the run.
    """
    from finetui.tui.app.launch import open_attached

    return open_attached(_chosen(run, runs_dir), reading=read_only, images=images, notify=notify)


def _chosen(run: str | None, runs_dir: Path) -> RunFolder:
    if run is not None:
        return find_run(run, runs_dir)
    live = live_runs(runs_dir)
    if not live:
        raise BadInput(f"no run in {runs_dir} is live; `finetui runs` lists them all, `finetui` starts a new one")
    return live[0]


def stop(
    run: Annotated[str, Parameter(help="The run: its name or its folder.", completer=live)],
    /,
    *,
    runs_dir: RunsDir = Path("checkpoints"),
) -> int:
    """Save a run and stop it, wherever it was started."""
    from finetui.tui.cli.steer import stop_run

    print(stop_run(find_run(run, runs_dir)))
    return 0


def rollback(
    run: RunAt,
    checkpoint: str = "",
    /,
    *,
    rate_factor: float = 1.0,
    runs_dir: RunsDir = Path("checkpoints"),
) -> int:
    """Roll a live run back to one of its checkpoints; it continues from there.

    The state it leaves becomes the checkpoint `previous`. Roll back a run that is not live with
    `finetui resume RUN:CHECKPOINT`.

    Parameters
    ----------
    checkpoint
        last, previous, best, or a name that you gave, if RUN does not name it.
    rate_factor
        Multiply the learning rate by this (default: 1).
    """
    from finetui.tui.cli.steer import roll_back

    folder, named = find_run_at(run, runs_dir)
    checkpoint = one_checkpoint(named, checkpoint)
    if not checkpoint:
        raise BadInput(f"rollback: name the checkpoint too: finetui rollback {folder.argument}:CHECKPOINT")
    if not is_live(folder):
        raise BadInput(f"the run {folder.name} is not live: finetui resume {folder.argument}:{shlex.quote(checkpoint)}")
    print(roll_back(folder, checkpoint, rate_factor))
    return 0
