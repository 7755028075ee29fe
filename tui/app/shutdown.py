"""Leaving on a signal, or when the terminal is gone: quickly, with the terminal in order, and nothing lost."""

import os
import signal
import threading
import time
from contextlib import suppress
from types import FrameType
from typing import Protocol, Self

from finetui.engine.link.base import Link
from finetui.engine.link.socket_link import SocketLink
from finetui.engine.process.signals import SignalListener
from finetui.tui.terminal.terminal import Terminal

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


class ShutdownOnSignal(SignalListener):
    """Within it, SIGTERM, SIGHUP and SIGINT end the process in order, with exit status 128 + the signal's number.

    That is done in a thread of its own, which hears of the signals also while the main thread is stuck, wherever that
    is. A second signal ends the process at once.
    """

    def __init__(self, terminal: Terminal) -> None:
        """Leave `terminal` in order; leave also when it is gone."""
        super().__init__(CAUSES)
        self.dashboard: Dashboard | None = None
        self._terminal = terminal
        self._begun = False

    def __enter__(self) -> Self:
        """Handle the signals from here on."""
        self._others_before = {number: signal.getsignal(number) for number in _OTHERS}
        super().__enter__()
        self._terminal.on_gone = self._on_gone
        return self

    def __exit__(self, *_: object) -> None:
        """Handle them as before; if leaving has begun, wait for that instead."""
        for number, handler in self._others_before.items():
            signal.signal(number, handler)
        self._terminal.on_gone = lambda: None
        super().__exit__()

    def begun(self) -> bool:
        """Tell whether the process is about to end."""
        return self._begun

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._begun = True

    def _on_gone(self) -> None:
        self._begun = True
        with suppress(OSError):  # the pipe is closed: the dashboard has been left
            os.write(self._writer, bytes([signal.SIGHUP]))

    def _listen(self) -> None:
        while (number := self._next()) not in CAUSES:
            if number is None:
                return
        self._begun, begun_at = True, time.monotonic()
        self._terminal.give_back()
        dashboard = self.dashboard
        if dashboard is not None:
            self._close(dashboard.link, number)
            end = begun_at + (_GOODBYE_SECONDS if dashboard.link.outlives else _SAVING_SECONDS)
            while time.monotonic() < end and not dashboard.link_ended.is_set():
                # A terminal that closes sends two SIGHUP, the kernel's and the shell's.
                again = self._next(_POLL_SECONDS) in (signal.SIGTERM, signal.SIGINT)
                if again and time.monotonic() - begun_at >= _ONE_WISH_SECONDS:
                    break
            outlook = dashboard.outlook()
            self._terminal.say(f"finetui: {CAUSES[signal.Signals(number)]}" + (f"; {outlook}" if outlook else ""))
        # The main thread may never come back, so that the interpreter could not be ended in the usual way.
        os._exit(128 + number)

    def _close(self, link: Link, number: int) -> None:
        if number == signal.SIGHUP and isinstance(link, SocketLink):
            link.vanish()  # a connection that broke is no goodbye: the engine waits for whoever comes back
        else:
            link.close()
