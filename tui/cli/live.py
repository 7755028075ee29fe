"""The commands for runs that an engine has now: `finetui attach` and `finetui stop`."""

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from finetui.engine.errors import BadInput
from finetui.engine.runs.folder import RunFolder, find_run
from finetui.engine.runs.lock import live_runs
from finetui.tui.cli.options import Images, NotifyBy

RunsDir = Annotated[Path, Parameter(help="Folder that holds the runs (default: checkpoints).")]


def add_to(app: App) -> None:
    """Make the commands part of `app`."""
    app.command(attach)
    app.command(stop)


def attach(
    run: str | None = None,
    /,
    *,
    read_only: bool = False,
    runs_dir: RunsDir = Path("checkpoints"),
    images: Images = "auto",
    notify: NotifyBy = "off",
) -> int:
    """Open the dashboard of a run that is going on: its whole history, and then live.

    Any number of dashboards can watch and steer one run. Leaving one changes nothing for the run.

    Parameters
    ----------
    run
        The run: its name or its folder (default: the newest that is going on).
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
        raise BadInput(f"no run in {runs_dir} is going on; `finetui runs` lists them all, `finetui` starts a new one")
    return live[0]


def stop(run: str, /, *, runs_dir: RunsDir = Path("checkpoints")) -> int:
    """Save a run and stop it, wherever it was started.

    Parameters
    ----------
    run
        The run: its name or its folder.
    """
    from finetui.tui.cli.steer import stop_run

    print(stop_run(find_run(run, runs_dir)))
    return 0
