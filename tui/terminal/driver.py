"""Textual's driver, with everything that a signal, a stall or a terminal that goes away would make it do wrong."""

import os
import select
import signal
import threading
import time
from codecs import getincrementaldecoder
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any, Protocol, runtime_checkable

from textual import events
from textual.app import App
from textual.drivers.linux_driver import LinuxDriver
from textual.geometry import Size
from textual.message import Message

from finetui.tui.terminal.input import TerminalInput
from finetui.tui.terminal.terminal import Terminal

_TICK_SECONDS = 0.1  # how soon a lone Escape is told from the beginning of a sequence
_SETTLED_SECONDS = 2.0  # of silence, after which nothing more can come of what was typed before
_RESIZE_SECONDS = 0.25  # between two layouts while somebody drags a window's edge: each takes some 40 ms
_READ_SIZE = 4096


@runtime_checkable
class DrivenApp(Protocol):
    """What the driver needs of the App that it belongs to."""

    terminal: Terminal | None
    is_leaving: Callable[[], bool]

    def repaint(self) -> None:
        """Draw everything anew."""

    def fail(self, error: Exception) -> None:
        """End with `error`."""


class TerminalDriver(LinuxDriver):
    """Drives the terminal of a `DrivenApp` that has one.

    Textual's own writes in a queue that its event loop waits for, adds threads at each SIGCONT, and reads on for ever
    when the terminal is gone. What it knows about keys, sizes and modes is used as it is.
    """

    def __init__(
        self, app: App[Any], *, debug: bool = False, mouse: bool = True, size: tuple[int, int] | None = None
    ) -> None:
        """Take over SIGTSTP and SIGCONT, too."""
        super().__init__(app, debug=debug, mouse=mouse, size=size)
        assert isinstance(app, DrivenApp), "other apps have another driver"
        assert app.terminal is not None, "an app without a terminal has another driver"
        self._terminal: Terminal = app.terminal
        self._driven: DrivenApp = app
        self._size = self._terminal.size()
        self._resized_at = 0.0
        self._new_size: events.Resize | None = None
        self._sent_size: Size | None = None
        self._had_another = False  # size, since one was sent

    # -- output ---------------------------------------------------------------------------------------------

    def write(self, data: str) -> None:
        """Have `data` shown; never blocks."""
        self._terminal.write(data)

    def close(self) -> None:
        """Do nothing: the screen was left before."""

    # -- beginning and end ----------------------------------------------------------------------------------

    def start_application_mode(self) -> None:
        """Take the terminal, and begin to read from it."""
        self._terminal.take(on_caught_up=self._repaint_soon)
        signal.signal(signal.SIGWINCH, self._on_window_change)
        self._post_size()
        self.exit_event = threading.Event()
        self._leave_reader, self._leave_writer = os.pipe()
        self._key_thread = threading.Thread(target=self._run_input_thread, name="terminal-input", daemon=True)
        self._key_thread.start()

    def stop_application_mode(self) -> None:
        """Read no more, and give the terminal back."""
        self.disable_input()
        self._terminal.give_back()

    def disable_input(self) -> None:
        """Read no more."""
        if self._key_thread is not None:
            signal.signal(signal.SIGWINCH, signal.SIG_DFL)
            self.exit_event.set()
            os.write(self._leave_writer, b"\0")
            self._key_thread.join()
            self._key_thread = None
            os.close(self._leave_reader)
            os.close(self._leave_writer)

    # -- input ----------------------------------------------------------------------------------------------

    def _run_input_thread(self) -> None:
        try:
            self._read_input(self.exit_event)
        except Exception as error:  # noqa: BLE001  # the app tells of it, and ends
            self._in_loop(self._driven.fail, error)

    def _read_input(self, leave: threading.Event) -> None:
        parser = TerminalInput(self._believes, debug=self._debug)
        decode = getincrementaldecoder("utf-8")("replace").decode
        files, heard_at = (self.fileno, self._leave_reader), time.monotonic()
        while not leave.is_set():
            # Where nobody types this thread sleeps: each waking takes a core from the training.
            settled = time.monotonic() - heard_at > _SETTLED_SECONDS
            if self.fileno in select.select(files, [], [], None if settled else _TICK_SECONDS)[0]:
                heard_at = time.monotonic()
                data = self._terminal.read(_READ_SIZE)
                if data is None:
                    continue
                if not data:
                    self._terminal.gone()
                    return
                if text := decode(data):  # a character may come in two parts; no text means the end to the parser
                    for message in parser.feed(text):
                        self.process_message(message)
            for message in parser.tick():
                self.process_message(message)

    # -- size -----------------------------------------------------------------------------------------------

    def process_message(self, message: Message) -> None:
        """Pass a message from the input thread on to the app; sizes at a pace that layouts can follow."""
        if isinstance(message, events.Resize):
            if self._believes(message):
                self._in_loop(self._note_size, message)
            else:
                self._in_loop(self._post_size)
        else:
            super().process_message(message)

    def _believes(self, report: events.Resize) -> bool:
        """Tell whether a report of the size is the terminal's: text that is pasted may hold such a thing as well."""
        as_known = tuple(report.size) == self._terminal.size() and all(report.pixel_size or ())
        return self._in_band_window_resize and as_known

    def _get_terminal_size(self) -> tuple[int, int]:
        return self._terminal.size()

    def _on_window_change(self, _number: int, _frame: FrameType | None) -> None:
        self._in_loop(self._post_size)

    def _post_size(self) -> None:
        size = Size(*self._terminal.size())
        self._note_size(events.Resize(size, size))

    def _note_size(self, event: events.Resize) -> None:
        before, self._new_size = self._new_size, event
        if before is not None:
            self._had_another |= before.size != event.size
        else:
            self._loop.call_at(self._resized_at + _RESIZE_SECONDS, self._send_size)

    def _send_size(self) -> None:
        self._resized_at = self._loop.time()
        event, self._new_size = self._new_size, None
        had_another, self._had_another = self._had_another, False
        if event is not None:
            self.send_message(event)
            if had_another and event.size == self._sent_size:  # of which the app hears nothing
                self._driven.repaint()
            self._sent_size = event.size

    # -- stopping and going on ------------------------------------------------------------------------------

    def _sigtstp_application(self, *_: Any) -> None:
        # Not here: a handler may interrupt what must not be, such as somebody who has the writer's lock.
        self._in_loop(self._suspend)

    def _sigcont_application(self, *_: Any) -> None:
        self._in_loop(self._go_on)

    def _suspend(self) -> None:
        """Give the terminal back, stop with the whole job, and take the terminal again once somebody continues it."""
        taken = self._terminal.taken
        if taken:
            self._terminal.give_back()
        # The default actions: the kernel does not stop a job that no shell could ever continue.
        ours = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGTSTP, signal.SIGCONT)}
        os.killpg(0, signal.SIGTSTP)
        self._terminal.wait_for_foreground(unless=self._driven.is_leaving)
        for number, handler in ours.items():
            signal.signal(number, handler)
        if taken and not self._driven.is_leaving():
            self._terminal.take(on_caught_up=self._repaint_soon)
            self._come_back()
            self.send_message(self.SignalResume())

    def _go_on(self) -> None:
        """Put right what happened to the terminal while this process may have been stopped from outside."""
        self._terminal.wait_for_foreground(unless=self._driven.is_leaving)
        if self._terminal.taken and not self._driven.is_leaving():
            self._terminal.set_modes()
            self._come_back()

    def _come_back(self) -> None:
        self._post_size()  # a process in the background is not told of a new one
        self._driven.repaint()

    def _repaint_soon(self) -> None:
        self._in_loop(self._driven.repaint)

    def _in_loop(self, function: Any, *arguments: Any) -> None:
        with suppress(RuntimeError):  # the loop is closed: the app has ended
            self._loop.call_soon_threadsafe(function, *arguments)
