"""One client of an engine's socket: what waits for it, what it asked, and when the engine's patience with it ends."""

import socket
from collections import deque
from operator import itemgetter

import msgspec

from finetui.engine.link.frames import MAX_FRAME, ClientFrame, FrameReader, Goodbye, Hello, Welcome, encode_frame
from finetui.engine.protocol.commands import AnyCommand
from finetui.engine.protocol.events import COALESCIBLE, Answer, AnyEvent, CommandAccepted, CommandRefused
from finetui.engine.protocol.queues import EVENT_LIMIT, drop_oldest

PATIENCE_SECONDS = 3.5  # with a client that says nothing, stops within a frame, or does not read
MOST_UNANSWERED = 64  # commands of one client; more are not read before these are answered
_BACKLOG = 64 * 1024  # bytes that may wait for a client for as long as it likes, besides what the kernel holds
_WORST_BACKLOG = 4 * MAX_FRAME
_COMMAND_LIMIT = 1024 * 1024  # bytes of one command frame
_CHUNK = 65536
_decoder = msgspec.msgpack.Decoder(ClientFrame)  # making one takes longer than most clients deserve


class Outbox:
    """Frames that wait to be sent. Once `EVENT_LIMIT` wait, the oldest that may be missed makes room."""

    def __init__(self) -> None:
        self._frames: deque[tuple[bytes, bool]] = deque()
        self._sending = memoryview(b"")
        self._waiting = 0

    def __len__(self) -> int:
        """Return the number of bytes that wait."""
        return self._waiting + len(self._sending)

    def put(self, frame: bytes, *, may_be_missed: bool = False) -> None:
        """Add `frame`."""
        if len(self._frames) >= EVENT_LIMIT and (missed := drop_oldest(self._frames, itemgetter(1))):
            self._waiting -= len(missed[0])
        self._frames.append((frame, may_be_missed))
        self._waiting += len(frame)

    def clear(self) -> None:
        """Forget everything."""
        self._frames.clear()
        self._sending, self._waiting = memoryview(b""), 0

    def send(self, connection: socket.socket) -> None:
        """Send what `connection` takes. Raises OSError, of it BlockingIOError when it takes nothing more now."""
        while len(self):
            if not self._sending:
                self._sending = memoryview(self._next_chunk())
            self._sending = self._sending[connection.send(self._sending) :]

    def _next_chunk(self) -> bytes:
        frames: list[bytes] = []
        size = 0
        while self._frames and size < _CHUNK:
            frame, _ = self._frames.popleft()
            frames.append(frame)
            size += len(frame)
        self._waiting -= size
        return b"".join(frames)


class Client:
    """A connection to an engine, from `now` on. Once `greeted` it belongs to the audience."""

    def __init__(self, connection: socket.socket, now: float) -> None:
        self.connection = connection
        self.name = ""
        self.reading = False
        self.greeted = False
        self.said_goodbye = False
        self.outbox = Outbox()
        self.blocked = False  # it took nothing more when it was last sent to
        self.interest = 0  # what the server's selector looks for
        self.next_seq = 0
        self._reader = FrameReader[ClientFrame](_decoder, limit=_COMMAND_LIMIT)
        self._unanswered: set[str] = set()
        self._came = self._began_frame = now
        self._behind_since: float | None = None

    @property
    def label(self) -> str:
        """Its name as the audience shows it."""
        return f"{self.name or 'a client'}{' (reading)' if self.reading else ''}"

    def greet(self, hello: Hello, name: str) -> None:
        """Make it part of the audience."""
        self.greeted, self.name, self.reading = True, name, hello.reading

    def may_send(self) -> bool:
        """Whether more of its commands are to be read now."""
        return len(self._unanswered) < MOST_UNANSWERED

    def feed(self, data: bytes, now: float) -> list[ClientFrame]:
        """Return the frames that `data` completes. Raises `ProtocolError`."""
        goes_on = self._reader.waiting
        frames = self._reader.feed(data)
        if frames or not goes_on:
            self._began_frame = now
        return frames

    def asks(self, command: AnyCommand) -> None:
        """Note that `command` is to be answered."""
        self._unanswered.add(command.id)

    def put(self, event: AnyEvent, frame: bytes) -> None:
        """Let `event`, encoded as `frame`, wait for it unless it is somebody else's answer."""
        if isinstance(event, Answer | CommandAccepted | CommandRefused):
            asked = event.command.id in self._unanswered
            self._unanswered.discard(event.command.id)
            if isinstance(event, Answer) and not asked:
                return
        self.outbox.put(frame, may_be_missed=isinstance(event, COALESCIBLE))

    def welcome(self, journal: str, next_seq: int) -> None:
        """Tell it where the events before `next_seq` are."""
        self.outbox.put(encode_frame(Welcome(journal=journal, next_seq=next_seq)))
        self.next_seq = next_seq

    def refuse(self, command: AnyCommand, reason: str) -> None:
        """Tell it, and nobody else, that `command` is not carried out."""
        self.outbox.put(encode_frame(CommandRefused(command=command, reason=reason)))

    def bid_farewell(self, reason: str = "") -> None:
        """Tell it that the engine leaves."""
        self.outbox.put(encode_frame(Goodbye(reason=reason)))

    def fault(self, now: float) -> str | None:
        """Return why it is to be disconnected; None if there is nothing against it."""
        waiting = len(self.outbox)
        if waiting <= _BACKLOG:
            self._behind_since = None
        elif self._behind_since is None:
            self._behind_since = now
        if self._behind_since is not None and now - self._behind_since > PATIENCE_SECONDS:
            return f"it does not read what is sent to it, and {waiting} bytes wait"
        if waiting > _WORST_BACKLOG:
            return f"{waiting} bytes wait for it"
        if not self.greeted and now - self._came > PATIENCE_SECONDS:
            return "it did not say what it wants"
        if self._reader.waiting and self.may_send() and now - self._began_frame > PATIENCE_SECONDS:
            return "it stopped within a frame"
        return None
