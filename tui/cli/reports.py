"""Runs and scores as text and JSON on standard output."""

import socket
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from finetui.engine.protocol.events import ClassReport
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.summaries import RunSummary
from finetui.tui.state.run_tree import run_tree

_MOST_HINTS = 5


class Scores(msgspec.Struct, frozen=True, kw_only=True):
    """What `finetui evaluate --json` prints. `confusion` has a row for each true class, a column for each predicted."""

    accuracy: float
    loss: float
    n: int
    per_class: tuple[ClassReport, ...]
    confusion: list[list[int]]


def print_json(value: object) -> None:
    """Print `value` as one line of JSON."""
    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")


def table(rows: Sequence[Sequence[str]], right: frozenset[int]) -> str:
    """Return `rows` (the first is the heading) as aligned text; columns in `right` are right-aligned."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)


def print_runs(found: Sequence[RunSummary], *, as_json: bool) -> None:
    """Print the runs as a table, or as one JSON list."""
    if as_json:
        print_json(found)
        return
    if not found:
        print("No runs yet. `finetui` starts one.")
        return
    rows = [("NAME", "STATE", "DATA", "MODEL", "EPOCH", "STEP", "BEST", "STARTED", "PARENT")]
    for prefix, run in run_tree(found):
        best = "-" if run.best_accuracy is None else f"{run.best_accuracy:.2%}"
        started = run.started[:16].replace("T", " ")
        where = (prefix + run.name, run.state, run.data, run.model, str(run.epoch), str(run.step))
        rows.append((*where, best, started or "-", run.parent or "-"))
    print(table(rows, right=frozenset({4, 5, 6})))
    hints = list(_hints(found))
    if hints:
        print()
        print(table(hints, right=frozenset()))


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


def print_scores(scores: Scores, *, as_json: bool) -> None:
    """Print the scores as a table, or as one JSON object."""
    if as_json:
        print_json(scores)
        return
    print(f"accuracy {scores.accuracy:.2%}   loss {scores.loss:.4f}   images {scores.n}\n")
    rows = [("CLASS", "SUPPORT", "PRECISION", "RECALL", "F1", "ACCURACY")]
    rows += [
        (c.label, str(c.support), f"{c.precision:.4f}", f"{c.recall:.4f}", f"{c.f1:.4f}", f"{c.accuracy:.2%}")
        for c in scores.per_class
    ]
    print(table(rows, right=frozenset(range(1, 6))))
