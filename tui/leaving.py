"""Leaving on a signal, or when the terminal is gone: quickly, with the terminal in order, and nothing lost."""

import os
import queue
import signal
import threading
import time
from types import FrameType
from typing import Protocol, Self

from engine.attach import SocketLink
from engine.link import Link
from tui.terminal import Terminal

CAUSES = {
    signal.SIGTERM: "terminated",
    signal.SIGHUP: "the terminal was closed",
    signal.SIGINT: "interrupted",
}
# Handlers that Textual, or its driver, sets and does not take back.
_OTHERS = (signal.SIGTSTP, signal.SIGCONT, signal.SIGWINCH)
_SAVING_SECONDS = 4.0  # for an engine that ends with the dashboard
_GOODBYE_SECONDS = 0.5  # for a link to send what it still has to, and to take away its temporary files
_ONE_WISH_SECONDS = 0.25  # `timeout` sends its signal twice, and means it once
_POLL_SECONDS = 0.05


class Dashboard(Protocol):
    """What there is to leave."""

    link: Link
    link_ended: threading.Event

    def outlook(self) -> str:
        """Return in a few words what becomes of the run, and how to come back to it; may be called in any thread."""


class Leaving:
    """Within it, SIGTERM, SIGHUP and SIGINT end the process in order, with exit status 128 + the signal's number.

    That is done in a thread of its own: the event loop may be busy, or stuck. A second signal ends it at once.
    """

    def __init__(self, terminal: Terminal) -> None:
        """Leave `terminal` in order; leave also when it is gone."""
        self.dashboard: Dashboard | None = None
        self._terminal = terminal
        self._wishes: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._begun_at: float | None = None
        self._thread = threading.Thread(target=self._run, name="leaving", daemon=True)

    def __enter__(self) -> Self:
        """Handle the signals from here on."""
        self._before = {number: signal.getsignal(number) for number in (*CAUSES, *_OTHERS)}
        for number in CAUSES:
            signal.signal(number, self._on_signal)
        self._terminal.on_gone = self._on_gone
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Handle them as before; if leaving has begun, wait for that instead."""
        if self.begun():
            self._thread.join()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def begun(self) -> bool:
        """Tell whether the process is about to end."""
        return self._begun_at is not None

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        # In the main thread, wherever that is: only what may interrupt anything.
        now = time.monotonic()
        if self._begun_at is None:
            self._begun_at = now
        elif number == signal.SIGHUP or now - self._begun_at < _ONE_WISH_SECONDS:
            return  # a terminal that closes sends two, the kernel's and the shell's
        self._wishes.put(number)

    def _on_gone(self) -> None:
        if self._begun_at is None:
            self._begun_at = time.monotonic()
            self._wishes.put(signal.SIGHUP)

    def _close(self, link: Link, number: int) -> None:
        if number == signal.SIGHUP and isinstance(link, SocketLink):
            link.vanish()  # a connection that broke is no goodbye: the engine waits for whoever comes back
        else:
            link.close()

    def _run(self) -> None:
        number = self._wishes.get()
        self._terminal.give_back()
        dashboard = self.dashboard
        if dashboard is not None:
            self._close(dashboard.link, number)
            patience = _GOODBYE_SECONDS if dashboard.link.outlives else _SAVING_SECONDS
            end = time.monotonic() + patience
            while self._wishes.empty() and time.monotonic() < end and not dashboard.link_ended.wait(_POLL_SECONDS):
                pass
            outlook = dashboard.outlook()
            self._terminal.say(f"finetui: {CAUSES[signal.Signals(number)]}" + (f"; {outlook}" if outlook else ""))
        # The main thread may never come back, so that the interpreter could not be ended in the usual way.
        os._exit(128 + number)
