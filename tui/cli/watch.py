"""`finetui watch`: the runs of others, through the files that they write."""

import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from cyclopts import Parameter

from finetui.engine.errors import BadInput, describe, reason_of
from finetui.engine.protocol.events import AnyEvent, Evaluated, RunPrepared
from finetui.engine.text import clean
from finetui.tui.cli.options import Images, NotifyBy
from finetui.tui.cli.reports import output_width, print_json, table, write_data
from finetui.tui.cli.runs import rows_of

if TYPE_CHECKING:  # numpy and the formats are for those who watch
    from finetui.engine.sources.recognise import Found
    from finetui.engine.sources.watched_runs import WatchedRuns

_LOOK_SECONDS = 1.0


def watch(
    *paths: Annotated[Path, Parameter(name="PATH")],
    once: bool = False,
    images: Images = "auto",
    notify: NotifyBy = "off",
    json: bool = False,
) -> int:
    """Watch any training through the files it writes, as they grow: plots, comparisons and exports.

    Each path is a file, or a folder with one run or many: TensorBoard event files, CSV from Lightning, Ultralytics,
    Keras or timm, JSON lines, the Hugging Face Trainer's trainer_state.json, trackio databases, or finetui's own runs.
    finetui only reads them.

    Parameters
    ----------
    paths
        Files and folders.
    once
        Print what there is now and exit: a table of the runs, or with --json everything known about each.
    json
        Print the events of one run as they come, one JSON object per line.
    """
    from finetui.engine.sources.recognise import KINDS
    from finetui.engine.sources.watched_runs import WatchedRuns

    if not paths:
        raise BadInput(f"watch: name a file or folder that a training writes: {KINDS}")
    watched = WatchedRuns([path.expanduser() for path in paths])
    found = watched.found()
    for note in watched.notes:
        print(clean(note, 4096), file=sys.stderr)
    if not found and (once or json):
        raise BadInput(f"there are no runs yet in {watched.title}; what can be watched: {KINDS}")
    if once and not json:
        rows, right = rows_of(
            [("", run) for run in watched.read()], (), output_width() if sys.stdout.isatty() else None
        )
        print(table(rows, right=right))
        return 0
    if json:
        return _print_events(watched, found, once=once)
    from finetui.tui.app.launch import open_watched

    return open_watched(watched, found[0] if len(found) == 1 else None, images=images, notify=notify)


def _print_events(watched: "WatchedRuns", found: "Sequence[Found]", *, once: bool) -> int:
    """Print the events of a run; of several, their summaries."""
    from finetui.engine.sources.watched_runs import events_of

    if len(found) > 1:
        if not once:
            names = ", ".join(clean(one.name) for one in found[:5])
            raise BadInput(f"--json follows one run, and there are {len(found)} ({names}...); name one, or add --once")
        print_json(watched.read())
        return 0
    only = found[0]
    if only.is_own:
        raise BadInput(f"{only.path} is a run of finetui: finetui log {only.path} --json")
    reader, said = events_of(only), ""
    while True:
        problem = _print_new(reader.read(), only)
        if once:
            if problem:
                raise BadInput(problem)
            return 0
        if problem and problem != said:
            print(problem, file=sys.stderr)
        said = problem
        time.sleep(_LOOK_SECONDS)


def _print_new(events: Iterator[AnyEvent], found: "Found") -> str:
    """Print what is new of the run `found`; return why not all of it can be read, as a sentence; empty: it can."""
    while True:
        try:
            event = next(events, None)
        except OSError as error:  # a file that is gone, or on a network that is: it may come back
            return f"{clean(found.place, 4096)} cannot be read just now: {reason_of(error)}"
        except Exception as error:  # noqa: BLE001  # others write the files, and may go on
            return f"something in {clean(found.place, 4096)} cannot be parsed: {describe(error)}"
        if event is None:
            return ""
        if event.seq >= 0:
            write_data(msgspec.json.encode(_told(event)) + b"\n")


def _told(event: AnyEvent) -> dict[str, Any]:
    """Return `event` without the defaults of a run of finetui's own, for what the files did not tell."""
    found: dict[str, Any] = msgspec.to_builtins(event)
    if isinstance(event, RunPrepared):
        del found["config"]
        found["data"] = {name: value for name, value in found["data"].items() if value}
    if isinstance(event, RunPrepared | Evaluated):
        found = {name: value for name, value in found.items() if value or name in ("seq", "step", "loss", "accuracy")}
    return found
