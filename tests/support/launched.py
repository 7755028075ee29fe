"""Runs that several processes train, as the launcher, torchrun or srun starts them, and those processes."""

import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil
from watching import until

from finetui.engine.protocol.events import AnyEvent, StateChanged, TrainPoint
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.journal import JournalReader

ENDLESS = ("--data", "mnist-sample", "--device", "cpu", "--batch-size", "40", "--lr", "0.001", "--epochs", "100000")
LONG = 150.0  # seconds: Python imports torch twice, one after the other, on a machine with other things to do


class Launched:
    """A command that trains the run `name` in several processes, started in the folder `cwd`."""

    def __init__(self, command: Sequence[str], cwd: Path, name: str = "t", **environment: str) -> None:
        self.folder = RunFolder(cwd / "checkpoints" / name)
        self.output = cwd / f"output-{len(list(cwd.glob('output-*')))}"
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                command,
                cwd=cwd,
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
                env=os.environ | environment,
                start_new_session=True,
            )
        self.ranks: dict[int, psutil.Process] = {}

    def until_training(self, after: int = 0) -> None:
        """Wait for a train point after `after` journaled ones, and learn which processes train."""
        until(lambda: len(self.of(TrainPoint)) > after, f"no training: {self.said()}", LONG)
        children = psutil.Process(self.process.pid).children(recursive=True)
        found = {_rank_of(child): child for child in children}
        self.ranks = {rank: child for rank, child in found.items() if rank is not None}

    def of(self, *kinds: type[AnyEvent]) -> list:
        """Return the run's events of these kinds."""
        if not self.folder.journal.is_file():
            return []
        return [event for event in JournalReader(self.folder.journal).read() if isinstance(event, kinds)]

    def last_state(self) -> StateChanged:
        """Return the state that the run is in."""
        return self.of(StateChanged)[-1]

    def said(self) -> str:
        """Return what was printed."""
        return self.output.read_text(errors="replace")

    def until_all_gone(self, seconds: float = 60.0) -> None:
        """Wait until none of the processes is left."""
        until(lambda: not any(_lives(rank) for rank in self.ranks.values()), "a rank trains on", seconds)

    def close(self) -> None:
        """End whatever is left of it."""
        for process in (*psutil_children(self.process.pid), *self.ranks.values()):
            with suppress(psutil.Error):
                process.kill()
        self.process.kill()
        self.process.wait()


def psutil_children(pid: int) -> list[psutil.Process]:
    """Return the processes below `pid`; none where it has ended."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []


def _rank_of(process: psutil.Process) -> int | None:
    with suppress(psutil.Error):
        environment = process.environ()
        rank = environment.get("RANK", environment.get("SLURM_PROCID"))
        # A shell that srun is written in has it for its tasks only.
        return int(rank) if rank is not None and process.name().startswith("python") else None
    return None


def _lives(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
