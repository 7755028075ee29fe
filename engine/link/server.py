"""The engine's side of the socket: one thread that serves any number of clients and never makes training wait."""

import selectors
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import msgspec

from finetui.engine.errors import FinetuiError
from finetui.engine.link import sockets
from finetui.engine.link.frames import READS_ONLY, ClientFrame, Goodbye, Hello, ProtocolError, encode_frame
from finetui.engine.link.poller import MOST_CLIENTS, Poller
from finetui.engine.link.server_client import Client
from finetui.engine.protocol.commands import AnyCommand, Question
from finetui.engine.protocol.events import (
    COALESCIBLE,
    AnyEvent,
    Audience,
    MachineSample,
    Phase,
    RanksSeen,
    StateChanged,
)
from finetui.engine.protocol.queues import CommandQueue
from finetui.engine.runs.journal import Journal
from finetui.engine.text import clean

_READ_SIZE = 65536
_LOOK_SECONDS = 0.5  # a turn, in which train points are sent and faults are looked for, where nothing asks for one
_AUDIENCE_SECONDS = 0.2  # between two lists of who watches, for every ten of them: a crowd that comes is one change
_FLUSH_SECONDS = 2.0  # how long `stop` waits for clients to take the last events
_LONGEST_NAME = 60


def print_problem(message: str) -> None:
    """Print what goes wrong on standard error."""
    print(f"finetui: {message}", file=sys.stderr, flush=True)


