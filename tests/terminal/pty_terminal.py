"""A pseudo-terminal with a program in it: type, click, resize, and see what a person would see."""

import fcntl
import os
import pty
import select
import struct
import termios
import time
from collections.abc import Sequence
from pathlib import Path

import pyte

PATIENCE = 60.0


class PtyTerminal:
    """Runs `argv` in `cwd`, in a terminal of `columns` x `rows`."""

    def __init__(self, argv: Sequence[str], cwd: Path, columns: int = 80, rows: int = 24) -> None:
        self.screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self.screen)
        self.raw = bytearray()
        self.status: int | None = None
        ready_reader, ready_writer = os.pipe()
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.read(ready_reader, 1)  # the terminal has its size
            os.chdir(cwd)
            environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "NO_COLOR")}
            os.execvpe(argv[0], list(argv), environment | {"TERM": "xterm-256color", "COLORTERM": "truecolor"})
        self.resize(columns, rows)
        self.modes_before = termios.tcgetattr(self.fd)
        os.write(ready_writer, b"x")
        os.close(ready_reader)
        os.close(ready_writer)

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.screen.resize(rows, columns)

    def type(self, keys: str) -> None:
        os.write(self.fd, keys.encode())

    def click(self, text: str) -> None:
        """Click the first cell of `text`."""
        for row, line in enumerate(self.screen.display):
            if text in line:
                column = line.index(text)
                self.type(f"\x1b[<0;{column + 1};{row + 1}M\x1b[<0;{column + 1};{row + 1}m")
                return
        raise AssertionError(f"{text!r} is not on the screen:\n{self.text()}")

    def read(self, seconds: float = 0.05) -> None:
        ready, _, _ = select.select([self.fd], [], [], seconds)
        if not ready:
            return
        try:
            data = os.read(self.fd, 65536)
        except OSError:  # Linux says EIO where the other side has closed
            data = b""
        if not data:
            self._reap()
            return
        self.raw += data
        # pyte knows no private-marker sequences with < = > or the answers to $p: leave them out
        import re

        cleaned = re.sub(rb"\x1b\[[<>=][0-9;]*[a-zA-Z]|\x1bP.*?\x1b\\|\x1b\[\?[0-9;]*\$p", b"", data, flags=re.S)
        self._stream.feed(cleaned)

    def _reap(self) -> None:
        if self.status is None:
            self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self.screen.display)

    def until(self, *texts: str, seconds: float = PATIENCE) -> str:
        """Wait until all of `texts` are on the screen; return the screen."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if all(text in self.text() for text in texts):
                return self.text()
            if self.status is not None:
                break
            self.read()
        raise AssertionError(f"{texts} did not appear (status {self.status}):\n{self.text()}")

    def until_exit(self, seconds: float = 15.0) -> int:
        end = time.monotonic() + seconds
        while self.status is None and time.monotonic() < end:
            self.read()
        assert self.status is not None, f"the program is still there:\n{self.text()}"
        return self.status

    def restored(self) -> bool:
        """Whether the alternate screen was left, the cursor is shown and the mouse is off."""

        def last(on: bytes, off: bytes) -> bool:
            return on not in self.raw or self.raw.rfind(off) > self.raw.rfind(on)

        return all(
            last(on, off)
            for on, off in (
                (b"\x1b[?1049h", b"\x1b[?1049l"),
                (b"\x1b[?25l", b"\x1b[?25h"),
                (b"\x1b[?1003h", b"\x1b[?1003l"),
                (b"\x1b[?1000h", b"\x1b[?1000l"),
            )
        )

    def close(self) -> None:
        if self.status is None:
            os.kill(self.pid, 9)
            self._reap()
        os.close(self.fd)
