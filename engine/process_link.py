"""The link to an engine in a process of its own, through a Unix socket: the training outlives the terminal."""

import os
import secrets
import selectors
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import msgspec

from engine.commands import AnyCommand
from engine.config import RunConfig
from engine.errors import BadInput, FinetuiError
from engine.events import ENDED, AnyEvent, Log, RunPrepared, RunStarted, State, StateChanged
from engine.host import HostRequest, Inspection
from engine.journal import JournalReader
from engine.queues import EventQueue
from engine.runs import RunFolder
from engine.text import clean
from engine.wire import FrameReader, ServerFrame, Welcome, encode_frame

_CONNECT_SECONDS = 30.0
_READ_SIZE = 65536


def runtime_folder() -> Path:
    """Return the private folder (mode 0700) that sockets live in, making it if need be.

    Raises `BadInput` when there is a folder of that name that belongs to somebody else or is open to others.
    """
    base = os.environ.get("XDG_RUNTIME_DIR")
    folder = Path(base) / "finetui" if base else Path(tempfile.gettempdir()) / f"finetui-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
    except OSError as error:
        raise BadInput(
            f"the folder {clean(str(folder))} for sockets cannot be used: {error.strerror or error}"
        ) from error
    if status.st_uid != os.getuid() or status.st_mode & 0o077 or folder.is_symlink():
        raise BadInput(
            f"the folder {clean(str(folder))} for sockets is not private to you; remove it or set XDG_RUNTIME_DIR"
        )
    return folder


class ProcessLink:
    """Starts an engine process and talks to it."""

    outlives = True
    steers = True

    def __init__(
        self, task: RunConfig | Inspection, *, autostart: bool = False, events: EventQueue | None = None
    ) -> None:
        """Choose a socket; `events` is the queue to fill, by default one of its own.

        Raises `BadInput` when there is no safe place for a socket.
        """
        self.events = EventQueue() if events is None else events  # an empty queue is false
        self._task = task
        self._autostart = autostart
        stem = runtime_folder() / f"{os.getpid()}-{secrets.token_hex(4)}"
        self._socket_path = stem.with_suffix(".sock")
        self._log_path = stem.with_suffix(".log")
        self._outgoing = bytearray()
        self._outgoing_lock = threading.Lock()
        self._closed = threading.Event()
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_writer.setblocking(False)
        self._state: State = "preparing"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The engine's process id, once it was started."""
        return self._process.pid if self._process else None

    def run(self) -> None:
        """Start the engine and pass its events on until it ends or `close` is called."""
        try:
            self._process = self._spawn()
            connection = self._connect()
            if connection is None:
                self._process.terminate()  # nobody saw it, so nobody asked it to go on
            else:
                with connection:
                    self._exchange(connection)
        except (OSError, FinetuiError) as error:
            self._report_loss(clean(str(error)))
        else:
            if not self._closed.is_set():
                self._report_loss("")
        if isinstance(self._task, Inspection):
            self._log_path.unlink(missing_ok=True)  # a run would have taken it over

    def send(self, command: AnyCommand) -> None:
        """Queue `command` for the engine."""
        with self._outgoing_lock:
            self._outgoing += encode_frame(command)
        self._wake()

    def close(self) -> None:
        """Disconnect after what was sent; a running engine goes on, one with nothing to do ends."""
        self._closed.set()
        self._wake()

    def _wake(self) -> None:
        with suppress(BlockingIOError):  # its buffer is full: the selector is awake already
            self._wake_writer.send(b"\0")

    def _spawn(self) -> "subprocess.Popen[bytes]":
        request = HostRequest(
            config=self._task if isinstance(self._task, RunConfig) else None,
            inspection=self._task if isinstance(self._task, Inspection) else None,
            socket=str(self._socket_path),
            log=str(self._log_path),
            autostart=self._autostart,
        )
        with self._log_path.open("wb") as log:
            process = subprocess.Popen(
                # -P: a folder named `engine` where the user happens to be must not be taken for this package.
                [sys.executable, "-P", "-m", "engine.host"],
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
        deadline = time.monotonic() + _CONNECT_SECONDS
        while not self._closed.is_set():
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                connection.connect(str(self._socket_path))
            except (FileNotFoundError, ConnectionRefusedError):
                connection.close()
                if self._process.poll() is not None:
                    raise FinetuiError("the engine process ended before it could be reached") from None
                if time.monotonic() > deadline:
                    raise FinetuiError("the engine process could not be reached") from None
                self._closed.wait(0.02)
            else:
                return connection
        return None

    def _exchange(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        reader = FrameReader[ServerFrame](msgspec.msgpack.Decoder(ServerFrame))
        history = _History()
        with selectors.DefaultSelector() as selector:
            selector.register(connection, selectors.EVENT_READ)
            selector.register(self._wake_reader, selectors.EVENT_READ)
            while True:
                for key, mask in selector.select():
                    if key.fileobj is self._wake_reader:
                        self._wake_reader.recv(4096)
                    elif mask & selectors.EVENT_READ:
                        data = connection.recv(_READ_SIZE)
                        if not data:
                            return
                        for frame in reader.feed(data):
                            for event in history.expand(frame):
                                self._pass_on(event)
                unsent = self._send_waiting(connection)
                if self._closed.is_set() and not unsent:
                    return
                selector.modify(connection, selectors.EVENT_READ | (selectors.EVENT_WRITE if unsent else 0))

    def _send_waiting(self, connection: socket.socket) -> bool:
        with self._outgoing_lock:
            if self._outgoing:
                try:
                    sent = connection.send(self._outgoing)
                    del self._outgoing[:sent]
                except BlockingIOError:
                    pass  # the selector says when there is room
            return bool(self._outgoing)

    def _pass_on(self, event: AnyEvent) -> None:
        if isinstance(event, StateChanged):
            self._state = event.state
        elif isinstance(event, RunPrepared):
            self._state = "preparing"
        elif isinstance(event, RunStarted):
            # The engine's output goes to the run's own log from here on.
            self._log_path.unlink(missing_ok=True)
            self._log_path = RunFolder(Path(event.path)).log
        self.events.put(event)

    def _report_loss(self, problem: str) -> None:
        """Tell that the engine is gone, unless it said goodbye itself."""
        status = self._process.wait() if self._process and not problem else None
        if self._state not in ENDED:
            how = problem or (f"killed by signal {-status}" if status and status < 0 else f"exit status {status}")
            tail = clean(log_tail(self._log_path), 300)
            reason = f"the engine process ended unexpectedly ({how})" + (f": {tail}" if tail else "")
            self.events.put(StateChanged(state="crashed", reason=reason))
        elif not problem:
            self.events.put(Log(level="info", message="the engine has ended"))


class _History:
    """Puts the journal's past before the live events, each event once."""

    def __init__(self) -> None:
        self._read_up_to = -1

    def expand(self, frame: ServerFrame) -> list[AnyEvent]:
        if isinstance(frame, Welcome):
            if not frame.journal:
                return []
            events = [e for e in JournalReader(Path(frame.journal)).read() if e.seq < frame.next_seq]
            self._read_up_to = frame.next_seq - 1
            return events
        if frame.seq == 0:  # another session's first event: its journal begins anew
            self._read_up_to = -1
        return [] if 0 <= frame.seq <= self._read_up_to else [frame]


def log_tail(path: Path, lines: int = 3) -> str:
    """Return the last lines of the log file `path`, or an empty string if there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(path.stat().st_size - 4096, 0))
            return " / ".join(file.read().decode(errors="replace").strip().splitlines()[-lines:])
    except OSError:
        return ""
