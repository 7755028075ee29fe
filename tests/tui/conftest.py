"""What the tests of the command line share, and those of the Errors screen."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from canned_predictions import AnsweringLink, predictions, saved
from errors_pilot import events_of
from log_pilot import Run
from watching import Watcher

from finetui.engine.link.attach_link import AttachLink
from finetui.engine.predictions.file import Predictions
from finetui.tui.cli import main


@pytest.fixture
def in_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Carry a command line out in this process, seconds faster than in one of its own; what it raises is raised."""

    def call(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        monkeypatch.chdir(cwd)
        capsys.readouterr()
        status = main.run(list(arguments))
        return subprocess.CompletedProcess(arguments, status, *capsys.readouterr())

    return call


@pytest.fixture
def found() -> Predictions:
    """Return the predictions of 200 images."""
    return predictions()


@pytest.fixture
def link(tmp_path: Path, found: Predictions) -> AnsweringLink:
    """Return a link of a run with the predictions `found`, which answers questions about their images."""
    saved(tmp_path, found)
    return AnsweringLink(*events_of(tmp_path))


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run whose log is shown."""
    return Run(tmp_path / "runs" / "a-run")


@pytest.fixture
def attach(watch: Callable[[AttachLink], Watcher]) -> Callable[..., Watcher]:
    return lambda folder, **options: watch(AttachLink(folder, **options))
