"""Training without a dashboard: progress for a person, the tutorial's lines for a file, or JSON."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import finetui
from finetui.engine.errors import BadInput, FinetuiError
from finetui.engine.machine.watch import MachineWatch
from finetui.engine.process.endpoint import Endpoint
from finetui.engine.process.memory import keep_freed
from finetui.engine.process.signals import EndSignals
from finetui.engine.protocol.commands import Stop
from finetui.engine.protocol.config import RunConfig
from finetui.engine.protocol.events import AnyEvent, Phase
from finetui.engine.protocol.queues import CommandQueue
from finetui.engine.runs.folder import RunFolder
from finetui.tui.cli.lost_output import LostOutput
from finetui.tui.cli.printers import choose_printer

_ONE_WISH_SECONDS = 0.25  # `timeout` sends its signal twice, and means it once


@contextmanager
def _hangups_ignored() -> Iterator[None]:
    """Let the terminal close: a training that only prints to it has nothing to do with that."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


def train_headless(config: RunConfig, *, as_json: bool, resume: RunFolder | None = None, resume_from: str = "") -> int:
    """Train `config` in this process, where dashboards may attach to it, and return the exit status.

    `resume` is the folder of a run, configured by `config`, that goes on from its last checkpoint, or from the one that
    is kept as `resume_from`.
    """
    keep_freed()
    commands = CommandQueue()
    printer = choose_printer(as_json=as_json)
    output = LostOutput(on_left=lambda: commands.put(Stop()))

    def show(event: AnyEvent) -> None:
        with output.printing():
            printer.show(event)

    with _hangups_ignored(), Endpoint(commands, config.run.linger_minutes) as endpoint:

        def abandon() -> None:
            endpoint.remove_socket()
            printer.abandon()

        signals = EndSignals([signal.SIGINT, signal.SIGTERM], commands, abandon, doubled_seconds=_ONE_WISH_SECONDS)
        try:
            with signals, MachineWatch(endpoint.publish) as machine:
                show(Phase(name="Importing PyTorch"))
                finetui.serve(
                    config,
                    commands,
                    [signals.note, endpoint.publish, show],
                    autostart=True,
                    # With the last epoch it ends by itself; only who has paused it may go on with it.
                    stay=lambda state: state == "paused" and signals.caught is None and endpoint.stay(state),
                    on_journal=endpoint.follow,
                    socket=endpoint.path,
                    resume=resume,
                    resume_from=resume_from,
                    machine=machine,
                )
        except FinetuiError as error:
            if signals.status is not None:
                return signals.status
            kind = BadInput if isinstance(error, BadInput) else FinetuiError
            raise kind(printer.take_failure() or str(error)) from error
        finally:
            with output.printing():
                printer.close()
    return signals.status or int(output.left)
