"""Lets dashboards attach to a training in this process: they see it, steer it, and leave it, and it goes on."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from finetui.engine.errors import BadInput
from finetui.engine.link import sockets
from finetui.engine.link.server import Server
from finetui.engine.process.linger import Linger
from finetui.engine.protocol.events import AnyEvent, RunStarted, State
from finetui.engine.protocol.queues import CommandQueue
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.journal import Journal
from finetui.engine.runs.lock import move_socket


class Endpoint:
    """The dashboards of a training that ends by itself, with the last epoch; there may be none, and no socket."""

    def __init__(self, commands: CommandQueue, linger_minutes: float) -> None:
        self.path: Path | None = None
        self._folder: RunFolder | None = None
        self._server: Server | None = None
        try:
            self._server = Server(sockets.new_path(), commands, on_moved=self._on_moved)
        except (OSError, BadInput) as error:
            print(f"finetui: no dashboard can attach: {error}", file=sys.stderr)
            return
        self.path = self._server.path
        self._linger = Linger(self._server, linger_minutes, detached=True)
        self._server.start()

    def publish(self, event: AnyEvent) -> None:
        """Show `event` to everybody."""
        if isinstance(event, RunStarted):
            self._settle(RunFolder(Path(event.path)))
        if self._server is not None:
            self._server.publish(event)

    def follow(self, journal: Journal) -> None:
        """Greet new dashboards with the history in `journal`."""
        if journal.path is not None:
            self._settle(RunFolder(journal.path.parent))
        if self._server is not None:
            self._server.follow(journal)

    def stay(self, state: State) -> bool:
        """Return whether the training is to wait: only while somebody who paused it may go on with it."""
        return state == "paused" and self._server is not None and self._linger.stay(state)

    def close(self) -> None:
        """Say goodbye to everybody."""
        if self._server is not None:
            self._server.stop()

    def remove_socket(self) -> None:
        """Take the socket away, where there is no time for more."""
        if self._server is not None:
            self._server.path.unlink(missing_ok=True)

    def _settle(self, folder: RunFolder) -> None:
        self._folder = folder
        if self._server is not None and self._server.path != self.path:
            self._on_moved(self._server.path)

    def _on_moved(self, path: Path) -> None:
        if self._folder is not None:
            try:
                move_socket(self._folder, str(path))
            except OSError as error:
                print(f"finetui: nobody can be told of the new socket {path}: {error}", file=sys.stderr)


@contextmanager
def serving(commands: CommandQueue, linger_minutes: float) -> Iterator[Endpoint]:
    """Serve dashboards, whose commands go to `commands`, until the block ends."""
    dashboards = Endpoint(commands, linger_minutes)
    try:
        yield dashboards
    finally:
        dashboards.close()
