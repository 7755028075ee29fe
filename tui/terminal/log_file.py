"""Where output goes while the dashboard has the terminal: to a file, whoever writes it."""

import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from platformdirs import user_log_path

LIMIT = 1 << 20  # bytes
_CHECK_SECONDS = 5.0


def log_path() -> Path:
    """Return where the log is, as a rule."""
    return user_log_path("finetui", appauthor=False) / "dashboard.log"


class DashboardLog:
    """The file that standard output and error lead to while there is a dashboard, private and of bounded size.

    Dashboards that run at the same time share it.
    """

    def __init__(self) -> None:
        """Open it; in a temporary folder where its own cannot be used."""
        self.path = log_path()
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with suppress(FileNotFoundError):
                if self.path.stat().st_size > LIMIT:
                    self.path.replace(self.path.with_suffix(".log.1"))
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
            self._descriptor = os.open(self.path, flags, 0o600)
        except OSError:
            self._descriptor, name = tempfile.mkstemp(prefix="finetui-", suffix=".log")
            self.path = Path(name)
        os.write(self._descriptor, f"{time.strftime('%Y-%m-%d %H:%M:%S')} dashboard {os.getpid()}\n".encode())

    @contextmanager
    def takes_output(self) -> Iterator[None]:
        """Within it the process's standard output and error lead here, whoever writes: Python, C, or a child.

        The file is closed afterwards.
        """
        _flush()
        before = [os.dup(descriptor) for descriptor in (1, 2)]
        for descriptor in (1, 2):
            os.dup2(self._descriptor, descriptor)
        done = threading.Event()
        keeper = threading.Thread(target=self._keep_small, args=(done,), name="dashboard-log", daemon=True)
        keeper.start()
        try:
            yield
        finally:
            done.set()
            keeper.join()
            _flush()
            for descriptor, saved in zip((1, 2), before, strict=True):
                os.dup2(saved, descriptor)
                os.close(saved)
            os.close(self._descriptor)

    def _keep_small(self, done: threading.Event) -> None:
        while not done.wait(_CHECK_SECONDS):
            if os.fstat(self._descriptor).st_size > LIMIT:
                os.ftruncate(self._descriptor, 0)  # all who write to it append


def _flush() -> None:
    for stream in (sys.__stdout__, sys.__stderr__):
        if stream is not None:
            stream.flush()
