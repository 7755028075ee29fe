"""Training without a dashboard: progress for a person, the tutorial's lines for a file, or JSON."""

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import finetui
from finetui.engine.distributed.batch_job import GRACE_SIGNALS, job_from
from finetui.engine.distributed.rank_info import rank_info_from
from finetui.engine.errors import BadInput, FinetuiError, RankLost
from finetui.engine.machine.watch import MachineWatch
from finetui.engine.process.endpoint import Endpoint
from finetui.engine.process.first_rank import leading
from finetui.engine.process.memory import keep_freed
from finetui.engine.process.signals import DOUBLED_SECONDS, EndSignals
from finetui.engine.protocol.commands import Stop
from finetui.engine.protocol.events import AnyEvent, Phase
from finetui.engine.protocol.queues import CommandQueue
from finetui.engine.protocol.requests import HostRequest
from finetui.engine.runs.begun_runs import JobNote
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.reporter import Sink
from finetui.tui.cli.lost_output import LostOutput
from finetui.tui.cli.printers import choose_printer

if TYPE_CHECKING:
    from finetui.engine.distributed.ranks import Ranks

_ONE_WISH_SECONDS = 0.25  # `timeout` sends its signal twice, and means it once


@contextmanager
def _hangups_ignored() -> Iterator[None]:
    """Let the terminal close: a training that only prints to it has nothing to do with that."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


def train_headless(task: HostRequest) -> int:
    """Train `task` in this process, where dashboards may attach to it, and return the exit status.

    Where this is the first of several processes, the others train with it.
    """
    assert task.config is not None, "what is done without a dashboard is training"
    keep_freed()
    info, commands = rank_info_from(), CommandQueue()
    several, in_job = info.world > 1, job_from() is not None
    printer = choose_printer(as_json=task.json)
    output = LostOutput(on_left=lambda: commands.put(Stop()))

    def show(event: AnyEvent) -> None:
        with output.printing():
            printer.show(event)

    with _hangups_ignored(), Endpoint(commands, task.config.run.linger_minutes) as endpoint:

        def abandon() -> None:
            endpoint.remove_socket()
            printer.abandon()

        signals = EndSignals(
            [signal.SIGINT, signal.SIGTERM, *(GRACE_SIGNALS if several or in_job else ())],
            commands,
            abandon,
            doubled_seconds=DOUBLED_SECONDS if several else _ONE_WISH_SECONDS,
        )
        try:
            with signals:
                show(Phase(name="Importing PyTorch"))
                with leading(info, task, signals, abandon) as ranks:
                    _serve(task, commands, endpoint, signals, [show, JobNote(task.config)], ranks)
        except FinetuiError as error:
            # A launcher ends all ranks by a signal once one is lost; that is not why it has failed.
            if signals.status is not None and not isinstance(error, RankLost):
                return signals.status
            kind = BadInput if isinstance(error, BadInput) else FinetuiError
            raise kind(printer.take_failure() or str(error)) from error
        finally:
            with output.printing():
                printer.close()
    return signals.status or int(output.left)


def _serve(
    task: HostRequest,
    commands: CommandQueue,
    endpoint: Endpoint,
    signals: EndSignals,
    sinks: Sequence[Sink],
    ranks: "Ranks",
) -> None:
    assert task.config is not None, "it trains"
    with MachineWatch(endpoint.publish) as machine:
        finetui.serve(
            task.config,
            commands,
            [signals.note, endpoint.publish, *sinks],
            autostart=True,
            # With the last epoch it ends by itself; only who has paused it may go on with it.
            stay=lambda state: state == "paused" and signals.caught is None and endpoint.stay(state),
            on_journal=endpoint.follow,
            socket=endpoint.path,
            resume=RunFolder(Path(task.resume)) if task.resume else None,
            resume_from=task.resume_from,
            machine=machine,
            ranks=ranks,
        )
