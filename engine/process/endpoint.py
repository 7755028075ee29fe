"""An engine's socket, and its log: dashboards attach to it, see and steer it, and leave it, and it goes on."""

import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

from finetui.engine.errors import BadInput, reason_of
from finetui.engine.link import sockets
from finetui.engine.link.server import Server, print_problem
from finetui.engine.process.linger import Linger
from finetui.engine.protocol.events import AnyEvent, RunStarted, State
from finetui.engine.protocol.queues import CommandQueue
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.journal import Journal
from finetui.engine.runs.lock import move_socket

_FIRST_CLIENT_SECONDS = 10.0  # it is on its way, or never comes


class Endpoint:
    """While entered, serves the dashboards of the engine in this process; follows the engine from run to run.

    A run's lock tells where the socket is, and output that goes to a file goes on in the run's own log.
    """

    def __init__(
        self,
        commands: CommandQueue,
        linger_minutes: float,
        *,
        path: Path | None = None,
        log: Path | None = None,
        detached: bool = True,
        complain: Callable[[str], None] = print_problem,
    ) -> None:
        """Listen on the socket `path`, by default on a new one, and on none where there is no place for that.

        `log` is the file, if any, that the process's output goes to until there is a run. `complain` is told what goes
        wrong, from any thread. For the rest see `Linger`. Raises OSError when `path` cannot be used.
        """
        self.path = path
        self._complain = complain
        self._folder: RunFolder | None = None
        self._logs = log is not None
        self._early_log = log
        self._server: Server | None = None
        try:
            self._server = Server(path or sockets.new_path(), commands, on_moved=self._tell, complain=complain)
        except (OSError, BadInput) as error:
            if path is not None:
                raise
            complain(f"no dashboard can attach: {error}")
            return
        self.path = self._server.path
        self._linger = Linger(self._server, linger_minutes, detached=detached)

    def __enter__(self) -> Self:
        """Begin to serve."""
        if self._server is not None:
            self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Say goodbye to everybody."""
        if self._server is not None:
            self._server.stop()

    def forsake(self) -> None:
        """Close what there is of it in this process, without a word: in a forked child it is the parent's."""
        if self._server is not None:
            self._server.forsake()

    def publish(self, event: AnyEvent) -> None:
        """Show `event` to everybody."""
        if isinstance(event, RunStarted):
            self._settle(RunFolder(Path(event.path)))
        if self._server is not None:
            self._server.publish(event)

    def follow(self, journal: Journal) -> None:
        """Greet new dashboards with the history in `journal`."""
        # The log first: whoever is told of the folder takes the output to be there.
        if journal.path is not None:
            self._settle(RunFolder(journal.path.parent))
        if self._server is not None:
            self._server.follow(journal)

    def stay(self, state: State) -> bool:
        """Return whether an engine in `state` is to wait for somebody."""
        return self._server is not None and self._linger.stay(state)

    def await_first_client(self) -> None:
        """Give whoever started an engine that has failed the time to come, and to hear why."""
        deadline = time.monotonic() + _FIRST_CLIENT_SECONDS
        while self._server is not None and not self._server.ever_connected and time.monotonic() < deadline:
            time.sleep(0.01)

    def remove_socket(self) -> None:
        """Take the socket away, where there is no time for more."""
        if self._server is not None:
            self._server.path.unlink(missing_ok=True)

    def remove_early_log(self) -> None:
        """Take the log away that no run has taken over."""
        if self._early_log is not None:
            self._early_log.unlink(missing_ok=True)

    # -- the run's folder -------------------------------------------------------------------------------

    def _settle(self, folder: RunFolder) -> None:
        if folder == self._folder:
            return
        self._folder = folder
        if self._server is not None and self._server.path != self.path:
            self._tell(self._server.path)
        if self._logs:
            try:
                self._open_log(folder.log)
            except OSError as error:  # training is worth more than what is printed meanwhile
                self._complain(f"the log {folder.log} cannot be written: {reason_of(error)}")

    def _open_log(self, path: Path) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        try:
            if self._early_log is not None:
                with self._early_log.open("rb") as source, os.fdopen(descriptor, "ab", closefd=False) as log:
                    shutil.copyfileobj(source, log)
                self._early_log.unlink()
                self._early_log = None
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)
        finally:
            os.close(descriptor)

    def _tell(self, path: Path) -> None:
        """Let those who look for the engine find it at the socket `path`."""
        if self._folder is not None:
            try:
                move_socket(self._folder, str(path))
            except OSError as error:
                self._complain(f"the new socket {path} cannot be announced: {reason_of(error)}")
