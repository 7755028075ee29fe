"""The link to an engine that is there already."""

import socket
import time
from contextlib import suppress

from finetui.engine.errors import BadInput, FinetuiError, reason_of
from finetui.engine.link import sockets
from finetui.engine.link.socket_link import SocketLink
from finetui.engine.protocol.events import Log
from finetui.engine.runs.folder import RunFolder, is_own_loop
from finetui.engine.runs.lock import Holder, holder_of
from finetui.engine.runs.summaries import summarise_run

_ANEW_SECONDS = 180.0  # that torchrun may take to have its processes train again


class AttachLink(SocketLink):
    """A dashboard on a run that an engine has already: the whole history first, and then live."""

    attached = True

    def __init__(self, folder: RunFolder, *, reading: bool = False, name: str | None = None) -> None:
        """Connect to the engine that has the run in `folder`; with `reading` it is not steered from here.

        Raises `BadInput` when no engine has it, when that is on another host, and when it cannot be reached.
        """
        super().__init__(reading=reading, name=name)
        self.folder = folder
        self.holder = attachable(folder)
        try:
            self._connection = self._connected(self.holder.socket)
        except (OSError, sockets.Stranger) as error:
            reason = reason_of(error)
            raise BadInput(
                f"the engine of the run {folder.name} ({self.holder}) cannot be reached: {reason}; "
                f"`finetui open {folder.argument}` follows its journal"
            ) from error

    def _run(self) -> None:
        problem = ""
        connection = self._connection
        while connection is not None:
            try:
                self._converse(connection)
            except (OSError, FinetuiError) as error:
                problem = reason_of(error)
            connection = self._started_anew()
        if self._closed.is_set():
            return
        if self._history.goodbye is None and self._is_alive():
            self._report_lost(f"the engine ({self.holder})")
        else:
            self._report_end(problem, self.folder.log if self.folder else None)

    def _started_anew(self) -> socket.socket | None:
        """Return a connection to the engine that torchrun starts in place of one that has failed; None: it does not."""
        if self._closed.is_set() or not self.holder.restarts_left or self._state in ("finished", "stopped"):
            return None
        if self.folder is None or (self._history.goodbye is None and self._is_alive()):
            return None
        self.events.put(Log(level="warning", message="a process of the run has failed; torchrun starts all anew"))
        deadline = time.monotonic() + _ANEW_SECONDS
        while not self._closed.wait(0.2) and time.monotonic() < deadline:
            there = holder_of(self.folder)
            if there is not None and there.pid != self.holder.pid and there.socket:
                with suppress(OSError, FinetuiError):  # it is not there yet
                    connection = self._connected(there.socket)
                    self.holder = there
                    return connection
        return None

    def _is_alive(self) -> bool:
        there = holder_of(self.folder) if self.folder else None
        return there is not None and there.pid == self.holder.pid

    def _address(self) -> str:
        there = holder_of(self.folder) if self.folder else None
        return there.socket if there is not None else self.holder.socket


def attachable(folder: RunFolder) -> Holder:
    """Return who has the run in `folder`, with a socket on this machine. Raises `BadInput` that says what to do."""
    there = holder_of(folder)
    if there is None:
        raise BadInput(not_live(folder))
    if not there.is_here:
        raise BadInput(f"the run {folder.name} is on host {there.host} (process {there.pid}); attach there")
    if not there.socket:
        raise BadInput(
            f"the run {folder.name} belongs to {there}, which serves no dashboards; "
            f"`finetui open {folder.argument}` follows its journal"
        )
    return there


def not_live(folder: RunFolder) -> str:
    """Return in a sentence that no engine has the run in `folder`, and what can be done with it."""
    summary = summarise_run(folder)
    state = "not live" if summary is None else summary.state
    look = f"`finetui open {folder.argument}` shows it"
    more = "" if state == "finished" or is_own_loop(folder) else f", `finetui resume {folder.argument}` goes on with it"
    return f"the run {folder.name} is {state}: no engine is running it; {look}{more}"
