"""Links: how a dashboard talks to an engine. One protocol, whether the engine is a thread, a process or a file."""

from typing import Protocol

from finetui.engine.protocol.capabilities import Capabilities
from finetui.engine.protocol.commands import AnyCommand
from finetui.engine.protocol.queues import EventQueue


class Link(Protocol):
    """What a dashboard needs of an engine.

    `run` blocks until the engine is gone or `close` was called, and belongs into a thread of its own. The other
    members may be used from any thread and never block. `outlives` tells whether training goes on after `close`,
    `steers` whether commands reach an engine, `attached` whether that one was there before.
    """

    outlives: bool
    steers: bool
    attached: bool

    @property
    def events(self) -> EventQueue:
        """The engine's events, to be drained by the dashboard."""

    @property
    def capabilities(self) -> Capabilities | None:
        """What is obeyed as long as no event tells that of a run; None: what its state allows."""

    @property
    def over(self) -> bool:
        """Whether there was an engine, and nothing will be answered any more."""

    def run(self) -> None:
        """Bring the engine's events into `events`."""

    def send(self, command: AnyCommand) -> None:
        """Send `command`; its answer comes as an event."""

    def close(self) -> None:
        """Leave: `run` returns soon."""
