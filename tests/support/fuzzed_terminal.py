"""A dashboard under fuzz: sent actions, opened again when they leave it, and asked whether it still answers."""

import os
import select
import signal
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil
from fuzzing import CONTROL_C, ESCAPE, Action, write_script
from pty_terminal import PtyTerminal

from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.lock import live_runs
from finetui.engine.runs.summaries import summarise_run

HELP = "The run: its curves"
ALTERNATE = b"\x1b[?1049h"
_STUCK_SECONDS = 60.0  # to take what is sent, to leave
_STUCK_CPU_SECONDS = 15.0  # of its own, to answer a key: on a busy machine a time of the clock says nothing
_GONE_SECONDS = 240.0  # in which it does not even use that
_OPENING_SECONDS = 60.0
_SILENT_SECONDS = 30.0  # of a journal whose run trains
_PATIENCE_SECONDS = 1.5  # for the help, before more is done to get out of something
_ESCAPES = 4  # enough to get out of most things
_SCREENS = {
    "Errors": b"Enlarge",
    "Matrix": b"Confusion matrix",
    "Layers": b" parameters trainable",
    "Runs": b"lr>0.01",
    "Checkpoints": b"roll back",
    "Log": b"Engine output",
    "Finetune": b"Start finetune",
    "Learning rates": b"Learning-rate finder",
    "Compare": b"Compare with",
    "Export": b"Overwrite",
    "Palette": b"Search for commands",
    "Help": HELP.encode(),
    "Too small": b"This terminal has",
}


