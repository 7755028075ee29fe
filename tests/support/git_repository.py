"""A repository of git for tests, without the person's own configuration."""

import subprocess
from pathlib import Path

import pytest


def made_repository(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a repository with one commit of `train.py`, and go there."""
    place.mkdir()
    (place / "train.py").write_text("print(1)\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    for words in (["init", "-q"], ["add", "."], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "one"]):
        subprocess.run(["git", *words], cwd=place, check=True)
    monkeypatch.chdir(place)
    return place
