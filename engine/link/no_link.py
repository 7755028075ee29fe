"""The link of a dashboard that shows no run yet."""

from finetui.engine.protocol.commands import AnyCommand
from finetui.engine.protocol.events import CommandRefused
from finetui.engine.protocol.queues import EventQueue


class NoLink:
    """Leads to no engine: nothing is heard, and every command is refused."""

    outlives = True
    steers = False
    attached = False
    over = False
    capabilities = None

    def __init__(self) -> None:
        self.events = EventQueue()

    def run(self) -> None:
        """Return: there is nothing to hear."""

    def send(self, command: AnyCommand) -> None:
        """Refuse `command`."""
        self.events.put(CommandRefused(command=command, reason="there is no run yet"))

    def close(self) -> None:
        """Do nothing: nothing is open."""
