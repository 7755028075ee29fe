"""A terminal that costs next to nothing: it takes what comes, counts it, and notes when."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

_ESCAPES = re.compile(rb"\x1b\[[0-9;?<>=$]*[a-zA-Z]|\x1b[PX\]^_].*?(?:\x1b\\|\x07)", re.S)
# What every terminal answers: which it is. Without that, a program waits for a while.
_ANSWERS = ((b"\x1b[c", b"\x1b[?62;22c"),)
_OVERLAP = 2_000  # bytes: what is looked for may come in two parts


class Terminal:
    """Runs `argv` in `cwd`, in a pseudo-terminal, of 120x40 by default, that who calls `read` or `until` drains."""

    def __init__(self, argv: Sequence[str], cwd: Path, columns: int = 120, rows: int = 40) -> None:
        self.started = time.perf_counter()
        self.pid, self._descriptor = pty.fork()
        if self.pid == 0:
            os.chdir(cwd)
            kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
            os.execvpe(argv[0], list(argv), kept | {"TERM": "xterm-256color", "COLORTERM": "truecolor"})
        self._recent = b""

    def read(self, seconds: float) -> int:
        """Take what comes within `seconds`; return how many bytes that was."""
        count, end = 0, time.perf_counter() + seconds
        while (left := end - time.perf_counter()) > 0:
            count += self._take(left)
        return count

    def until(self, text: str, seconds: float = 60.0) -> float:
        """Return the moment at which `text` was painted, without a break in its line."""
        end = time.perf_counter() + seconds
        new = len(self._recent)
        while time.perf_counter() < end:
            # The newest alone is looked at: what this costs, a training beside it pays as well.
            if new and text.encode() in _ESCAPES.sub(b"", self._recent[-new - _OVERLAP :]):
                self._recent = b""
                return time.perf_counter()
            new = self._take(0.2)
        raise SystemExit(f"{text!r} was not painted within {seconds:g} s; the last bytes: {self._recent[-500:]!r}")

    def lag(self, key: str) -> float:
        """Press `key` when nothing has come for a moment; return the seconds until something is painted."""
        while self._take(0.02):
            pass
        pressed = time.perf_counter()
        os.write(self._descriptor, key.encode())
        while not self._take(1.0):
            if time.perf_counter() - pressed > 5:
                raise SystemExit(f"nothing was painted after the key {key!r}")
        return time.perf_counter() - pressed

    def press(self, keys: str) -> None:
        """Type `keys`."""
        os.write(self._descriptor, keys.encode())

    def memory(self) -> float:
        """Return the most megabytes that the program itself has had in memory."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) / 1000

    def processor(self) -> float:
        """Return the seconds of processor time that the program itself has used."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(") ")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def woken(self) -> int:
        """Return how often threads of the program have begun to run: after a wait, or after others had the core."""
        found = 0
        for status in Path(f"/proc/{self.pid}/task").glob("*/status"):
            with suppress(OSError):  # the thread has ended meanwhile
                found += sum(map(int, re.findall(r"ctxt_switches:\s+(\d+)", status.read_text())))
        return found

    def close(self) -> None:
        """End the program, and wait for that."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)
        end = time.perf_counter() + 10
        while os.waitpid(self.pid, os.WNOHANG) == (0, 0):
            self._take(0.05)
            if time.perf_counter() > end:
                os.kill(self.pid, signal.SIGKILL)
        os.close(self._descriptor)

    def _take(self, seconds: float) -> int:
        if not select.select([self._descriptor], [], [], max(seconds, 0))[0]:
            return 0
        try:
            data = os.read(self._descriptor, 65536)
        except OSError:
            time.sleep(min(seconds, 0.01))
            return 0
        for question, answer in _ANSWERS:
            if question in data:
                os.write(self._descriptor, answer)
        self._recent = (self._recent + data)[-200_000:]
        return len(data)
