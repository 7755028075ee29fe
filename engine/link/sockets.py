"""Unix sockets between a user's own processes: where they live, who is at the other end, and which are left over."""

import os
import socket
import stat
import struct
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from finetui.engine.errors import BadInput, FinetuiError, reason_of

# What fits into a `sockaddr_un`, without the zero byte at its end.
LONGEST_PATH = 103 if sys.platform == "darwin" else 107
_LONGEST_NAME = len("/4194304-01234567.sock")
_NEW, _READY = ".new", ".sock"
_STALE_SECONDS = 3600.0  # an unfinished socket, or a log without one, is left over by then
_WAITING = 32  # connections that wait to be accepted
_CONNECT_SECONDS = 5.0
_UCRED = struct.Struct("3i")  # Linux: process, user, group
_XUCRED_SIZE, _XUCRED = 128, struct.Struct("=II")  # macOS: version, user, and groups that nobody asks for
_SOL_LOCAL, _LOCAL_PEERCRED = 0, 1


class Stranger(FinetuiError):
    """The process at the other end of a socket belongs to somebody else."""


def runtime_folder() -> Path:
    """Return the private folder (mode 0700) that sockets live in, making it if need be.

    It is `finetui` in XDG_RUNTIME_DIR or, where that is unset, of no use or too deep for a socket's path,
    `finetui-UID` in the temporary folder. Raises `BadInput` when there is a folder of that name that belongs to
    somebody else or is open to others, and when there is no place at all.
    """
    user = os.geteuid()
    places = [Path(folder) / f"finetui-{user}" for folder in dict.fromkeys((tempfile.gettempdir(), "/tmp"))]
    base = Path(os.environ.get("XDG_RUNTIME_DIR", ""))
    # After `su`, the variable may still lead to somebody else's.
    if base.is_absolute() and os.access(base, os.W_OK | os.X_OK) and base.stat().st_uid == user:
        places.insert(0, base / "finetui")
    problem = f"{places[0]} is too deep; set TMPDIR to a shorter one"
    for place in places:
        if len(os.fsencode(place)) + _LONGEST_NAME <= LONGEST_PATH:
            try:
                return _private(place, user)
            except OSError as error:
                problem = f"{place} cannot be used: {reason_of(error)}"
    raise BadInput(f"there is no place for a socket: {problem}")


def _private(folder: Path, user: int) -> Path:
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != user or status.st_mode & 0o077:
        raise BadInput(f"the folder {folder} for sockets is not private to you; remove it or set XDG_RUNTIME_DIR")
    return folder


def new_path() -> Path:
    """Return a free path for a socket, at most `LONGEST_PATH` bytes long. Raises `BadInput`."""
    return runtime_folder() / f"{os.getpid()}-{os.urandom(4).hex()}{_READY}"


def remove_stale(folder: Path) -> None:
    """Remove from `folder` what engines that were killed left: sockets that nobody listens on, and early logs."""
    with suppress(OSError):
        for path in list(folder.iterdir()):
            with suppress(OSError):
                if path.suffix == _READY and path.is_socket():
                    stale = not _is_listening(path)
                else:
                    stale = path.suffix in (_NEW, ".log") and time.time() - path.lstat().st_mtime > _STALE_SECONDS
                    stale = stale and not path.with_suffix(_READY).exists()
                if stale:
                    path.unlink()


def _is_listening(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return False
        except BlockingIOError:  # so many wait for it that this one would have to
            return True
    return True


def listen(path: Path) -> socket.socket:
    """Return a socket that listens at `path`, whose folder must be private to the user. Raises OSError."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    unfinished = path.with_suffix(_NEW)
    try:
        listener.bind(str(unfinished))
        unfinished.chmod(0o600)
        listener.listen(_WAITING)
        # Only now does it get its name: a socket of that name on which nobody listens is always a left-over.
        unfinished.rename(path)
    except OSError:
        listener.close()
        unfinished.unlink(missing_ok=True)
        raise
    listener.setblocking(False)
    return listener


def identity(path: Path) -> tuple[int, int] | None:
    """Return what tells the file at `path` from another one there, None if there is none."""
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def connect(path: str) -> socket.socket:
    """Return a connection to the engine that listens at `path`.

    Raises OSError when there is none, and `Stranger` when that engine belongs to another user.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.setblocking(False)  # a stopped engine accepts nothing, and is not worth waiting for for ever
    deadline = time.monotonic() + _CONNECT_SECONDS
    try:
        while True:
            try:
                connection.connect(path)
                break
            except BlockingIOError:  # many wait to be accepted
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
        connection.setblocking(True)
        check_peer(connection)
    except (OSError, FinetuiError):
        connection.close()
        raise
    return connection


def peer_user(connection: socket.socket) -> int:
    """Return the user id of the process at the other end of `connection`, as the kernel knows it. Raises OSError."""
    if sys.platform == "linux":
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        return int(_UCRED.unpack(credentials)[1])
    credentials = connection.getsockopt(_SOL_LOCAL, _LOCAL_PEERCRED, _XUCRED_SIZE)
    return int(_XUCRED.unpack_from(credentials)[1])


def check_peer(connection: socket.socket) -> None:
    """Raise `Stranger` unless the process at the other end of `connection` runs as this user; nor may root."""
    user = peer_user(connection)
    if user != os.geteuid():
        raise Stranger(f"the process at the other end of the socket belongs to user {user}, not to you")
