"""The connection to an engine, however that came to be there: what is said over it, and how it is found again."""

import os
import pwd
import selectors
import socket
import threading
import time
from collections import deque
from contextlib import suppress
from pathlib import Path

import msgspec

from finetui.engine.link import sockets
from finetui.engine.link.frames import READS_ONLY, FrameReader, Goodbye, Hello, ServerFrame, Welcome, encode_frame
from finetui.engine.link.history import History
from finetui.engine.protocol.capabilities import narrowed
from finetui.engine.protocol.commands import QUESTIONS, AnyCommand
from finetui.engine.protocol.events import (
    ENDED,
    Answer,
    AnyEvent,
    CommandAccepted,
    CommandRefused,
    Log,
    RunPrepared,
    RunStarted,
    State,
    StateChanged,
)
from finetui.engine.protocol.queues import EventQueue
from finetui.engine.protocol.state_rules import HAS_ENDED
from finetui.engine.runs.folder import RunFolder
from finetui.engine.text import clean

QUEUE_LIMIT = 16_384  # events: a thinned history, and some time in which nobody looks
_READ_SIZE = 65536
_RECONNECT_SECONDS = 1.2  # an engine that cannot be reached for this long is given up
_SHORT_SECONDS = 1.0  # a connection that lasted less is not worth an immediate second try


def own_name() -> str:
    """Return what a dashboard here is called: the user, the terminal, and where that one's SSH client is."""
    try:
        user = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        user = str(os.geteuid())
    words = [user]
    for descriptor in (0, 1, 2):
        with suppress(OSError):
            words.append(os.ttyname(descriptor).removeprefix("/dev/"))
            break
    client = os.environ.get("SSH_CONNECTION", "").split()
    if client:
        words.append(f"from {client[0]}")
    return clean(" ".join(words), 60)


def crash_reason(folder: RunFolder | None, how: str, log: Path | None = None) -> str:
    """Return in one sentence that an engine is gone: `how`, what its log says last, and how its run can go on."""
    reason = f"the engine process ended unexpectedly{f' ({how})' if how else ''}"
    tail = clean(log_tail(log), 300) if log is not None else ""
    if tail:
        reason += f": {tail}"
    if folder is None:
        return reason
    if folder.last.is_file():
        return f"{reason}; `finetui resume {folder.argument}` continues from its last checkpoint"
    return f"{reason}; no checkpoint had been written yet"


