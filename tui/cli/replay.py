"""Runs that go on: resumed, branched, rolled back, replayed. What is checked before an engine is started for them."""

from contextlib import closing, nullcontext

import msgspec

import finetui
from finetui.engine.errors import BadInput
from finetui.engine.protocol.config import check_run_name
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.resume import configuration
from finetui.engine.runs.trust import check_run_trusted
from finetui.tui.cli.printers import choose_printer
from finetui.tui.cli.reports import print_json


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


def replay_headless(folder: RunFolder, *, name: str, model: str | None, data: str | None, as_json: bool) -> int:
    """Replay the run in `folder`, say whether it ended with the same weights, and return the exit status."""
    if name:
        check_run_name(name)
        if (folder.path.absolute().parent / name).exists():
            raise BadInput(f"a run named {name!r} exists already; choose another --name")
    check_run_trusted(configuration(folder), model=model, data=data)
    with nullcontext(None) if as_json else closing(choose_printer(as_json=False)) as printer:
        found = finetui.replay_run(folder, name=name, sinks=[] if printer is None else [printer.show])
    recording = found.recording
    same = found.complete and found.different_at is None
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
        return 0 if same else 1
    done = f"replayed {recording.end:,} steps with {_changes(len(recording.changes))} as {found.folder.name}"
    if same:
        digest = recording.weights[recording.end][:16]
        print(f"{done}: the same weights at all {found.compared} checkpoints (SHA-256 {digest}...)")
    elif found.different_at is not None:
        print(f"{done}: the weights differ, first seen at the checkpoint of step {found.different_at:,}")
    else:
        print(f"{done}: it was stopped before the end, so the last weights could not be compared")
    return 0 if same else 1


def _changes(count: int) -> str:
    return "nothing changed by hand" if not count else f"{count} change{'s' if count > 1 else ''} by hand"
