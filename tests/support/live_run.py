"""A run that trains while a test does something to its dashboard, seen through its journal."""

import time
from itertools import pairwise
from pathlib import Path

from finetui.engine.protocol.events import StateChanged, TrainPoint
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.journal import JournalReader
from finetui.engine.runs.lock import is_live

# Short steps, more of them than any test waits for, and an evaluation out of the way.
ENDLESS = (
    *("--data", "mnist-sample", "--device", "cpu", "--batch-size", "20", "--lr", "0.001"),
    *("--epochs", "100000", "--name", "live", "--start"),
)


class LiveRun:
    """The run `live` in the folder of runs below `cwd`."""

    def __init__(self, cwd: Path) -> None:
        self.folder = RunFolder(cwd / "checkpoints" / "live")

    def points(self) -> list[TrainPoint]:
        """Return the training points so far."""
        return [event for event in JournalReader(self.folder.journal).read() if isinstance(event, TrainPoint)]

    def states(self) -> list[str]:
        """Return the states that it went through."""
        return [event.state for event in JournalReader(self.folder.journal).read() if isinstance(event, StateChanged)]

    def step(self) -> int:
        """Return how many steps it has taken, as far as the journal knows."""
        points = self.points()
        return points[-1].step if points else 0

    def lives(self) -> bool:
        """Whether its engine is there."""
        return is_live(self.folder)

    def goes_on(self, steps: int = 200, seconds: float = 30.0) -> bool:
        """Wait for so many more steps; return whether they came, and none of all steps is missing."""
        goal, end = self.step() + steps, time.monotonic() + seconds
        while self.step() < goal and time.monotonic() < end:
            time.sleep(0.05)
        points = self.points()
        gaps = [(a.step, b.step) for a, b in pairwise(points) if b.step - b.steps != a.step]
        return self.lives() and points[-1].step >= goal and not gaps

    def rate(self, since: float, until: float) -> float:
        """Return steps per second between two moments (Unix seconds) that the journal has points around."""
        points = [point for point in self.points() if since <= point.time <= until]
        return (points[-1].step - points[0].step) / (points[-1].time - points[0].time)
