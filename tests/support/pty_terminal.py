"""A pseudo-terminal with a program in it: type, click, resize, and see what a person would see."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pyte
from fork_server import take_terminal
from wcwidth import wcwidth

PATIENCE = 60.0
# What pyte knows nothing of: private-marker sequences with < = >, questions about modes, strings to the terminal.
_UNKNOWN = re.compile(rb"\x1b\[[<>=][0-9;]*[a-zA-Z]|\x1bP.*?\x1b\\|\x1b\[\?[0-9;]*\$p|\x1b\\|\x1b\]22;[a-z]*\x07", re.S)
_UNFINISHED = re.compile(rb"\x1b(?:[\[\]][0-9;<>=?$]*)?\Z")
# What is on while there is a dashboard, and how each is switched off.
_MODES = (
    (b"\x1b[?1049h", b"\x1b[?1049l"),
    (b"\x1b[?25l", b"\x1b[?25h"),
    (b"\x1b[?1003h", b"\x1b[?1003l"),
    (b"\x1b[?1000h", b"\x1b[?1000l"),
    (b"\x1b[?1006h", b"\x1b[?1006l"),
    (b"\x1b[?2004h", b"\x1b[?2004l"),
    (b"\x1b[?1004h", b"\x1b[?1004l"),
    (b"\x1b[?7l", b"\x1b[?7h"),
    (b"\x1b[>25u", b"\x1b[<u"),
)


class PtyTerminal:
    """Runs `argv` in `cwd`, in a terminal of `columns` x `rows`.

    The terminal is stalled for as long as nobody calls `read`, or what calls it.
    """

    def __init__(
        self,
        argv: Sequence[str],
        cwd: Path,
        columns: int = 80,
        rows: int = 24,
    ) -> None:
        self.screen = pyte.Screen(columns or 80, rows or 24)
        self._stream = pyte.ByteStream(self.screen)
        self.raw = bytearray()
        self._rest = b""
        self.hung_up = False
        self.status: int | None = None
        self.fd, inner = pty.openpty()
        self.modes_before = termios.tcgetattr(self.fd)
        self.resize(columns, rows)
        kept = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "NO_COLOR")}
        self._process = subprocess.Popen(
            argv,
            stdin=inner,
            stdout=inner,
            stderr=inner,
            cwd=cwd,
            env=kept | {"TERM": "xterm-256color", "COLORTERM": "truecolor"},
            start_new_session=True,
            preexec_fn=take_terminal,
        )
        os.close(inner)

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.screen.resize(rows or 24, columns or 80)

    def type(self, keys: str) -> None:
        os.write(self.fd, keys.encode())

    def click(self, text: str) -> None:
        """Click the first cell of `text`."""
        for row, line in enumerate(self.lines()):
            if text in line:
                column = line.index(text)
                self.type(f"\x1b[<0;{column + 1};{row + 1}M\x1b[<0;{column + 1};{row + 1}m")
                return
        raise AssertionError(f"{text!r} is not on the screen:\n{self.text()}")

    def read(self, seconds: float = 0.05) -> bool:
        """Read what there is, waiting up to `seconds` for it; return whether there was anything."""
        if self.hung_up or not select.select([self.fd], [], [], seconds)[0]:
            return False
        try:
            data = os.read(self.fd, 65536)
        except OSError:  # Linux says EIO where the other side has closed
            data = b""
        if not data:
            self._reap()
            return False
        self.raw += data
        self._rest += data
        unfinished = _UNFINISHED.search(self._rest)
        end = unfinished.start() if unfinished else len(self._rest)
        self._stream.feed(_UNKNOWN.sub(b"", self._rest[:end]))
        self._rest = self._rest[end:]
        return True

    def read_all(self, quiet: float = 0.2) -> None:
        """Read until nothing comes for a moment of `quiet` seconds."""
        while self.read(quiet):
            pass

    def drain_for(self, seconds: float) -> None:
        """Take what comes for so long without looking at it, which is quick; what it changed is not on the screen."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if select.select([self.fd], [], [], left)[0]:
                self.raw += os.read(self.fd, 65536)

    @property
    def pid(self) -> int:
        """The program's process id."""
        return self._process.pid

    def _reap(self) -> None:
        self.status = self._process.wait()

    def signal(self, number: int) -> None:
        """Send the program a signal."""
        os.kill(self.pid, number)

    def hang_up(self) -> None:
        """Close the terminal, as when a window is closed or a connection is lost."""
        self.hung_up = True
        os.close(self.fd)

    def threads(self) -> int:
        """Return how many threads the program has."""
        return len(list(Path(f"/proc/{self.pid}/task").iterdir()))

    def wait_until_idle(self, seconds: float = PATIENCE) -> None:
        """Wait, without reading, until the program does next to nothing for a second."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            before = self._cpu_seconds()
            time.sleep(1)
            if self._cpu_seconds() - before < 0.2:
                return
        raise AssertionError("the program is busy all the time")

    def _cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def modes(self) -> list[object]:
        """Return the modes of the terminal's input now; `modes_before` holds those that it began with."""
        return termios.tcgetattr(self.fd)

    def lines(self) -> list[str]:
        """Return the screen's lines; its own `display` fails where half of a wide character was overwritten."""
        return [self._line(y) for y in range(self.screen.lines)]

    def _line(self, y: int) -> str:
        cells = [self.screen.buffer[y][x].data for x in range(self.screen.columns)]
        after_wide = [False, *(wcwidth(cell[:1]) == 2 for cell in cells)]
        return "".join(cell or " " * (not after) for cell, after in zip(cells, after_wide, strict=False))

    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self.lines())

    def until(self, *texts: str, seconds: float = PATIENCE) -> str:
        """Wait until all of `texts` are on the screen; return the screen."""
        self.until_true(lambda: all(text in self.text() for text in texts), f"{texts} did not appear", seconds)
        return self.text()

    def until_true(self, condition: Callable[[], bool], problem: str, seconds: float = PATIENCE) -> None:
        """Read the terminal until `condition` holds; fail with `problem` when it never does."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if condition():
                return
            if self.status is not None:
                break
            self.read()
        raise AssertionError(f"{problem} (status {self.status}):\n{self.text()}")

    def until_exit(self, seconds: float = PATIENCE, *, drain: bool = True) -> int:
        """Wait until the program has ended and return its exit status; without `drain` do not read meanwhile."""
        end = time.monotonic() + seconds
        while self.status is None and time.monotonic() < end:
            if drain:
                self.read(0.01)
            else:
                time.sleep(0.01)
            if self.status is None:
                self.status = self._process.poll()
        assert self.status is not None, f"the program is still there:\n{self.text()}"
        if drain:
            self.read_all()
        return self.status

    def left(self) -> str:
        """Return the text that was written after the alternate screen was left for the last time."""
        return re.sub(rb"\x1b\[\?\d+[hl]", b"", self.raw.rpartition(b"\x1b[?1049l")[2]).decode(errors="replace")

    def restored_modes(self) -> bool:
        """Whether the alternate screen was left, the cursor is shown, and all reports and keyboard modes are off."""

        def last(on: bytes, off: bytes) -> bool:
            return on not in self.raw or self.raw.rfind(off) > self.raw.rfind(on)

        return all(last(on, off) for on, off in _MODES)

    def restored(self) -> bool:
        """Whether that is so, and keys are read as they were before."""
        return self.restored_modes() and self.modes() == self.modes_before

    def close(self) -> None:
        if self.status is None:
            self._process.kill()
            self._reap()
        if not self.hung_up:
            os.close(self.fd)
