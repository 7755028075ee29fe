"""The descriptors of an engine's server: the socket that clients come to, theirs, and a pipe that wakes it."""

import os
import selectors
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from finetui.engine.link import sockets
from finetui.engine.link.server_client import Client

MOST_CLIENTS = 128
_ACCEPTS_PER_SECOND = 20.0  # beyond a burst of `MOST_CLIENTS`: a loop of connections is no reason to train slower


class Wake:
    """Lets other threads interrupt a selector."""

    def __init__(self) -> None:
        self.reader, self._writer = os.pipe()
        os.set_blocking(self.reader, False)
        os.set_blocking(self._writer, False)
        self._is_set = False
        self._lock = threading.Lock()  # a number that was closed may already be another file's
        self._closed = False

    def set(self) -> None:
        """Interrupt it, or do nothing where there is none any more."""
        with self._lock:
            if not self._is_set and not self._closed:
                self._is_set = True
                with suppress(BlockingIOError):  # the pipe is full: the selector is awake already
                    os.write(self._writer, b"\0")

    def clear(self) -> None:
        """Let it wait again."""
        with self._lock:  # or a byte that is written meanwhile is read, and the next one never written
            self._is_set = False
            with suppress(BlockingIOError):
                os.read(self.reader, 4096)

    def close(self) -> None:
        """Close both ends."""
        with self._lock:
            self.forsake()

    def forsake(self) -> None:
        """Close both ends without the lock: a thread that has held it at a fork is not there to let go."""
        self._closed = True
        os.close(self.reader)
        os.close(self._writer)


class _Allowance:
    """How many connections may be accepted now."""

    def __init__(self, now: float) -> None:
        self._left, self._at = float(MOST_CLIENTS), now

    def renew(self, now: float) -> bool:
        """Return whether one more is allowed at the time `now`."""
        self._left = min(self._left + (now - self._at) * _ACCEPTS_PER_SECOND, MOST_CLIENTS)
        self._at = now
        return self._left >= 1

    def use(self) -> None:
        self._left -= 1


class Poller:
    """Waits for whoever connects to the socket at `path`, for clients, and for other threads that `wake` it.

    A child that was forked has copies of all the descriptors, and is to `forsake` them. All other methods are for one
    thread.
    """

    def __init__(self, path: Path) -> None:
        """Listen on the socket `path`, whose folder must be private to the user. Raises OSError."""
        self.path = path
        sockets.remove_stale(path.parent)
        self._listener = sockets.listen(path)
        self._identity = sockets.identity(path)
        self._allowance = _Allowance(time.monotonic())
        self._accepting = True
        self._wake = Wake()
        self.wake = self._wake.set
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._wake.reader, selectors.EVENT_READ)

    def wait(self, seconds: float) -> Iterator[tuple[Client | None, int]]:
        """Wait for so long at the most; yield each client that is ready, and for what; None: somebody connects."""
        for key, mask in self._selector.select(timeout=seconds):
            if key.fileobj is self._listener:
                yield None, mask
            elif isinstance(key.data, Client):
                yield key.data, mask
            else:
                self._wake.clear()

    # -- the socket -------------------------------------------------------------------------------------

    def accept(self, now: float) -> socket.socket | None:
        """Return the connection of somebody who connects, None where there is none, or too many come.

        Raises OSError, for want of file descriptors say. Then, and where too many come, nobody is accepted before
        `resume` allows it.
        """
        if not self._allowance.renew(now):
            self._pause()
            return None
        try:
            connection, _ = self._listener.accept()
        except BlockingIOError:
            return None
        except OSError:
            self._pause()
            raise
        self._allowance.use()
        connection.setblocking(False)
        return connection

    def _pause(self) -> None:
        self._accepting = False
        self._selector.unregister(self._listener)

    def resume(self, now: float) -> None:
        """Accept connections again if it is time to."""
        if not self._accepting and self._allowance.renew(now):
            self._accepting = True
            self._selector.register(self._listener, selectors.EVENT_READ)

    def is_gone(self) -> bool:
        """Whether the socket's file was removed, or is another one."""
        return sockets.identity(self.path) != self._identity

    def move(self) -> None:
        """Listen at another path instead. Raises OSError and `FinetuiError` where there is no place for a socket."""
        path = sockets.new_path()
        listener = sockets.listen(path)
        if self._accepting:
            self._selector.unregister(self._listener)
        self._listener.close()
        self.path, self._listener, self._identity = path, listener, sockets.identity(path)
        self._accepting = True
        self._selector.register(listener, selectors.EVENT_READ)

    # -- clients ----------------------------------------------------------------------------------------

    def watch(self, client: Client) -> None:
        """Wait for what `client` is wanted for, if anything."""
        wanted = (selectors.EVENT_READ if client.may_send() else 0) | (selectors.EVENT_WRITE if client.blocked else 0)
        before, client.interest = client.interest, wanted
        if not before and wanted:
            self._selector.register(client.connection, wanted, client)
        elif before and not wanted:
            self._selector.unregister(client.connection)
        elif before != wanted:
            self._selector.modify(client.connection, wanted, client)

    def drop(self, client: Client) -> None:
        """Close its connection."""
        if client.interest:
            self._selector.unregister(client.connection)
        client.connection.close()

    # -- the end ----------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close all but clients' connections, and remove the socket's file."""
        self._listener.close()
        if not self.is_gone():
            self.path.unlink(missing_ok=True)
        self._selector.close()
        self._wake.close()

    def forsake(self, clients: Iterable[Client]) -> None:
        """Close everything, in a child that was forked: what it stands for is the parent's, and stays so."""
        self._selector.close()
        for connection in (self._listener, *(client.connection for client in clients)):
            connection.close()
        self._wake.forsake()
