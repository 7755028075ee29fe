"""`finetui open`: the dashboard of a run that nobody trains any more."""

from pathlib import Path

from finetui.engine.runs.folder import find_run
from finetui.tui.cli.options import Images, NotifyBy, Run, RunsDir


def open_run(
    run: Run,
    /,
    *,
    data: str | None = None,
    model: str = "lenet",
    runs_dir: RunsDir = Path("checkpoints"),
    images: Images = "auto",
    notify: NotifyBy = "off",
) -> int:
    """Show a run's dashboard from its journal.

    Parameters
    ----------
    data
        Needed only to see images of data from your own code: module:factory or file.py:factory (runs that code).
    model
        Needed only to look into a network of your own code: module:factory or file.py:factory (runs that code).
    """
    from finetui.tui.app.launch import open_finished_run

    return open_finished_run(find_run(run, runs_dir), data=data, model=model, images=images, notify=notify)
