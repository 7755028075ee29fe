"""The terminal that the dashboard was started in: taken over, given back, and never left in disorder."""

import os
import select
import signal
import sys
import termios
import threading
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from textual import constants

from finetui.tui.terminal.writer import TerminalWriter, chunk_of, write_some

_SECONDS = 0.25  # for a terminal to take a few bytes
_SIGNAL_SECONDS = 0.05
_DEFAULT_SIZE = (80, 24)  # where the system does not know

_MOUSE = "\x1b[?1000h\x1b[?1003h\x1b[?1015h\x1b[?1006h"
# Kitty's protocol: keys that can be told apart, all of them, with their text.
_KEYBOARD_ON, _KEYBOARD_OFF = ("", "") if constants.DISABLE_KITTY_KEY else ("\x1b[>25u", "\x1b[<u")
# Does it know synchronised updates, and reports of its size? Apple's terminal prints such a question.
_QUESTIONS = "" if os.environ.get("TERM_PROGRAM") == "Apple_Terminal" else "\x1b[?2026$p\x1b[?2048$p"
# The alternate screen, no cursor, reports of mouse, focus and pasted text, no line wrap.
_ENTER = f"\x1b[?1049h{_MOUSE}\x1b[?25l\x1b[?1004h{_KEYBOARD_ON}{_QUESTIONS}\x1b[?2004h\x1b[?7l"
# It begins with what ends a piece of output that was cut short, whatever that was. The keyboard's protocol has a stack
# for each screen, so that it is left before the alternate screen is.
_LEAVE = (
    "\x1b\\\x1b[?2026l\x1b[?2004l\x1b[?7h\x1b[?2048l\x1b[?1016l\x1b[?1006l\x1b[?1015l\x1b[?1003l\x1b[?1000l"
    f"\x1b]22;default\x07{_KEYBOARD_OFF}\x1b[0m\x1b[?1049l\x1b[?25h\x1b[?1004l"
)
_GRAPHICS = "\x1b_G"  # begins every command of Kitty's graphics protocol


