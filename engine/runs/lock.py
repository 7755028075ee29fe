"""Which engine has a run: an advisory lock, and who holds it."""

import fcntl
import os
import socket
import time
from contextlib import suppress
from pathlib import Path

import msgspec

from finetui.engine.distributed.batch_job import restarts_left
from finetui.engine.errors import BadInput, reason_of
from finetui.engine.runs.folder import RunFolder, run_folders
from finetui.engine.text import clean

_LOCK_SECONDS = 0.3


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """The engine that has a run: its process, that one's host, and the socket that it serves (empty: none).

    `started` is when it took the run, in Unix seconds, and `parent` the process that has started it, which would do
    that `restarts_left` times again.
    """

    pid: int
    host: str
    socket: str = ""
    started: float = 0.0
    parent: int = 0
    restarts_left: int = 0

    @property
    def is_here(self) -> bool:
        """Whether it runs on this machine; a shared file system shows the runs of others, too."""
        return self.host == socket.gethostname()

    def __str__(self) -> str:
        return f"process {self.pid} on host {clean(self.host)}"


_holder_decoder = msgspec.json.Decoder(Holder)
_UNKNOWN_HOLDER = Holder(pid=0, host="unknown")


class RunLock:
    """The right to write a run: an advisory lock that the kernel drops with the process."""

    def __init__(self, folder: RunFolder, socket_path: str = "") -> None:
        """Take the lock. Raises `BadInput` naming the holder when another engine has it, or when there are no locks."""
        self._path = folder.lock
        try:
            self._descriptor = os.open(folder.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            taken = self._take()
        except OSError as error:
            raise _not_lockable(folder, error) from error
        if not taken:
            os.close(self._descriptor)
            there = holder_of(folder)
            who = "another engine" if there is None else str(there)
            raise BadInput(f"the run {folder.name} is in use by {who}")
        about = Holder(
            pid=os.getpid(),
            host=socket.gethostname(),
            socket=socket_path,
            started=time.time(),
            parent=os.getppid(),
            restarts_left=restarts_left(),
        )
        try:
            _write_holder(self._descriptor, about)
        except OSError as error:
            self.release()
            raise _not_lockable(folder, error) from error

    def _take(self) -> bool:
        """Try a few times: whoever looks at who has the run holds the lock for a moment."""
        deadline = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    return False
                time.sleep(0.01)
            else:
                return True

    def stands(self) -> bool:
        """Tell whether its file is still in the folder: who deletes that takes the lock along."""
        try:
            return os.path.samestat(os.fstat(self._descriptor), self._path.stat())
        except OSError:
            return False

    def release(self) -> None:
        """Give the lock up, for children that were forked and have it as well."""
        with suppress(OSError):  # a file system without locks
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        os.close(self._descriptor)

    def forsake(self) -> None:
        """Close it, in a child that was forked; the parent has it on."""
        os.close(self._descriptor)


def _not_lockable(folder: RunFolder, error: OSError) -> BadInput:
    return BadInput(f"the run {folder.name} cannot be locked: {reason_of(error)}; choose another --runs-dir")


def _write_holder(descriptor: int, about: Holder) -> None:
    content = msgspec.json.encode(about)
    os.pwrite(descriptor, content, 0)
    os.ftruncate(descriptor, len(content))


def move_socket(folder: RunFolder, socket_path: str) -> None:
    """Let the lock that this process has on `folder` say that its socket is at `socket_path` now. Raises OSError."""
    descriptor = os.open(folder.lock, os.O_RDWR | os.O_CLOEXEC)
    try:
        about = _read_holder(descriptor)
        if about is not None and about.pid == os.getpid():
            _write_holder(descriptor, msgspec.structs.replace(about, socket=socket_path))
    finally:
        os.close(descriptor)


def _read_holder(descriptor: int) -> Holder | None:
    try:
        return _holder_decoder.decode(os.pread(descriptor, 65536, 0))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def holder_of(folder: RunFolder) -> Holder | None:
    """Return who has the run in `folder` now; None when nobody does."""
    try:
        descriptor = os.open(folder.lock, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        # Somebody who has just taken it may be about to write who he is.
        for _ in range(10):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                about = _read_holder(descriptor)
                if about is not None:
                    return about
            else:
                return None
            time.sleep(0.01)
        return _UNKNOWN_HOLDER
    except OSError:  # a file system without locks
        return None
    finally:
        os.close(descriptor)


def is_live(folder: RunFolder) -> bool:
    """Tell whether an engine process holds the run now."""
    return holder_of(folder) is not None


def live_runs(runs_dir: Path) -> list[RunFolder]:
    """Return the folders in `runs_dir` of the runs that an engine has now, newest first. Raises `BadInput`."""
    return [folder for folder in run_folders(runs_dir) if is_live(folder)]
