"""Ending a run whose engine is somewhere else: by its socket or, where that cannot be reached, by a signal."""

import os
import signal
import sys
import threading
import time
from contextlib import suppress

from finetui.engine.errors import BadInput, FinetuiError
from finetui.engine.link.socket_link import NO_ANSWER, AttachLink, own_name
from finetui.engine.protocol.commands import Stop
from finetui.engine.protocol.events import Audience, CommandAccepted, CommandRefused, State, StateChanged
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.lock import Holder, holder_of, is_live
from finetui.engine.runs.summaries import summarise_run

_POLL_SECONDS = 0.05
_REMARK_SECONDS = 10.0  # until it is said that this takes a while
_LEAVING_SECONDS = 3.0  # for the engine to leave, once it is stopped and nobody else watches
_SIGNAL_SECONDS = 60.0


def stop_run(folder: RunFolder) -> str:
    """Have the run in `folder` saved and stopped, wait for it, and return in a line how that ended.

    Raises `BadInput` when no engine has it, or one that cannot be told from here, and `FinetuiError` when it fails.
    """
    try:
        link = AttachLink(folder, name=f"finetui stop by {own_name()}")
    except BadInput:
        there = holder_of(folder)
        if there is None or not there.is_here:
            raise
        return _terminate(folder, there)
    return _Stopping(folder, link).run()


class _Stopping:
    """Waits for what becomes of a `Stop`."""

    def __init__(self, folder: RunFolder, link: AttachLink) -> None:
        self._folder = folder
        self._link = link
        self._stop = Stop()
        self._state: State = "preparing"
        self._reason = ""
        self._step = 0
        self._alone = True

    def run(self) -> str:
        thread = threading.Thread(target=self._link.run, name="finetui-stop", daemon=True)
        thread.start()
        self._link.send(self._stop)
        refused = self._wait(thread)
        self._link.close()
        thread.join()
        if self._state == "crashed":
            raise FinetuiError(self._reason)
        if refused is not None and self._state not in ("finished", "stopped"):
            raise FinetuiError(f"the run {self._folder.name} was not stopped: {refused}")
        if self._alone:
            _wait_until_free(self._folder, _LEAVING_SECONDS)
        already = "already " if refused is not None else ""
        why = f" ({self._reason})" if self._reason else ""
        return f"{self._folder.name}: {already}{self._state} at step {self._step:,}{why}"

    def _wait(self, thread: threading.Thread) -> str | None:
        """Return why the engine refused to stop; None when it did as it was told, or has ended."""
        remark_at = time.monotonic() + _REMARK_SECONDS
        while True:
            ended = not thread.is_alive()
            for event in self._link.events.drain():
                self._step = event.step if event.seq >= 0 else self._step
                match event:
                    case StateChanged():
                        self._state, self._reason = event.state, event.reason
                    case Audience():
                        self._alone = len(event.names) <= 1
                    case CommandAccepted() if event.command.id == self._stop.id:
                        return None
                    case CommandRefused() if event.command.id == self._stop.id:
                        return None if event.reason in NO_ANSWER else event.reason
            if ended:
                return None
            if time.monotonic() > remark_at:
                remark_at = float("inf")
                print("finetui: waiting for the engine to save and stop ...", file=sys.stderr, flush=True)
            time.sleep(_POLL_SECONDS)


def _wait_until_free(folder: RunFolder, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while is_live(folder):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def _terminate(folder: RunFolder, there: Holder) -> str:
    """Signal the process that has the run, once it is certain that it is that one; it saves, and ends."""
    if not has_open(there.pid, folder):
        raise BadInput(
            f"the run {folder.name} is in use by {there}, which cannot be reached, and whether that is the "
            f"process {there.pid} of this machine cannot be told; end it yourself"
        )
    with suppress(ProcessLookupError):  # it has just ended
        os.kill(there.pid, signal.SIGTERM)
    if not _wait_until_free(folder, _SIGNAL_SECONDS):
        raise FinetuiError(f"the process {there.pid} was asked to end, and is still there after {_SIGNAL_SECONDS:g} s")
    summary = summarise_run(folder)
    how = "ended" if summary is None else f"{summary.state} at step {summary.step:,}"
    return f"{folder.name}: {how} (process {there.pid} could only be reached by a signal)"


def has_open(pid: int, folder: RunFolder) -> bool:
    """Tell whether the process `pid` of this machine has the lock file of the run in `folder` open."""
    import psutil

    lock = os.path.realpath(folder.lock)
    try:
        return any(file.path == lock for file in psutil.Process(pid).open_files())
    except (psutil.Error, OSError, ValueError):
        return False
