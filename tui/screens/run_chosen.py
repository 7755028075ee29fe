"""What the Runs screen asks of the program."""

from pathlib import Path
from typing import NamedTuple

from textual.message import Message


class Differing(NamedTuple):
    """Two files with predictions: those to show, and those to compare them with."""

    predictions: Path
    other: Path


class RunChosen(Message):
    """Somebody wants to look at the run in the folder `path`, or at what it and another run differ on."""

    def __init__(self, path: Path, differing: Differing | None = None) -> None:
        super().__init__()
        self.path = path
        self.differing = differing