def log_tail(path: Path, lines: int = 3) -> str:
    """Return the last lines of the log file `path`, or an empty string if there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(path.stat().st_size - 4096, 0))
            return " / ".join(file.read().decode(errors="replace").strip().splitlines()[-lines:])
    except OSError:
        return ""


_LOST = "the connection to the engine was lost"
NO_ANSWER = frozenset({HAS_ENDED, _LOST})  # why a command is refused that the engine did not answer


class SocketLink:
    """Talks to an engine through a socket, and finds it again where the connection breaks and the engine lives on."""

    outlives = True
    attached = False
    capabilities = None

    def __init__(self, *, events: EventQueue | None = None, reading: bool = False, name: str | None = None) -> None:
        """With `reading` only questions may be sent; `name` is what others see, by default `own_name()`."""
        self.events = EventQueue(QUEUE_LIMIT) if events is None else events  # an empty queue is false
        self.steers = not reading
        self.folder: RunFolder | None = None  # of the run, once there is one
        self._hello = encode_frame(Hello(name=own_name() if name is None else name, reading=reading))
        self._outgoing: deque[tuple[bytes, AnyCommand | None]] = deque()
        self._sent = 0  # bytes of the first of them
        self._unanswered: dict[str, AnyCommand] = {}  # of those that were sent
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._over = False
        self._why_over = HAS_ENDED
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_writer.setblocking(False)
        self._connection: socket.socket | None = None
        self._state: State = "preparing"
        self._history = History()

    def run(self) -> None:
        """Pass the engine's events on until it ends or `close` is called; what it leaves unanswered is refused."""
        try:
            self._run()
        finally:
            with self._lock:
                self._over = True
                left = [*self._unanswered.values(), *(command for _, command in self._outgoing if command is not None)]
            if not self._closed.is_set():
                for command in left:
                    self._refuse(command, self._why_over)

    @property
    def over(self) -> bool:
        """Whether `run` is done, so that nothing will be answered any more."""
        return self._over

    def send(self, command: AnyCommand) -> None:
        """Queue `command` for the engine; it is refused where that one is gone."""
        with self._lock:
            over = self._over
            if not over:
                self._outgoing.append((encode_frame(command), command))
        if over:
            self._refuse(command, self._why_over)
        else:
            self._wake()

    def close(self) -> None:
        """Say goodbye after what was sent, and leave; a running engine goes on, one with nothing to do ends."""
        if not self._closed.is_set():
            with self._lock:
                self._outgoing.append((encode_frame(Goodbye()), None))
            self._closed.set()
        self._wake()

    def vanish(self) -> None:
        """Leave without a goodbye, as a connection that breaks does: somebody may come back to the engine."""
        self._closed.set()
        self._wake()

    def _wake(self) -> None:
        with suppress(BlockingIOError):  # its buffer is full: the selector is awake already
            self._wake_writer.send(b"\0")

    def _refuse(self, command: AnyCommand, reason: str) -> None:
        self.events.put(CommandRefused(command=command, reason=reason))

    # -- what the two links do differently --------------------------------------------------------------

    def _run(self) -> None:
        """Do what `run` says, as far as the engine is there."""
        raise NotImplementedError

    def _is_alive(self) -> bool:
        """Whether the engine's process is still there."""
        raise NotImplementedError

    def _address(self) -> str:
        """Return the path of the engine's socket."""
        raise NotImplementedError

    # -- the connection ---------------------------------------------------------------------------------

    def _converse(self, connection: socket.socket | None) -> None:
        """Pass on what the engine says, over as many connections as it takes, until it ends or `close` is called.

        Raises OSError and `FinetuiError`.
        """
        while connection is not None:
            began = time.monotonic()
            with connection:
                self._exchange(connection)
            if self._closed.is_set() or self._history.goodbye is not None:
                return
            if time.monotonic() - began < _SHORT_SECONDS:
                self._closed.wait(_SHORT_SECONDS / 2)
            connection = self._reconnect()

    def _connected(self, address: str) -> socket.socket:
        """Return a connection to the socket `address` on which the engine was greeted, for it waits for that."""
        connection = sockets.connect(address)
        with suppress(ConnectionError):  # reading will tell why the engine has closed it
            connection.sendall(self._hello)
        return connection

    def _reconnect(self) -> socket.socket | None:
        deadline = time.monotonic() + _RECONNECT_SECONDS
        while self._is_alive() and time.monotonic() < deadline and not self._closed.is_set():
            with suppress(OSError):
                return self._connected(self._address())
            self._closed.wait(0.05)
        return None

    def _exchange(self, connection: socket.socket) -> None:
        self._connection = connection
        lost = self._begin_anew()
        connection.setblocking(False)
        reader = FrameReader[ServerFrame](msgspec.msgpack.Decoder(ServerFrame), lenient=True)
        with selectors.DefaultSelector() as selector:
            selector.register(connection, selectors.EVENT_READ | selectors.EVENT_WRITE)
            selector.register(self._wake_reader, selectors.EVENT_READ)
            while True:
                for key, mask in selector.select():
                    if key.fileobj is self._wake_reader:
                        self._wake_reader.recv(4096)
                    elif mask & selectors.EVENT_READ and not self._hear(connection, reader):
                        return
                lost = self._give_up(lost)
                closed = self._closed.is_set()  # asked first: what `close` says is to be sent
                unsent = self._send_waiting(connection)
                if closed and not unsent:
                    return
                selector.modify(connection, selectors.EVENT_READ | (selectors.EVENT_WRITE if unsent else 0))

    def _begin_anew(self) -> list[AnyCommand]:
        """Send what was sent in part as a whole; return the commands that may have been lost."""
        self._history.begin()
        with self._lock:
            self._sent = 0
            return list(self._unanswered.values())

    def _give_up(self, lost: list[AnyCommand]) -> list[AnyCommand]:
        """Once the past is known again: what is unanswered by now was lost with the connection before."""
        if not lost or not self._history.welcomed:
            return lost
        for command in lost:
            if self._unanswered.pop(command.id, None) is not None:
                self._refuse(command, "the connection to the engine was lost before it was answered; try again")
        return []

    def _hear(self, connection: socket.socket, reader: FrameReader[ServerFrame]) -> bool:
        """Pass on what has arrived; return False when the engine has closed the connection."""
        try:
            data = connection.recv(_READ_SIZE)
        except BlockingIOError:
            return True
        except ConnectionError:
            return False
        for frame in reader.feed(data):
            for event in self._history.expand(frame):
                self._pass_on(event)
                if self._closed.is_set():
                    break
            if isinstance(frame, Welcome) and frame.journal:
                self._settle(RunFolder(Path(frame.journal).parent))
            elif isinstance(frame, RunStarted):
                self._settle(RunFolder(Path(frame.path)))
        return bool(data)

    def _settle(self, folder: RunFolder) -> None:
        """Note which run the engine is busy with now."""
        self.folder = folder

    def _send_waiting(self, connection: socket.socket) -> bool:
        """Send what there is room for, and tell whether something is left."""
        with self._lock:
            with suppress(BlockingIOError, ConnectionError):  # reading will tell what has become of the engine
                while self._outgoing:
                    frame, command = self._outgoing[0]
                    self._sent += connection.send(memoryview(frame)[self._sent :])
                    if self._sent < len(frame):
                        break
                    self._outgoing.popleft()
                    self._sent = 0
                    if command is not None:
                        self._unanswered[command.id] = command
            return bool(self._outgoing)

    def _pass_on(self, event: AnyEvent) -> None:
        match event:
            case StateChanged():
                self._state = event.state
            case RunPrepared():
                self._state = "preparing"
                if not self.steers:
                    left = narrowed(event.capabilities, QUESTIONS, READS_ONLY)
                    event = msgspec.structs.replace(event, capabilities=left)
            case CommandAccepted() | CommandRefused() | Answer():
                self._unanswered.pop(event.command.id, None)
        self.events.put(event)

    def _report_lost(self, engine: str) -> None:
        """Tell that `engine` is there, and out of reach."""
        self._why_over = _LOST
        reason = f"the connection was lost, and {engine} could not be reached again, though it is still there"
        self.events.put(StateChanged(state="crashed", reason=reason))

    def _report_end(self, how: str, log: Path | None) -> None:
        """Tell that the engine is gone, and `how` if it was in the middle of something."""
        goodbye = self._history.goodbye
        if goodbye is not None and goodbye.reason:
            self._why_over = _LOST
            reason = f"the engine closed the connection: {clean(goodbye.reason)}"
            self.events.put(StateChanged(state="crashed", reason=reason))
        elif self._state not in ENDED:
            self.events.put(StateChanged(state="crashed", reason=crash_reason(self.folder, how, log)))
        else:
            self.events.put(Log(level="info", message=HAS_ENDED))
