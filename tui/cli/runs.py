"""`finetui runs`: all runs, or those of a filter, as a table or as JSON, and what can be done with some of them."""

import socket
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from finetui.engine.errors import BadInput
from finetui.engine.runs.folder import RunFolder, is_own_loop
from finetui.engine.runs.run_fields import FIELDS, field_named, in_order
from finetui.engine.runs.run_filter import matching, parse_filter
from finetui.engine.runs.summaries import RunSummary, summarise_runs
from finetui.engine.text import meant
from finetui.tui.cli.complete import one_of
from finetui.tui.cli.options import RunsDir
from finetui.tui.cli.reports import output_width, print_json, table
from finetui.tui.state.run_columns import COLUMNS, RunTable, cut
from finetui.tui.state.run_tree import live_first, run_tree

_MOST_HINTS = 5
_OPTIONS = ("--sort", "--reverse", "--columns", "--runs-dir", "--json", "--help")


def list_runs(
    *words: Annotated[
        str, Parameter(name="FILTER", allow_leading_hyphen=True, completer=one_of(*(f"{name}:" for name in FIELDS)))
    ],
    sort: Annotated[str, Parameter(completer=one_of(*FIELDS))] = "",
    reverse: bool = False,
    columns: Annotated[str, Parameter(completer=one_of(*COLUMNS))] = "",
    runs_dir: RunsDir = Path("checkpoints"),
    json: bool = False,
) -> int:
    """List all runs, or those that match a filter: live ones first, then the newest, each below its parent run.

    A filter is one or more of name, state, live, best, last, test, epoch, epochs, step, lr, batch, optimizer, schedule,
    seed, recipe, model, data, part, started, took, size, parent, commit, command, tag and note, with : (contains), = !=
    < <= > or >= and a value; all must match. A bare word is searched for in name, data, model, tags and note. - or
    not negates a term. Quote it for the shell: finetui runs 'lr>0.01 model:resnet18 best>98% tag:keep -state:crashed'

    Parameters
    ----------
    words
        The filter: see above.
    sort
        Field to sort by: numbers highest first, dates newest first, text from A to Z; without the tree.
    reverse
        Reverse that order.
    columns
        Columns, separated by commas, or all (default: as many as fit; piped, all that have a value).
    json
        Print one JSON list of objects with all fields.
    """
    for word in words:
        if word.startswith("--"):
            raise BadInput(f"runs: there is no option {word}; {meant(word, _OPTIONS)}")
    terms = parse_filter(" ".join(words))
    by = field_named(sort, "--sort") if sort else None
    if reverse and by is None:
        raise BadInput("--reverse needs --sort: name a field, as in --sort best --reverse")
    wanted = _chosen_columns(columns)
    every = summarise_runs(runs_dir)
    found = matching(every, terms)
    found = live_first(found) if by is None else in_order(found, by, reverse=reverse)
    if json:
        print_json(found)
    elif not every:
        print(f"No runs yet in {runs_dir}. `finetui` starts one.")
    elif not found:
        print(f"None of the {len(every)} runs in {runs_dir} matches {' '.join(words)}")
    else:
        _print([("", run) for run in found] if by is not None else run_tree(found), wanted)
    return 0


def _chosen_columns(text: str) -> tuple[str, ...]:
    """Return the columns that `text` names, separated by commas or spaces; none for an empty one. Raises `BadInput`."""
    names = tuple(text.replace(",", " ").lower().split())
    if names == ("all",):
        return tuple(COLUMNS)
    for name in names:
        if name not in COLUMNS:
            raise BadInput(f"--columns: there is no column {name!r}; {meant(name, COLUMNS, 'there are, among others')}")
    return names


def rows_of(
    tree: Sequence[tuple[str, RunSummary]], wanted: Sequence[str], width: int | None
) -> tuple[list[list[str]], frozenset[int]]:
    """Return the rows of a table of `tree` (see `run_tree`), heading included, and which columns are right-aligned.

    Its columns are those `wanted`, else as many as `width` cells have room for (None: all). Only a note is ever cut.
    """
    found = RunTable(tree)
    names = list(wanted) or found.fitting(width)
    cells = {name: [COLUMNS[name].heading.upper(), *found.cells[name]] for name in names}
    if width is not None and "note" in names:
        room = found.laid_out(names, width)["note"]
        cells["note"] = [cut(cell, room) for cell in cells["note"]]
    right = frozenset(at for at, name in enumerate(names) if COLUMNS[name].right)
    return [list(row) for row in zip(*(cells[name] for name in names), strict=True)], right


def _print(tree: Sequence[tuple[str, RunSummary]], wanted: Sequence[str]) -> None:
    width = output_width() if sys.stdout.isatty() else None
    rows, right = rows_of(tree, wanted, width)
    print(table(rows, right=right))
    hints = list(_hints([run for _, run in tree]))
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
    ended = [run for run in ended if not is_own_loop(RunFolder(Path(run.path)))]
    for run in ended[:_MOST_HINTS]:
        yield f"finetui resume {RunFolder(Path(run.path)).argument}", f"{run.state} at step {run.step:,}"
    if len(ended) > _MOST_HINTS:
        yield "finetui resume RUN", f"{len(ended) - _MOST_HINTS} more are stopped or crashed"
