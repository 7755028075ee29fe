"""The link to an engine in a thread of this process."""

import threading

from finetui.engine.errors import FinetuiError
from finetui.engine.machine.watch import MachineWatch
from finetui.engine.protocol.commands import AnyCommand, Stop
from finetui.engine.protocol.config import RunConfig
from finetui.engine.protocol.events import CommandRefused, Phase
from finetui.engine.protocol.queues import CommandQueue, EventQueue
from finetui.engine.protocol.state_rules import HAS_ENDED


class LocalLink:
    """An engine in the thread that calls `run`: for embedding, notebooks and tests. It ends with its dashboard."""

    outlives = False
    steers = True
    attached = False
    capabilities = None

    def __init__(self, config: RunConfig, *, autostart: bool = False) -> None:
        self.events = EventQueue()
        self._config = config
        self._autostart = autostart
        self._commands = CommandQueue()
        self._closed = threading.Event()
        self._over = False

    @property
    def over(self) -> bool:
        """Whether the engine has ended, so that nothing will be answered any more."""
        return self._over

    def run(self) -> None:
        """Run the engine here until `close`. What makes it fail is told by its last event, not raised."""
        self.events.put(Phase(name="Importing PyTorch"))
        from finetui.engine.session.serve import serve

        failed = False
        try:
            with MachineWatch(self.events.put) as machine:
                serve(
                    self._config,
                    self._commands,
                    [self.events.put],
                    autostart=self._autostart,
                    stay=lambda _state: not self._closed.is_set(),
                    machine=machine,
                )
        except FinetuiError:
            failed = True
        self._over = True
        self._refuse_the_rest()
        if failed:  # its last event tells of it, and a dashboard shows that
            self._closed.wait()

    def send(self, command: AnyCommand) -> None:
        """Queue `command` for the next step boundary; it is refused where the engine has ended."""
        self._commands.put(command)
        if self._over:
            self._refuse_the_rest()

    def _refuse_the_rest(self) -> None:
        """Refuse what nobody will take any more, also what came just before the end."""
        while (command := self._commands.take()) is not None:
            self.events.put(CommandRefused(command=command, reason=HAS_ENDED))

    def close(self) -> None:
        """Save and stop."""
        self._closed.set()
        self._commands.put(Stop())
