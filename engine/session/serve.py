"""One engine: a session, and then the sessions that are asked for from within it."""

from collections.abc import Callable, Sequence
from pathlib import Path

from finetui.engine.distributed.ranks import Ranks
from finetui.engine.machine.watch import MachineWatch
from finetui.engine.protocol.config import RunConfig
from finetui.engine.protocol.events import State
from finetui.engine.protocol.queues import CommandQueue
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.journal import Journal
from finetui.engine.runs.reporter import Sink
from finetui.engine.session.session import Outcome, Session


def serve(
    config: RunConfig,
    commands: CommandQueue,
    sinks: Sequence[Sink],
    *,
    autostart: bool,
    stay: Callable[[State], bool] = lambda _state: False,
    on_journal: Callable[[Journal], None] = lambda _journal: None,
    socket: Path | None = None,
    resume: RunFolder | None = None,
    resume_from: str = "",
    machine: MachineWatch | None = None,
    ranks: Ranks | None = None,
) -> Outcome:
    """Run `config`, then each finetune or branch that a person starts from it; return how the last one ended.

    With `resume` the run in that folder, configured by `config`, goes on first (see `Session`). `on_journal` is told of
    each session's journal before that session's first event. What `machine` sees is journaled. Raises as `Session.run`
    does.
    """
    while True:
        session = Session(
            config,
            commands=commands,
            sinks=sinks,
            autostart=autostart,
            stay=stay,
            socket=str(socket or ""),
            resume=resume,
            resume_from=resume_from,
            machine=machine,
            ranks=ranks,
        )
        # The journal of a run that goes on has a past, which whoever watches has to get first.
        session.open()
        on_journal(session.journal)
        outcome = session.run()
        if outcome.next is None:
            return outcome
        config, autostart, resume, resume_from = outcome.next, True, None, ""
