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
KEYS = 60


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


def watched(options: Options, program: Sequence[str] = FINETUI, used: list[float] | None = None) -> float:
    """Train with the dashboard in a terminal of 120x40; return the seconds of a step.

    `used` is given the share of a core that the dashboard took.
    """
    with tempfile.TemporaryDirectory() as work:
        folder = RunFolder(Path(work) / "run")
        more = ["--epochs", str(EPOCHS), "--start", "--linger", "0"]
        terminal = Terminal([*program, *settings(options, Path(work), *more)], Path.cwd())
        try:
            terminal.until("running")
            began, processor = time.perf_counter(), terminal.processor()
            terminal.until("finished", 120)
            if used is not None:
                used.append((terminal.processor() - processor) / (time.perf_counter() - began))
            terminal.press("q")
            terminal.read(1.0)
        finally:
            terminal.close()
        while is_live(folder):
            time.sleep(0.1)
        return step_seconds(folder)


IN_THREAD = (sys.executable, "-m", "benchmarks.in_thread")


def run(options: Options) -> str:
    """Return the section of the results."""
    used: list[float] = []
    contenders = {
        "headless": partial(headless, options),
        "dashboard": partial(watched, options, used=used),
        "dashboard, engine in its thread": partial(watched, options, IN_THREAD),
    }
    measured = in_turn(contenders, options.rounds)
    alone = statistics.median(measured["headless"])
    rows = [
        [
            name,
            f"{1e3 * statistics.median(seconds):.3f} ({1e3 * min(seconds):.3f} to {1e3 * max(seconds):.3f})",
            f"{alone / statistics.median(seconds):.3f} x",
        ]
        for name, seconds in measured.items()
    ]
    tax = table(["LeNet, MNIST, batch 128", "ms a step", "throughput against headless"], rows)
    share = f"The dashboard's process took {statistics.median(used):.1%} of a core while training."
    return f"{tax}\n\n{share}\n\n{answers(options)}"


def answers(options: Options) -> str:
    """Measure keys and bytes while both cores train, and while nothing happens."""
    with tempfile.TemporaryDirectory() as work:
        more = ["--epochs", "1000", "--start", "--linger", "0"]
        terminal = Terminal([*FINETUI, *settings(options, Path(work), *more)], Path.cwd())
        try:
            terminal.until("running")
            terminal.read(10.0)
            live = terminal.read(30.0) / 30
            rows = []
            for keys, meaning in (("+-", "learning rate up, down"), ("y", "log scale"), ("\t", "next control")):
                lags = []
                for index in range(KEYS):
                    lags.append(1e3 * terminal.lag(keys[index % len(keys)]))
                    terminal.read(0.15)
                rows.append([meaning, f"{statistics.median(lags):.0f}", f"{percentile(lags, 0.95):.0f}"])
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
    keys = table(["key, while both cores train", "to paint, median ms", "95th percentile ms"], rows)
    sent = f"Sent to a terminal of 120x40: {live / 1e3:.2f} KB/s while training, {idle / 1e3:.2f} KB/s when paused."
    return f"{keys}\n\n{sent} The dashboard's process had at most {memory:.0f} MB in memory."
