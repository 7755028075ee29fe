"""`finetui runs`: all runs as a table or as JSON, and what can be done with those that go on or could."""

import socket
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from finetui.engine.predictions.interval import wilson
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.summaries import RunSummary, summarise_runs
from finetui.tui.cli.options import RunsDir
from finetui.tui.cli.reports import output_width, print_json, table
from finetui.tui.state.run_tree import run_tree

_MOST_HINTS = 5
_CI = 7  # the column that is left out of a narrow terminal
_NUMBERS = frozenset({4, 5, 6, _CI, 8, 9})


def list_runs(*, runs_dir: RunsDir = Path("checkpoints"), json: bool = False) -> int:
    """List all runs, newest first.

    Parameters
    ----------
    json
        Print one JSON list.
    """
    found = summarise_runs(runs_dir)
    if json:
        print_json(found)
    else:
        _print(found)
    return 0


def _print(found: Sequence[RunSummary]) -> None:
    if not found:
        print("No runs yet. `finetui` starts one.")
        return
    rows = [
        ("NAME", "STATE", "DATA", "MODEL", "EPOCH", "STEP", "LAST", "95% CI", "BEST ON", "TEST", "STARTED", "PARENT")
    ]
    for prefix, run in run_tree(found):
        best = "-" if run.best_accuracy is None else f"{run.best_accuracy:.2%} {run.part}"
        last, test = ("-" if value is None else f"{value:.2%}" for value in (run.accuracy, run.test_accuracy))
        started = run.started[:16].replace("T", " ")
        where = (prefix + run.name, run.state, run.data, run.model, str(run.epoch), str(run.step))
        rows.append((*where, last, _interval(run), best, test, started or "-", run.parent or "-"))
    printed = table(rows, right=_NUMBERS)
    if sys.stdout.isatty() and max(map(len, printed.splitlines())) > output_width():
        printed = table([(*row[:_CI], *row[_CI + 1 :]) for row in rows], right=_NUMBERS - {_CI})
    print(printed)
    hints = list(_hints(found))
    if hints:
        print()
        print(table(hints, right=frozenset()))


def _interval(run: RunSummary) -> str:
    if run.accuracy is None or not run.evaluated_on:
        return "-"
    low, high = wilson(run.accuracy, run.evaluated_on)
    return f"{100 * low:.2f}-{high:.2%}"


def _hints(found: Sequence[RunSummary]) -> Iterator[tuple[str, str]]:
    """Yield what can be done with runs that go on or could: the command, and why it is that one."""
    for run in found:
        name = RunFolder(Path(run.path)).argument
        here = run.host == socket.gethostname()
        if run.pid is not None and here:
            yield f"finetui attach {name}", f"{run.state}, process {run.pid}"
        elif run.pid is not None:
            yield f"finetui attach {name}", f"{run.state}, on host {run.host}, process {run.pid}"
    ended = [run for run in found if run.pid is None and run.state in ("stopped", "crashed")]
    for run in ended[:_MOST_HINTS]:
        yield f"finetui resume {RunFolder(Path(run.path)).argument}", f"{run.state} at step {run.step:,}"
    if len(ended) > _MOST_HINTS:
        yield "finetui resume RUN", f"{len(ended) - _MOST_HINTS} more are stopped or crashed"
