"""The link to an engine in a thread of this process."""

import threading

from finetui.engine.errors import FinetuiError
from finetui.engine.machine.watch import MachineWatch
from finetui.engine.protocol.commands import AnyCommand, Stop
from finetui.engine.protocol.config import RunConfig
from finetui.engine.protocol.events import Phase
from finetui.engine.protocol.queues import CommandQueue, EventQueue


class LocalLink:
    """An engine in the thread that calls `run`: for embedding, notebooks and tests. It ends with its dashboard."""

    outlives = False
    steers = True
    attached = False

    def __init__(self, config: RunConfig, *, autostart: bool = False) -> None:
        self.events = EventQueue()
        self._config = config
        self._autostart = autostart
        self._commands = CommandQueue()
        self._closed = threading.Event()

    def run(self) -> None:
        """Run the engine here until `close`. What makes it fail is told by its last event, not raised."""
        self.events.put(Phase(name="Importing PyTorch"))
        from finetui.engine.session.serve import serve

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
            # The session's last event was its failure; a dashboard shows that.
            self._closed.wait()

    def send(self, command: AnyCommand) -> None:
        """Queue `command` for the next step boundary."""
        self._commands.put(command)

    def close(self) -> None:
        """Save and stop."""
        self._closed.set()
        self._commands.put(Stop())
