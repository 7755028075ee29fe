"""The command that prints a run's log: `finetui log`."""

from pathlib import Path

from finetui.engine.errors import BadInput
from finetui.engine.runs.folder import find_run
from finetui.tui.cli.options import Run, RunsDir


def log(
    run: Run,
    /,
    *,
    engine: bool = False,
    follow: bool = False,
    runs_dir: RunsDir = Path("checkpoints"),
    json: bool = False,
) -> int:
    """Print what happened in a run, a line each: when, after how many steps, what, and who asked for it.

    ! marks warnings, ✗ errors, ↶ a return to a checkpoint, and what was undone by one says so.

    Parameters
    ----------
    engine
        Print what the engine and its libraries printed instead, the newest 5,000 lines.
    follow
        Go on until the run ends.
    json
        Print the journal's own events, one JSON object a line.
    """
    from finetui.tui.cli.log_report import print_log

    if engine and json:
        raise BadInput("--engine and --json: what the engine printed is no JSON; choose one of them")
    return print_log(find_run(run, runs_dir), engine=engine, follow=follow, as_json=json)
