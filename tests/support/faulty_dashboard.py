"""The program with a fault in it, for tests: `python faulty_dashboard.py FAULT [arguments of finetui]`.

The fault happens once the file `now` is in the working folder. With `local-` before its name, the engine is a thread of
the dashboard's own process, which ends with it.
"""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path

from finetui.engine.link import process_link
from finetui.engine.session.local_link import LocalLink
from finetui.tui.app import shutdown
from finetui.tui.app.app import FinetuiApp
from finetui.tui.cli.main import main

MESSAGE = "a fault [/red] \x1b[2J for a test"


def fail() -> None:
    raise RuntimeError(MESSAGE)


async def fail_in_a_worker() -> None:
    fail()


def block() -> None:
    """Wait for ever, as for a queue that nobody empties."""
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def make_noise() -> None:
    """Write in every way that there is."""
    os.write(1, b"NOISE on descriptor 1\n")
    os.write(2, b"NOISE on descriptor 2\n")
    print("NOISE by print")
    print("NOISE by print to standard error", file=sys.stderr)
    sys.__stderr__.write("NOISE by the first standard error\n")
    warnings.warn("NOISE by a warning", stacklevel=1)
    logging.getLogger("somebody").error("NOISE by a logger")
    subprocess.run(["sh", "-c", "echo NOISE of a child; echo NOISE of a child to standard error >&2"], check=True)


def ignore_hangups(_app: FinetuiApp) -> None:
    """Hear nothing of a terminal that closes: the kernel sends SIGHUP, and SIGCONT after it."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGCONT, signal.SIG_IGN)


FAULTS: dict[str, Callable[[FinetuiApp], object]] = {
    "none": lambda app: None,
    "timer": lambda app: fail(),
    "handler": lambda app: app.call_next(fail),
    "worker": lambda app: app.run_worker(fail_in_a_worker()),
    "blocked": lambda app: block(),
    "busy": lambda app: app.run_worker(lambda: time.sleep(600), thread=True),
    "noise": lambda app: make_noise(),
    "deaf": ignore_hangups,
}


class FaultyApp(FinetuiApp):
    """A dashboard in which something goes wrong."""

    def on_ready(self) -> None:
        self._fault_timer = self.set_interval(0.02, self._look)

    def _look(self) -> None:
        if Path("now").exists():
            self._fault_timer.stop()
            FAULTS[fault](self)
            Path("done").touch()


if __name__ == "__main__":
    fault = sys.argv.pop(1)
    if fault.startswith("local-"):
        fault = fault.removeprefix("local-")
        process_link.ProcessLink = lambda config, *, autostart, **_: LocalLink(config, autostart=autostart)
    from finetui.tui.app import app

    shutdown._SAVING_SECONDS = 60.0  # a busy machine saves later than one would wait for
    app.FinetuiApp = FaultyApp
    main()
