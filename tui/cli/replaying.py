"""A run once more, in this process: with what is printed meanwhile, and at the end."""

import signal
from contextlib import closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

import finetui
from finetui.engine.distributed.batch_job import GRACE_SIGNALS
from finetui.engine.distributed.rank_info import rank_info_from
from finetui.engine.errors import FinetuiError
from finetui.engine.process.first_rank import leading
from finetui.engine.process.signals import DOUBLED_SECONDS, EndSignals
from finetui.engine.protocol.queues import CommandQueue
from finetui.engine.protocol.requests import HostRequest
from finetui.engine.runs.folder import RunFolder
from finetui.tui.cli.printers import choose_printer
from finetui.tui.cli.reports import print_json

if TYPE_CHECKING:
    from finetui.engine.session.replay import Replayed


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What `finetui replay --json` prints; `weights` is the SHA-256 of the run's last weights.

    `otherwise` says in what this machine, its packages, the code or the data are not what they were then.
    """

    run: str
    path: str
    steps: int
    changes: int
    compared: int
    same: bool
    different_at: int | None
    weights: str
    otherwise: tuple[str, ...] = ()


def replay_here(task: HostRequest) -> int:
    """Replay the run that `task` names in this process, with the others of its ranks, and return the exit status."""
    info, commands = rank_info_from(), CommandQueue()
    numbers = [signal.SIGINT, signal.SIGTERM, *GRACE_SIGNALS] if info.world > 1 else []
    signals = EndSignals(numbers, commands, lambda: None, doubled_seconds=DOUBLED_SECONDS)
    with nullcontext(None) if task.json else closing(choose_printer(as_json=False)) as printer, signals:
        try:
            with leading(info, task, signals, lambda: None) as ranks:
                shown = [] if printer is None else [printer.show]
                found = finetui.replay_run(
                    RunFolder(Path(task.replay)),
                    name=task.name,
                    commands=commands,
                    sinks=[signals.note, *shown],
                    ranks=ranks,
                )
        except FinetuiError:
            if printer is not None:
                printer.take_failure()  # the error says it
            raise
    same = found.complete and found.different_at is None
    _print(found, same, as_json=task.json)
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
            otherwise=found.otherwise,
        )
        print_json(report)
        return
    done = f"replayed {recording.end:,} steps with {_changes(len(recording.changes))} as {found.folder.name}"
    if same:
        digest = recording.weights[recording.end][:16]
        print(f"{done}: the same weights at all {found.compared} checkpoints (SHA-256 {digest}...)")
    elif found.different_at is not None:
        print(f"{done}: the weights differ, first seen at the checkpoint of step {found.different_at:,}")
        if found.otherwise:
            print(f"what has changed since: {'; '.join(found.otherwise)}")
    else:
        print(f"{done}: it was stopped before the end, so the last weights could not be compared")


def _changes(count: int) -> str:
    return "nothing changed by hand" if not count else f"{count} change{'s' if count > 1 else ''} by hand"
