"""How long an engine that has nothing to do waits for somebody to come back."""

import time

from finetui.engine.link.server import Server
from finetui.engine.protocol.events import State

FIRST_CLIENT_SECONDS = 60.0  # an engine that nobody ever connects to leaves after this


class Linger:
    """Answers whether an engine behind `server` stays, whenever it has nothing to do.

    A run that is paused, or whose last dashboard vanished without a goodbye (a connection that broke), is kept for
    `minutes`; nobody comes back to one that was left on purpose, or was never started. A `detached` engine does not
    wait for anybody to come in the first place.
    """

    def __init__(self, server: Server, minutes: float, *, detached: bool = False) -> None:
        self._server = server
        self._seconds = 60 * minutes
        self._detached = detached
        self._state: State = "preparing"
        self._since = time.monotonic()

    def stay(self, state: State) -> bool:
        """Return whether an engine in `state`, in which it takes no step by itself, is to wait on."""
        now = time.monotonic()
        watched = self._server.has_clients()
        if watched or state != self._state:
            self._state, self._since = state, now
        return watched or now - self._since < self._patience(state)

    def _patience(self, state: State) -> float:
        if state == "paused":
            return self._seconds
        if not self._server.ever_connected:
            return 0.0 if self._detached else FIRST_CLIENT_SECONDS
        return self._seconds if self._server.missing and state != "ready" else 0.0