class Server:
    """Publishes an engine's events on a Unix socket and collects its clients' commands.

    Only `publish`, `follow`, `stop` and the properties are for other threads. A socket whose file was removed (with
    the runtime folder of a user who logged out, say) is opened anew elsewhere; `on_moved` is told where.
    """

    def __init__(
        self,
        path: Path,
        commands: CommandQueue,
        *,
        on_moved: Callable[[Path], None] = lambda _path: None,
        complain: Callable[[str], None] = print_problem,
    ) -> None:
        """Listen on the socket `path`, whose folder must be private to the user. Raises OSError.

        `complain` is told what goes wrong, at most once a second, in the thread.
        """
        self.ever_connected = False
        self.missing = False  # whether somebody vanished, and nobody who can steer has said goodbye since
        self._commands = commands
        self._on_moved = on_moved
        self._tell = complain
        self._inbox: deque[AnyEvent | Journal] = deque()
        self._journal = Journal()
        self._phase: Phase | None = None
        self._machine: MachineSample | None = None
        self._state: StateChanged | None = None  # of an engine without a journal
        self._clients: list[Client] = []
        self._greeted = 0  # clients
        self._audience_changed = False
        self._told_audience_at = -1.0
        self._closing_at: float | None = None
        self._said_farewell = False
        self._complained_at = -1.0
        self._looked_at = time.monotonic()
        self._poller = Poller(path)
        self._thread = threading.Thread(target=self._serve, name="finetui-server", daemon=True)

    @property
    def path(self) -> Path:
        """The socket's path as it is now."""
        return self._poller.path

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def stop(self) -> None:
        """Send what waits, for a moment at most, and close everything."""
        self._closing_at = time.monotonic() + _FLUSH_SECONDS
        self._poller.wake()
        self._thread.join()

    def forsake(self) -> None:
        """Close the descriptors, in a child that was forked: what they stand for is the parent's, and stays so."""
        self._poller.forsake(self._clients)

    def follow(self, journal: Journal) -> None:
        """From the next event on greet new clients with the history in `journal`."""
        self._inbox.append(journal)

    def publish(self, event: AnyEvent) -> None:
        """Queue `event` for every client; never blocks."""
        self._inbox.append(event)
        # Points and phases go with the next turn, several at a time: each waking costs training a little.
        if not isinstance(event, COALESCIBLE):
            self._poller.wake()

    def has_clients(self) -> bool:
        """Tell whether anybody watches."""
        return self._greeted > 0

    # -- the thread -------------------------------------------------------------------------------------

    def _serve(self) -> None:
        while not self._finished():
            for client, mask in self._poller.wait(_LOOK_SECONDS):
                if client is None:
                    self._accept()
                else:
                    self._hear(client, mask)
            now = time.monotonic()
            self._distribute()
            self._tell_audience(now)
            if self._closing_at is not None and not self._said_farewell:
                self._said_farewell = True
                for client in self._clients:
                    client.bid_farewell()
            for client in list(self._clients):
                self._send(client)
            self._look_after(now)
        for client in list(self._clients):
            self._drop(client)
        self._poller.close()

    def _finished(self) -> bool:
        if self._closing_at is None or not self._said_farewell:
            return False
        waiting = self._inbox or any(len(client.outbox) for client in self._clients)
        return not waiting or time.monotonic() > self._closing_at

    def _look_after(self, now: float) -> None:
        """Disconnect whoever has to be, and see to the socket itself."""
        self._poller.resume(now)
        if now - self._looked_at < _LOOK_SECONDS:
            return
        self._looked_at = now
        for client in list(self._clients):
            fault = client.fault(now)
            if fault is not None:
                self._drop(client, fault)
        if self._closing_at is None and self._poller.is_gone():
            self._listen_elsewhere()

    def _listen_elsewhere(self) -> None:
        try:
            self._poller.move()
        except (OSError, FinetuiError) as error:
            self._complain(f"the socket is gone, and there is no place for another one: {error}")
            return
        self._on_moved(self.path)

    def _complain(self, message: str) -> None:
        """Tell `message`, or not: whoever annoys the engine does not get to fill its log."""
        now = time.monotonic()
        if now - self._complained_at >= 1:
            self._complained_at = now
            self._tell(clean(message, 500))

    # -- clients ----------------------------------------------------------------------------------------

    def _accept(self) -> None:
        now = time.monotonic()
        try:
            connection = self._poller.accept(now)
        except OSError as error:
            self._complain(f"a client could not be accepted: {error}")
            return
        if connection is None:
            return
        client = Client(connection, now)
        try:
            sockets.check_peer(connection)
            if len(self._clients) >= MOST_CLIENTS:
                client.bid_farewell(f"{MOST_CLIENTS} dashboards watch this run already")
                client.outbox.send(connection)
                raise ProtocolError("there are too many clients")
        except (OSError, FinetuiError) as error:
            self._complain(f"a client was refused: {error}")
            connection.close()
            return
        self._clients.append(client)
        self._poller.watch(client)

    def _hear(self, client: Client, mask: int) -> None:
        if mask & selectors.EVENT_WRITE:
            client.blocked = False
        if not mask & selectors.EVENT_READ:
            return
        try:
            data = client.connection.recv(_READ_SIZE)
            if not data:
                self._drop(client)
                return
            for frame in client.feed(data, time.monotonic()):
                self._obey(client, frame)
        except BlockingIOError:
            pass  # not ready after all: the selector will say when it is
        except OSError:
            self._drop(client)
        except ProtocolError as error:
            self._drop(client, str(error))

    def _obey(self, client: Client, frame: ClientFrame) -> None:
        match frame:
            case Hello():
                if client.greeted:
                    raise ProtocolError("it said hello twice")
                self._greet(client, frame)
            case Goodbye():
                client.said_goodbye = True
            case _:
                if not client.greeted:
                    self._greet(client, Hello())
                self._take(client, frame)

    def _take(self, client: Client, command: AnyCommand) -> None:
        if isinstance(command, Question):
            client.asks(command)
            self._commands.put(command)
            return
        command = msgspec.structs.replace(command, by=client.name)
        if client.reading:
            client.refuse(command, READS_ONLY)
        else:
            client.asks(command)
            self._commands.put(command)

    def _send(self, client: Client) -> None:
        if len(client.outbox) and not client.blocked:
            try:
                client.outbox.send(client.connection)
            except BlockingIOError:
                client.blocked = True
            except OSError:
                # It has left; what it said before it did is still to be read.
                client.outbox.clear()
        self._poller.watch(client)

    def _drop(self, client: Client, fault: str = "") -> None:
        if fault:
            self._complain(f"{client.label} was disconnected: {fault}")
        self._clients.remove(client)
        self._poller.drop(client)
        if client.greeted:
            if not (client.said_goodbye and client.reading):  # who only looked on speaks for nobody else
                self.missing = not client.said_goodbye
            self._greeted -= 1
            self._audience_changed = True

    # -- events -----------------------------------------------------------------------------------------

    def _distribute(self) -> None:
        while self._inbox:
            item = self._inbox.popleft()
            if isinstance(item, Journal):
                self._journal, self._phase = item, None
                for client in self._clients:
                    client.next_seq = 0
                continue
            if isinstance(item, MachineSample):
                self._machine = item if item.seq < 0 else self._machine
            elif not isinstance(item, RanksSeen):
                self._phase = item if isinstance(item, Phase) else None
            if isinstance(item, StateChanged) and item.seq < 0:
                self._state = item
            if not self._greeted:
                continue
            frame = encode_frame(item)
            for client in self._clients:
                if client.greeted and self._is_news(client, item):
                    client.put(item, frame)

    def _is_news(self, client: Client, event: AnyEvent) -> bool:
        """Whether `client` does not have `event` yet, nor learns of it in another way."""
        if event.seq < 0:
            return True
        if event.seq < client.next_seq:
            return False
        if event.seq > client.next_seq and self._journal.path is not None:
            # The session goes on with a journal that is older than itself.
            client.welcome(str(self._journal.path), self._journal.next_seq)
            return False
        client.next_seq = event.seq + 1
        return True

    def _greet(self, client: Client, hello: Hello) -> None:
        self._distribute()  # what has waited until now is history
        client.greet(hello, clean(hello.name, _LONGEST_NAME))
        self._welcome(client)
        for newest in (self._phase, self._machine):
            if newest is not None:
                client.put(newest, encode_frame(newest))
        self.ever_connected = True
        self._greeted += 1
        self._audience_changed = True

    def _welcome(self, client: Client) -> None:
        # In this order: the engine's thread writes what is pending to the file before it forgets it.
        pending = self._journal.pending()
        if self._journal.path is not None:
            client.welcome(str(self._journal.path), self._journal.next_seq)
            return
        client.welcome("", 0)
        if self._state is not None:
            client.put(self._state, encode_frame(self._state))
        for event in pending:
            client.put(event, encode_frame(event))
            client.next_seq = event.seq + 1

    def _tell_audience(self, now: float) -> None:
        interval = _AUDIENCE_SECONDS * (1 + self._greeted // 10)
        if not self._audience_changed or now - self._told_audience_at < interval:
            return
        self._audience_changed, self._told_audience_at = False, now
        greeted = [client for client in self._clients if client.greeted]
        event = Audience(names=tuple(client.label for client in greeted), time=time.time())
        for client in greeted:
            client.put(event, encode_frame(event))
