"""What the dashboard costs the training, how soon it answers a key, and what it sends to the terminal."""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from itertools import groupby, pairwise
from pathlib import Path

from benchmarks.measuring import Options, in_turn, percentile, table
from benchmarks.terminal import Terminal
from finetui.engine.protocol.events import AnyEvent, StateChanged, TrainPoint
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.journal import JournalReader
from finetui.engine.runs.lock import is_live

EPOCHS = 3
FINETUI = (sys.executable, "-m", "finetui")
KEYS = 40
SIZES = ((120, 40), (200, 60))


def settings(options: Options, runs_dir: Path, *more: str) -> list[str]:
    """Return the options of a training of LeNet on MNIST by the default recipe."""
    where = ["--data-dir", options.data_dir, "--runs-dir", str(runs_dir), "--name", "run"]
    return ["--data", "mnist", "--fast", "on", *where, *more]


def step_seconds(folder: RunFolder) -> float:
    """Return the seconds of a training step, evaluations left out, from the journal of a run."""
    events: list[AnyEvent] = list(JournalReader(folder.journal).read())
    seconds, steps = 0.0, 0
    for _, of_epoch in groupby((e for e in events if isinstance(e, TrainPoint)), key=lambda point: point.epoch):
        for before, after in pairwise(of_epoch):
            seconds += after.time - before.time
            steps += after.steps
    return seconds / steps


def wait_for(folder: RunFolder) -> None:
    """Wait until the run has ended."""
    while not folder.journal.is_file() or not any(
        isinstance(event, StateChanged) and event.state == "finished" for event in JournalReader(folder.journal).read()
    ):
        time.sleep(0.5)


def headless(options: Options) -> float:
    """Train without a dashboard; return the seconds of a step."""
    with tempfile.TemporaryDirectory() as work:
        folder = RunFolder(Path(work) / "run")
        command = [*FINETUI, "train", *settings(options, Path(work), "--epochs", str(EPOCHS)), "--detach"]
        subprocess.run(command, check=True, capture_output=True)
        wait_for(folder)
        while is_live(folder):
            time.sleep(0.1)
        return step_seconds(folder)


def watched(options: Options, program: Sequence[str] = FINETUI, used: list[tuple[float, float]] | None = None) -> float:
    """Train with the dashboard in a terminal of 120x40; return the seconds of a step.

    `used` is given the share of a core that the dashboard took, and how often a second its threads began to run.
    """
    with tempfile.TemporaryDirectory() as work:
        folder = RunFolder(Path(work) / "run")
        more = ["--epochs", str(EPOCHS), "--start", "--linger", "0"]
        terminal = Terminal([*program, *settings(options, Path(work), *more)], Path.cwd())
        try:
            terminal.until("running")
            began, processor, woken = time.perf_counter(), terminal.processor(), terminal.woken()
            terminal.until("finished", 120)
            seconds = time.perf_counter() - began
            if used is not None:
                used.append(((terminal.processor() - processor) / seconds, (terminal.woken() - woken) / seconds))
            terminal.press("q")
            terminal.read(1.0)
        finally:
            terminal.close()
        while is_live(folder):
            time.sleep(0.1)
        return step_seconds(folder)


IN_THREAD = (sys.executable, "-m", "benchmarks.in_thread")
_ROUNDS_IN_THREAD = 3  # at most: somebody's own program, of which nothing is promised


def run(options: Options) -> str:
    """Return the section of the results."""
    used: list[tuple[float, float]] = []
    promised = {"headless": partial(headless, options), "dashboard": partial(watched, options, used=used)}
    in_thread = {"dashboard, engine in its thread": partial(watched, options, IN_THREAD)}
    few = min(options.rounds, _ROUNDS_IN_THREAD)
    measured = in_turn(promised | in_thread, few)
    for name, seconds in in_turn(promised, options.rounds - few).items():
        measured[name] += seconds
    head = ["LeNet, MNIST, batch 128", "ms a step", "throughput against headless, of the same round"]
    rows = []
    for name, seconds in measured.items():
        # Of one round: the machine's moods pass from round to round.
        ratios = [alone / one for alone, one in zip(measured["headless"], seconds, strict=False)]
        rows.append([name, _spread([1e3 * one for one in seconds]), f"{_spread(ratios)} x"])
    core, woken = (statistics.median(values) for values in zip(*used, strict=True))
    share = (
        f"The dashboard's process took {core:.1%} of a core while training; its threads began to run {woken:.0f} times "
        "a second."
    )
    return f"{table(head, rows)}\n\n{share}\n\n{answers(options)}"


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def answers(options: Options) -> str:
    """Measure keys and bytes while both cores train, and while nothing happens, on terminals of two sizes."""
    rows: list[list[str]] = []
    said = []
    for columns, lines in SIZES:
        lags, live, idle, memory = _answers(options, columns, lines)
        rows += [
            [f"{columns}x{lines}", meaning, f"{statistics.median(found):.0f}", f"{percentile(found, 0.95):.0f}"]
            for meaning, found in lags.items()
        ]
        said.append(
            f"Sent to a terminal of {columns}x{lines}: {live / 1e3:.2f} KB/s while training, {idle / 1e3:.2f} KB/s "
            f"when paused; at most {memory:.0f} MB in memory."
        )
    keys = table(["terminal", "key, while both cores train", "to paint, median ms", "95th percentile ms"], rows)
    return "\n\n".join([keys, *said])


def _answers(options: Options, columns: int, lines: int) -> tuple[dict[str, list[float]], float, float, float]:
    """Return the milliseconds that keys took, the bytes a second while training and when paused, and the MB taken."""
    with tempfile.TemporaryDirectory() as work:
        more = ["--epochs", "1000", "--start", "--linger", "0"]
        terminal = Terminal([*FINETUI, *settings(options, Path(work), *more)], Path.cwd(), columns, lines)
        try:
            terminal.until("running")
            terminal.read(10.0)
            live = terminal.read(15.0) / 15
            lags: dict[str, list[float]] = {}
            for keys, meaning in (("+-", "learning rate up, down"), ("Y", "log axis"), ("\t", "next control")):
                lags[meaning] = []
                for index in range(KEYS):
                    lags[meaning].append(1e3 * terminal.lag(keys[index % len(keys)]))
                    terminal.read(0.15)
            terminal.press("\x1b")
            terminal.read(1.0)
            terminal.press(" ")
            terminal.read(3.0)
            idle = terminal.read(10.0) / 10
            memory = terminal.memory()
            terminal.press("q")
            terminal.read(0.5)
        finally:
            terminal.close()
            subprocess.run([*FINETUI, "stop", str(Path(work) / "run")], capture_output=True)
    return lags, live, idle, memory