class Fuzzed:
    """The dashboard that `opening` gives the command line of, again whenever it was left; `label` tells how to repeat.

    Everything that must hold is asserted: what is sent is taken, leaving is in order, no traceback is ever seen.
    """

    def __init__(
        self,
        open_terminal: Callable[..., PtyTerminal],
        opening: Callable[[], Sequence[str]],
        runs_dir: Path,
        script: Path,
        label: str,
    ) -> None:
        self._open_terminal = open_terminal
        self._opening = opening
        self._runs_dir = runs_dir
        self._script = script
        self._label = label
        self._done: list[Action] = []
        self._recent: deque[Action] = deque(maxlen=10)
        self._looked_at = 0  # how much of the output was searched
        self.terminal: PtyTerminal
        self.sent = self.opened = self.checks = self.bytes = 0
        self.exits: Counter[int] = Counter()
        self.screens: Counter[str] = Counter()
        self._open()

    # -- opening and leaving ----------------------------------------------------------------------------

    def _open(self) -> None:
        """Open the dashboard; a run that ends just then has no engine to attach to any more, which is said."""
        deadline = time.monotonic() + _OPENING_SECONDS
        while True:
            self.terminal = terminal = self._open_terminal(*self._opening())
            self._looked_at = 0
            self.opened += 1
            while terminal.status is None and ALTERNATE not in terminal.raw:
                self.expect(time.monotonic() < deadline, "the dashboard did not open")
                self.take(0.05)
            if terminal.status is None:
                return
            said = terminal.raw.decode(errors="replace")
            ended = terminal.status == 2 and said.count("\n") == 1 and "no engine is running it" in said
            self.expect(ended and time.monotonic() < deadline, f"opening ended with status {terminal.status}: {said}")
            terminal.hang_up()

    def _left(self) -> None:
        """Check that the program was left in order, and open it again."""
        terminal = self.terminal
        status, said = terminal.status, terminal.left()
        assert status is not None
        self.exits[status] += 1
        interrupted = status == 130 and "interrupted" in said and any(CONTROL_C in a.data for a in self._recent)
        failed = status == 1 and "finetui: " in said and "the dashboard failed" not in said
        self.expect(status == 0 or interrupted or failed, f"it ended with status {status}: {said}")
        self.expect(terminal.restored(), "the terminal was not restored")
        terminal.hang_up()
        self._open()

    def close(self) -> None:
        """Leave the dashboard."""
        self.answers()
        self.send(ESCAPE)
        self.take(0.4)
        for _ in range(20):
            self.send(b"q")  # over another run that is looked at: back to this one
            self.take(1.0)
            if self.terminal.status is not None:
                break
        self.expect(self.terminal.status is not None, "it cannot be left with q")
        self.expect(self.terminal.restored(), "the terminal was not restored")
        self.terminal.hang_up()

    # -- input and output -------------------------------------------------------------------------------

    def take(self, seconds: float) -> None:
        """Take what the program shows for so long, or until it has ended, without looking at it."""
        terminal, end = self.terminal, time.monotonic() + seconds
        while terminal.status is None:
            left = end - time.monotonic()
            if not select.select([terminal.fd], [], [], max(left, 0))[0]:
                break
            self._take_some()
            if left <= 0:
                break
        self._search()

    def _take_some(self) -> None:
        terminal = self.terminal
        try:
            data = os.read(terminal.fd, 65536)
        except OSError:  # the other side has closed
            data = b""
        self.bytes += len(data)
        terminal.raw += data
        if not data:
            terminal.until_exit(_STUCK_SECONDS, drain=False)

    def _search(self) -> None:
        raw = self.terminal.raw
        fresh = raw[max(self._looked_at - 40, 0) :]
        self._looked_at = len(raw)
        for name, mark in _SCREENS.items():
            self.screens[name] += mark in fresh
        self.expect(b"Traceback" not in fresh, "there is a traceback on the screen")

    def send(self, data: bytes) -> None:
        """Send `data`, taking output where the program has to write before it reads on."""
        terminal, deadline = self.terminal, time.monotonic() + _STUCK_SECONDS
        while data and terminal.status is None:
            readable, writable, _ = select.select([terminal.fd], [terminal.fd], [], 0.1)
            if readable:
                self._take_some()
            elif writable:
                try:
                    data = data[os.write(terminal.fd, data[:256]) :]
                except OSError:  # it has just ended, which reading tells
                    self.take(_STUCK_SECONDS)
            self.expect(time.monotonic() < deadline, "it takes no input any more")

    def act(self, action: Action) -> None:
        """Do `action`; where that leaves the program, check how, and open it again."""
        self._done.append(action)
        self._recent.append(action)
        self.sent += 1
        if action.kind == "resize":
            self.terminal.resize(action.columns, action.rows)
        else:
            self.send(action.data)
        self.take(action.wait)
        if self.terminal.status is not None:
            self._left()

    # -- what must hold ---------------------------------------------------------------------------------

    def answers(self) -> None:
        """Check that it is not stuck: out of everything with Escape, a known key shows what it always does."""
        self.checks += 1
        for _ in range(3):
            if self._shows_help():
                break
            # Left just before, with the keys that were still on their way.
            self._left()
        self.send(ESCAPE)
        self.take(0.3)

    def _shows_help(self) -> bool:
        """Return whether the program was there to be asked."""
        terminal, deadline, used = self.terminal, time.monotonic() + _GONE_SECONDS, self._cpu_seconds()
        self.take(0.2)
        terminal.resize(82, 25)
        while terminal.status is None and HELP not in terminal.text():
            if time.monotonic() > deadline or self._cpu_seconds() - used > _STUCK_CPU_SECONDS:
                terminal.signal(signal.SIGABRT)  # with PYTHONFAULTHANDLER it writes down where it is
                self.take(_STUCK_SECONDS)
                self.expect(False, "it is stuck: no help after Escape and ?; the dashboard's log says where")
            for _ in range(_ESCAPES):
                self.send(ESCAPE)
                self.take(0.15)
            terminal.screen.reset()
            terminal.resize(80, 24)
            self.send(b"?")
            patience = time.monotonic() + _PATIENCE_SECONDS
            while terminal.status is None and HELP not in terminal.text() and time.monotonic() < patience:
                terminal.read()
        self._search()
        return terminal.status is None

    def _cpu_seconds(self) -> float:
        """Return the processor time that the program has used."""
        if self.terminal.status is not None:
            return 0.0
        times = psutil.Process(self.terminal.pid).cpu_times()
        return times.user + times.system

    def trains_on(self) -> None:
        """Check that the journal of each run that says it trains is growing."""
        for folder in live_runs(self._runs_dir):
            size, deadline = _size(folder), time.monotonic() + _SILENT_SECONDS
            while _state(folder) == "running" and _size(folder) == size:
                self.expect(time.monotonic() < deadline, f"the run {folder.name} says it is running, and does nothing")
                self.take(0.2)

    def expect(self, holds: bool, problem: str) -> None:
        """Fail with `problem`, and with all that is needed to see it again, unless it `holds`."""
        if holds:
            return
        write_script(self._script, self._done)
        recent = "\n".join(f"  {action}" for action in self._recent)
        raise AssertionError(
            f"{problem}\n{self._label}; after {self.sent} actions, all in {self._script}\nthe last ones:\n{recent}\n"
            f"status {self.terminal.status}, the output ends with {bytes(self.terminal.raw[-300:])!r}\n"
            f"the screen:\n{self.terminal.text()}"
        )

    def figures(self) -> str:
        """Return what was done, in a line or two."""
        exits = ", ".join(f"{count} with {status}" for status, count in sorted(self.exits.items())) or "none"
        screens = ", ".join(f"{name} {count}" for name, count in self.screens.most_common())
        return (
            f"{self.sent:,} actions, {self.bytes / 1e6:.1f} MB shown, opened {self.opened} times, exits: {exits}, "
            f"asked {self.checks} times; screens: {screens}"
        )


def _size(folder: RunFolder) -> int:
    return folder.journal.stat().st_size


def _state(folder: RunFolder) -> str:
    summary = summarise_run(folder)
    return "preparing" if summary is None else summary.state


def fuzz(fuzzed: Fuzzed, actions: Iterator[Action], seconds: float, *, together: int = 40) -> None:
    """Do `actions` for so many seconds, or to their end, asking after every `together` how it is."""
    end = time.monotonic() + seconds
    for number, action in enumerate(actions, 1):
        if time.monotonic() > end:
            return
        fuzzed.act(action)
        if number % together == 0:
            fuzzed.answers()
            fuzzed.trains_on()
