"""What the tests of the command line share."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tui.cli import run


@pytest.fixture
def in_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Carry a command line out in this process, seconds faster than in one of its own; what it raises is raised."""

    def call(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        monkeypatch.chdir(cwd)
        capsys.readouterr()
        status = run(list(arguments))
        return subprocess.CompletedProcess(arguments, status, *capsys.readouterr())

    return call
