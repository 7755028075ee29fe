"""`finetui replay`: a run once more, and whether it ends with the same weights."""

from contextlib import closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

import finetui
from finetui.engine.errors import BadInput, FinetuiError
from finetui.engine.protocol.config_checks import check_run_name
from finetui.engine.runs.folder import find_run
from finetui.engine.runs.resume import configuration
from finetui.engine.runs.trust import check_run_trusted
from finetui.tui.cli.options import OwnData, OwnModel, Run, RunsDir
from finetui.tui.cli.printers import choose_printer
from finetui.tui.cli.reports import print_json

if TYPE_CHECKING:
    from finetui.engine.session.replay import Replayed


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What `finetui replay --json` prints; `weights` is the SHA-256 of the run's last weights."""

    run: str
    path: str
    steps: int
    changes: int
    compared: int
    same: bool
    different_at: int | None
    weights: str


def replay(
    run: Run,
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
    name
        Name of the new run (default: that of the old one with -replay).
    json
        Print one JSON object: run, path, steps, changes, compared, same, different_at, weights.
    """
    folder = find_run(run, runs_dir)
    if name:
        check_run_name(name)
        if (folder.path.absolute().parent / name).exists():
            raise BadInput(f"a run named {name!r} exists already; choose another --name")
    check_run_trusted(configuration(folder), model=model, data=data)
    with nullcontext(None) if json else closing(choose_printer(as_json=False)) as printer:
        try:
            found = finetui.replay_run(folder, name=name, sinks=[] if printer is None else [printer.show])
        except FinetuiError:
            if printer is not None:
                printer.take_failure()  # the error says it
            raise
    same = found.complete and found.different_at is None
    _print(found, same, as_json=json)
    return 0 if same else 1


def _print(found: "Replayed", same: bool, *, as_json: bool) -> None:
    recording = found.recording
    if as_json:
        report = Report(
            run=found.folder.name,
            path=str(found.folder.path.absolute()),
            steps=recording.end,
            changes=len(recording.changes),
            compared=found.compared,
            same=same,
            different_at=found.different_at,
            weights=recording.weights[recording.end],
        )
        print_json(report)
        return
    done = f"replayed {recording.end:,} steps with {_changes(len(recording.changes))} as {found.folder.name}"
    if same:
        digest = recording.weights[recording.end][:16]
        print(f"{done}: the same weights at all {found.compared} checkpoints (SHA-256 {digest}...)")
    elif found.different_at is not None:
        print(f"{done}: the weights differ, first seen at the checkpoint of step {found.different_at:,}")
    else:
        print(f"{done}: it was stopped before the end, so the last weights could not be compared")


def _changes(count: int) -> str:
    return "nothing changed by hand" if not count else f"{count} change{'s' if count > 1 else ''} by hand"
