"""How soon it is there: the help, the first picture of the dashboard, the first training step."""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.dashboard import FINETUI, settings
from benchmarks.measuring import Options, in_turn, table
from benchmarks.terminal import Terminal
from finetui.engine.protocol.events import CheckpointSaved, TrainPoint
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.journal import JournalReader


def run(options: Options) -> str:
    """Return the section of the results."""
    measured = in_turn(
        {
            "an interpreter that does nothing": lambda: _command([sys.executable, "-c", ""]),
            "`finetui --help`": lambda: _command([*FINETUI, "--help"]),
            "`import torch, torchvision`": lambda: _command([sys.executable, "-c", "import torch, torchvision"]),
            "`finetui`: first picture": lambda: _first_paint(options),
            "`finetui --start`: first training steps": lambda: _first_steps(options),
        },
        max(options.rounds, 5),
    )
    rows = [[name, f"{statistics.median(seconds):.2f}"] for name, seconds in measured.items()]
    return table(["from the call to", "seconds"], rows)


def _command(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - started


def _first_paint(options: Options) -> float:
    with tempfile.TemporaryDirectory() as work:
        terminal = Terminal([*FINETUI, *settings(options, Path(work))], Path.cwd())
        try:
            return terminal.until("Loss") - terminal.started
        finally:
            terminal.close()


def _first_steps(options: Options) -> float:
    with tempfile.TemporaryDirectory() as work:
        began = time.time()
        terminal = Terminal([*FINETUI, *settings(options, Path(work), "--start", "--linger", "0")], Path.cwd())
        journal = RunFolder(Path(work) / "run").journal
        try:
            while True:
                terminal.read(0.05)
                events = list(JournalReader(journal).read()) if journal.is_file() else []
                points = [event for event in events if isinstance(event, TrainPoint)]
                saved = [event for event in events if isinstance(event, CheckpointSaved)]
                if points and saved:
                    return points[0].time - began
        finally:
            terminal.close()
            subprocess.run([*FINETUI, "stop", str(Path(work) / "run")], capture_output=True)
