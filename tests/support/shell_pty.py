"""An interactive shell in a pseudo-terminal, as a person has it: what is typed, and what it shows."""

import os
import pty
import re
import select
import signal
import time
from pathlib import Path

_ESCAPES = re.compile(
    r"\x1b(?:\[[0-9;?<>=]*[A-Za-z]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[=>()].?|P[^\x1b]*\x1b\\)|[\x00\x07\r]"
)


class Shell:
    def __init__(self, *command: str, cwd: Path, env: dict[str, str]) -> None:
        self.pid, self._terminal = pty.fork()
        if self.pid == 0:
            os.chdir(cwd)
            os.execvpe(command[0], command, env)
        self.seen = ""

    def type(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def until(self, text: str, seconds: float = 60.0) -> str:
        """Return what was shown since the last call, once `text` is in it; raise AssertionError where it never is."""
        deadline = time.monotonic() + seconds
        shown = ""
        while text not in shown:
            left = deadline - time.monotonic()
            assert left > 0, f"{text!r} is not in {shown!r}"
            if select.select([self._terminal], [], [], left)[0]:
                self.seen += os.read(self._terminal, 65536).decode(errors="replace")
            shown = re.sub(r"[^\n]\x08", "", _ESCAPES.sub("", self.seen))
        self.seen = ""
        return shown

    def close(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.close(self._terminal)
        os.waitpid(self.pid, 0)