class Terminal:
    """The terminal of standard input and output.

    It has a descriptor of its own, which stays when standard output leads elsewhere. Whoever is told that the terminal
    is gone sets `on_gone`, which is called from any thread, perhaps more than once.
    """

    def __init__(self) -> None:
        """Remember the terminal's modes. Raises termios.error when standard input is no terminal."""
        self.on_gone: Callable[[], None] = lambda: None
        self._input = 0
        self._output = _own_descriptor(1)
        self._encoding = getattr(sys.__stdout__, "encoding", None) or "utf-8"
        self._modes_before = termios.tcgetattr(self._input)
        self._lock = threading.RLock()
        self._writer: TerminalWriter | None = None

    @property
    def taken(self) -> bool:
        """Whether the terminal shows the dashboard, as far as is known here."""
        return self._writer is not None

    def size(self) -> tuple[int, int]:
        """Return its columns and rows."""
        try:
            columns, rows = os.get_terminal_size(self._output)
        except OSError:  # it is gone
            columns = rows = 0
        return columns or _DEFAULT_SIZE[0], rows or _DEFAULT_SIZE[1]

    def take(self, *, on_caught_up: Callable[[], None]) -> None:
        """Switch to the alternate screen and to single keys; `on_caught_up` as for `TerminalWriter`."""
        with self._lock:
            self._writer = TerminalWriter(
                self._output, encoding=self._encoding, on_caught_up=on_caught_up, on_gone=self.gone
            )
            self._writer.put(_ENTER)
            self.set_modes()

    def set_modes(self) -> None:
        """Have each key as it is pressed, unechoed and with no meaning of its own."""
        with suppress(termios.error):  # it is gone, and its reader says so
            termios.tcsetattr(self._input, termios.TCSANOW, _single_keys(termios.tcgetattr(self._input)))

    def read(self, size: int) -> bytes | None:
        """Return what was typed, up to `size` bytes; nothing once the terminal is no more, None where it is not ours.

        What is typed while another job has the terminal is for that one, or for the shell.
        """
        if not self.in_foreground():
            time.sleep(_SIGNAL_SECONDS)
            return b"" if _is_orphaned() else None
        with _unstopped():
            try:
                return os.read(self._input, size)
            except BlockingIOError:  # somebody else who has this terminal made it so
                return None
            except OSError:  # EIO: the other side has hung up, or the terminal has just become another job's
                return b"" if self.in_foreground() else None

    def write(self, text: str) -> None:
        """Have `text` shown; never blocks for more than a moment."""
        writer = self._writer
        if writer is not None:
            writer.put(text)
        elif text.startswith(_GRAPHICS):
            # Widgets take their images out of the terminal when they end, which is after the screen was left.
            self._write_now(text.encode("ascii", errors="replace"))

    def give_back(self) -> None:
        """Leave the alternate screen, and give the terminal back as it was found; from any thread, any number of times.

        This takes at most a second, also when the terminal takes no output. The modes of its input are left alone where
        they are another job's, because this process was stopped.
        """
        with self._lock, _unstopped():
            writer, self._writer = self._writer, None
            if writer is not None:
                writer.stop()
                if not self._write_now(_LEAVE.encode()):
                    # What it did not take is in the way, and belongs to a screen that nobody will look at any more.
                    self._flush(termios.TCOFLUSH)
                    self._write_now(_LEAVE.encode())
            if self.in_foreground():
                if writer is not None:
                    self._flush(termios.TCIFLUSH)  # clicks and answers must not be taken for commands by the shell
                with suppress(termios.error):
                    termios.tcsetattr(self._input, termios.TCSANOW, self._modes_before)

    def say(self, line: str) -> None:
        """Print `line` if the terminal was given back and takes it."""
        if not self.taken and self.in_foreground():
            with _unstopped():
                self._write_now(f"{line}\n".encode(self._encoding, errors="replace"))

    def gone(self) -> None:
        """Tell that the terminal is no more."""
        self.on_gone()

    def in_foreground(self) -> bool:
        """Tell whether the terminal is this process's, rather than another job's of the same shell."""
        try:
            return os.tcgetpgrp(self._input) == os.getpgrp()
        except OSError:  # it controls no jobs, or is gone
            return True

    def wait_for_foreground(self, unless: Callable[[], bool]) -> None:
        """Stop this process again for as long as the terminal is another job's, unless there is no time for that."""
        while True:
            # What was sent while it was stopped may be another thread's to receive.
            time.sleep(_SIGNAL_SECONDS)
            if self.in_foreground() or unless():
                return
            os.kill(os.getpid(), signal.SIGSTOP)

    def close(self) -> None:
        """Let go of the terminal, which was given back before."""
        os.close(self._output)

    def _flush(self, queue: int) -> None:
        with suppress(termios.error):  # it is gone
            termios.tcflush(self._output, queue)

    def _write_now(self, data: bytes) -> bool:
        """Write `data` and return whether the terminal took all of it within a moment."""
        left = memoryview(data)
        end = time.monotonic() + _SECONDS
        try:
            while left and (seconds := end - time.monotonic()) > 0:
                if select.select([], [self._output], [], seconds)[1]:
                    left = left[write_some(self._output, left[: chunk_of(self._output)]) :]
        except OSError:  # it is gone
            return False
        return not left


def _is_orphaned() -> bool:
    """Tell whether who started this process is gone, so that nobody can bring it to the foreground again."""
    try:
        return os.getsid(os.getppid()) != os.getsid(0)
    except OSError:
        return True


@contextmanager
def _unstopped() -> Iterator[None]:
    """Keep this thread from stopping the process by what it does to a terminal that is another job's."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTIN, signal.SIGTTOU})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _own_descriptor(descriptor: int) -> int:
    """Return a descriptor for the terminal behind `descriptor`, non-blocking if it can be opened anew.

    One that is only a copy shares that mode with everybody who has the terminal, the shell to begin with.
    """
    try:
        own = os.open(os.ttyname(descriptor), os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # another user's, as after `su`
        return os.dup(descriptor)
    if os.fstat(own).st_rdev != os.fstat(descriptor).st_rdev:
        os.close(own)
        return os.dup(descriptor)
    return own


def _single_keys(modes: list[Any]) -> list[Any]:
    modes = list(modes)
    modes[tty.LFLAG] &= ~(termios.ECHO | termios.ICANON | termios.IEXTEN | termios.ISIG)
    modes[tty.IFLAG] &= ~(termios.IXON | termios.IXOFF | termios.ICRNL | termios.INLCR | termios.IGNCR)
    modes[tty.CC] = [*modes[tty.CC]]
    modes[tty.CC][termios.VMIN] = 1
    return modes
