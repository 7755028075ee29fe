"""The engine's side of the socket: one thread that serves any number of clients and never makes training wait."""

import os
import selectors
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path

import msgspec

from engine.commands import AnyCommand
from engine.events import AnyEvent, Phase
from engine.journal import Journal
from engine.queues import CommandQueue, EventQueue
from engine.wire import FrameReader, ProtocolError, Welcome, encode_frame

_READ_SIZE = 65536
_FLUSH_SECONDS = 2.0  # how long `stop` waits for clients to take the last events
_COMMAND_LIMIT = 1024 * 1024  # bytes of one command frame


class _Client:
    def __init__(self, connection: socket.socket, wake: "_Wake") -> None:
        self.connection = connection
        self.queue = EventQueue(on_put=wake.set)
        self.reader = FrameReader[AnyCommand](msgspec.msgpack.Decoder(AnyCommand), limit=_COMMAND_LIMIT)
        self.outgoing = bytearray()

    def refill(self) -> None:
        """Encode waiting events once the previous ones are sent, so that the bounded queue stays the only backlog."""
        if not self.outgoing:
            for event in self.queue.drain(64):
                self.outgoing += encode_frame(event)

    def send(self) -> None:
        sent = self.connection.send(self.outgoing)
        del self.outgoing[:sent]


class _Wake:
    """Lets other threads interrupt a selector."""

    def __init__(self) -> None:
        self.reader, self._writer = os.pipe()
        os.set_blocking(self.reader, False)
        os.set_blocking(self._writer, False)

    def set(self) -> None:
        with suppress(BlockingIOError):  # the pipe is full: the selector is awake already
            os.write(self._writer, b"\0")

    def clear(self) -> None:
        os.read(self.reader, 4096)

    def close(self) -> None:
        os.close(self.reader)
        os.close(self._writer)


class Server:
    """Publishes an engine's events on a Unix socket and collects its clients' commands."""

    def __init__(self, path: Path, commands: CommandQueue) -> None:
        """Listen on the socket `path`, whose folder must be private to the user. Raises OSError."""
        self._path = path
        self._commands = commands
        self._journal = Journal()
        self._clients: list[_Client] = []
        self._lock = threading.Lock()
        self._closing_at: float | None = None
        self._phase: Phase | None = None
        self.ever_connected = False
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen()
        self._listener.setblocking(False)
        self._wake = _Wake()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._selector.register(self._wake.reader, selectors.EVENT_READ, self._wake.clear)
        self._thread = threading.Thread(target=self._serve, name="finetui-server", daemon=True)

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def stop(self) -> None:
        """Send what waits, for a moment at most, and close everything."""
        self._closing_at = time.monotonic() + _FLUSH_SECONDS
        self._wake.set()
        self._thread.join()

    def follow(self, journal: Journal) -> None:
        """From now on greet new clients with the history in `journal`."""
        with self._lock:
            self._journal = journal

    def publish(self, event: AnyEvent) -> None:
        """Queue `event` for every client; never blocks."""
        with self._lock:
            self._phase = event if isinstance(event, Phase) else None
            for client in self._clients:
                client.queue.put(event)

    def has_clients(self) -> bool:
        """Tell whether anybody is connected."""
        return bool(self._clients)

    def _serve(self) -> None:
        while not self._finished():
            for key, mask in self._selector.select(timeout=0.5):
                if isinstance(key.data, _Client):
                    self._talk(key.data, mask)
                else:
                    key.data()
            for client in list(self._clients):
                client.refill()
                interest = selectors.EVENT_READ | (selectors.EVENT_WRITE if client.outgoing else 0)
                self._selector.modify(client.connection, interest, client)
        for client in list(self._clients):
            self._drop(client)
        self._listener.close()
        self._path.unlink(missing_ok=True)
        self._selector.close()
        self._wake.close()

    def _finished(self) -> bool:
        if self._closing_at is None:
            return False
        waiting = any(client.outgoing or len(client.queue) for client in self._clients)
        return not waiting or time.monotonic() > self._closing_at

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        connection.setblocking(False)
        client = _Client(connection, self._wake)
        with self._lock:
            # Under the lock no event is published, so none falls between the history and the live tail.
            journal = self._journal
            path = str(journal.path) if journal.path is not None else ""
            client.outgoing += encode_frame(Welcome(journal=path, next_seq=journal.next_seq))
            for event in journal.pending():
                client.outgoing += encode_frame(event)
            if self._phase is not None:
                client.outgoing += encode_frame(self._phase)
            self._clients.append(client)
            self.ever_connected = True
        self._selector.register(connection, selectors.EVENT_READ | selectors.EVENT_WRITE, client)

    def _talk(self, client: _Client, mask: int) -> None:
        try:
            if mask & selectors.EVENT_READ:
                data = client.connection.recv(_READ_SIZE)
                if not data:
                    self._drop(client)
                    return
                for command in client.reader.feed(data):
                    self._commands.put(command)
            if mask & selectors.EVENT_WRITE and client.outgoing:
                client.send()
        except BlockingIOError:
            pass  # not ready after all: the selector will say when it is
        except (OSError, ProtocolError) as error:
            print(f"finetui: a client was disconnected: {error}", flush=True)
            self._drop(client)

    def _drop(self, client: _Client) -> None:
        with self._lock:
            self._clients.remove(client)
        self._selector.unregister(client.connection)
        client.connection.close()
