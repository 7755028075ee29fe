"""The link to an engine in a process of its own, through a Unix socket: the training outlives the terminal."""

import socket
import subprocess
import sys
import time
from contextlib import suppress

import msgspec

from finetui.engine.errors import FinetuiError, reason_of
from finetui.engine.link import sockets
from finetui.engine.link.socket_link import SocketLink
from finetui.engine.protocol.config import RunConfig
from finetui.engine.protocol.queues import EventQueue
from finetui.engine.protocol.requests import HostRequest, Inspection
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.lock import holder_of

_CONNECT_SECONDS = 30.0
_LAUNCH_SECONDS = 180.0  # until the first of several processes can be reached: torch is imported before it is started
_EXIT_SECONDS = 10.0  # that an engine may take to leave after its goodbye


class ProcessLink(SocketLink):
    """Starts an engine process and talks to it."""

    def __init__(
        self,
        task: RunConfig | Inspection,
        *,
        autostart: bool = False,
        detached: bool = False,
        resume: RunFolder | None = None,
        resume_from: str = "",
        events: EventQueue | None = None,
    ) -> None:
        """Choose a socket; `events` is the queue to fill, by default one of its own.

        A `detached` engine waits for nobody: it trains, and leaves. `resume` is the folder of a run, configured by
        `task`, that goes on from its last checkpoint, or from the one that is kept as `resume_from`. Raises `BadInput`
        when there is no safe place for a socket.
        """
        super().__init__(events=events)
        self.folder = resume  # a run whose journal was lost does not tell
        self._task = task
        self._autostart = autostart
        self._detached = detached
        self._resume = resume
        self._resume_from = resume_from
        self._socket_path = sockets.new_path()
        self._log_path = self._socket_path.with_suffix(".log")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The engine's process id, once it was started."""
        return self._process.pid if self._process else None

    @property
    def status(self) -> int | None:
        """The engine's exit status, negative for a signal; None while it lives."""
        return self._process.poll() if self._process else None

    def wait(self, seconds: float) -> int | None:
        """Wait for the engine to end, and return its exit status; None if it was not started, or still lives then."""
        if self._process is not None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
        return self.status

    def terminate(self) -> None:
        """Have the process end: what has begun is saved first, and what has not ends soon, whatever it is at."""
        if self._process is not None:
            self._process.terminate()

    def _run(self) -> None:
        problem = ""
        try:
            self._process = self._spawn()
            connection = self._connect()
            if connection is None:
                self._process.terminate()  # nobody saw it, so nobody asked it to go on
            self._converse(connection)
        except (OSError, FinetuiError) as error:
            problem = reason_of(error)
        if problem or not self._closed.is_set():
            self._report(problem)
        if isinstance(self._task, Inspection) or self.status is not None:
            self._remove_early_log()  # a run has taken it over, and nobody asks for any other any more

    def _report(self, problem: str) -> None:
        status = None
        if self._process is not None and not problem:
            status = self.wait(0.2 if self._history.goodbye is None else _EXIT_SECONDS)
            if status is None:
                self._report_lost(f"the engine (process {self._process.pid})")
                return
            problem = f"killed by signal {-status}" if status < 0 else f"exit status {status}"
        self._report_end(problem, self._log_path)

    def _is_alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _address(self) -> str:
        there = holder_of(self.folder) if self.folder else None
        ours = there is not None and self.pid in (there.pid, there.parent)
        return there.socket if there is not None and ours else str(self._socket_path)

    def _settle(self, folder: RunFolder) -> None:
        super()._settle(folder)
        self._remove_early_log()
        self._log_path = folder.log  # the engine's output goes there from here on

    def _remove_early_log(self) -> None:
        self._socket_path.with_suffix(".log").unlink(missing_ok=True)

    def _spawn(self) -> "subprocess.Popen[bytes]":
        request = HostRequest(
            config=self._task if isinstance(self._task, RunConfig) else None,
            inspection=self._task if isinstance(self._task, Inspection) else None,
            socket=str(self._socket_path),
            log=str(self._log_path),
            autostart=self._autostart,
            detached=self._detached,
            resume=str(self._resume.path.absolute()) if self._resume is not None else "",
            resume_from=self._resume_from,
        )
        with self._log_path.open("wb") as log:
            process = subprocess.Popen(
                # -P: a folder named `engine` where the user happens to be must not be taken for this package.
                [sys.executable, "-P", "-m", "finetui.engine.process.host"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        assert process.stdin is not None, "a pipe was asked for"
        process.stdin.write(msgspec.json.encode(request))
        process.stdin.close()
        return process

    def _connect(self) -> socket.socket | None:
        assert self._process is not None, "the engine was started"
        several = isinstance(self._task, RunConfig) and self._task.training.processes > 1
        deadline = time.monotonic() + (_LAUNCH_SECONDS if several else _CONNECT_SECONDS)
        while not self._closed.is_set():
            try:
                return self._connected(str(self._socket_path))
            except (FileNotFoundError, ConnectionRefusedError):
                if self._process.poll() is not None:
                    raise FinetuiError("the engine process ended before it could be reached") from None
                if time.monotonic() > deadline:
                    raise FinetuiError("the engine process could not be reached") from None
                self._closed.wait(0.02)
        return None
