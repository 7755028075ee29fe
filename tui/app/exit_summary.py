"""What is said when the dashboard is left: what becomes of the run, and how to come back to it."""

import shlex
from collections.abc import Iterator
from pathlib import Path

from finetui.engine.protocol.events import ENDED
from finetui.engine.runs.folder import RunFolder
from finetui.tui.state.parts import last_and_best
from finetui.tui.state.view import View

_LIVE = ("running", "paused")


def run_argument(view: View) -> str:
    """Return what names the run on the command line: its name if it is where runs are by default, else its folder."""
    return RunFolder(Path(view.path)).argument


def watch_command(view: View) -> str:
    """Return the command that watches the run's files again; of a database all runs in it."""
    place = Path(view.path)
    return f"finetui watch {shlex.quote(str(place if place.exists() else view.path.rpartition('#')[0]))}"


def summary(view: View, *, outlives: bool) -> Iterator[str]:
    """Yield the lines that stay on the terminal; `outlives` tells whether the engine goes on without a dashboard."""
    if not view.path:
        return
    if view.only_files:
        said = last_and_best(view.evaluation, view.best_accuracy, view.others.get("test"), view.watched)
        yield f"{view.name}: watched up to step {view.step:,}" + (f", {said}" if said else "")
        yield f"  watch again:  {watch_command(view)}"
        return
    run = run_argument(view)
    if view.state in _LIVE and outlives:
        yield f"{view.name}: {view.state} at step {view.step:,}, {_future(view)}"
        yield f"  reattach:  finetui attach {run}"
        yield f"  stop it:   finetui stop {run}"
        return
    said = last_and_best(view.evaluation, view.best_accuracy, view.others.get("test"), view.watched)
    yield f"{view.name}: {view.state} at step {view.step:,}" + (f", {said}" if said else "")
    yield f"  reopen:  finetui open {run}"
    if view.state in ENDED and view.state != "finished":
        yield f"  resume:  finetui resume {run}"


def outlook(view: View, *, outlives: bool, ended: bool) -> str:
    """Return in one phrase what becomes of the run and how to come back to it; nothing where no run has begun.

    `ended` tells whether an engine that does not outlive its dashboard has ended.
    """
    if not view.path:
        return ""
    if view.only_files:
        return f"{view.name} is not affected: {watch_command(view)}"
    run = run_argument(view)
    if view.state in _LIVE and outlives:
        return f"{view.name} {_future(view)}: finetui attach {run}"
    if view.state in _LIVE and not ended:
        return f"{view.name} could not be saved in time: finetui resume {run}"
    state = "stopped" if view.state in _LIVE else view.state
    return f"{view.name} is {state}: finetui {'open' if state == 'finished' else 'resume'} {run}"


def _future(view: View) -> str:
    if view.state == "paused":
        minutes = view.config.run.linger_minutes
        return f"will be saved and stopped unless a dashboard reattaches within {minutes:g} minutes"
    return "continues without the dashboard"
