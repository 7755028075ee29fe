"""One command and one seed, default settings, on a busy machine: one result."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from finetui.engine.checkpoints import checkpoint

BUSY = [sys.executable, "-c", "import torch\nwhile True: torch.rand(400, 400) @ torch.rand(400, 400)"]


def train(tmp_path: Path, name: str, *options: str) -> list[str]:
    command = [sys.executable, "-m", "finetui", "train", "--data", "mnist-sample", "--epochs", "1"]
    return [*command, "--runs-dir", str(tmp_path / "runs"), "--name", name, *options]


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """All threads that the machine has, as people's runs do."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    return dict(os.environ)


@pytest.fixture(autouse=True)
def busy(environment: dict[str, str]):
    burners = [subprocess.Popen(BUSY, env=environment) for _ in range(2)]
    yield
    for burner in burners:
        burner.kill()
        burner.wait()


def digest(tmp_path: Path, name: str) -> str:
    return checkpoint.digest(checkpoint.load(tmp_path / "runs" / name / "last.ckpt")[1])


@pytest.mark.slow
def test_the_same_run_is_the_same_bits_however_it_is_held(tmp_path: Path, environment: dict[str, str]) -> None:
    options = {"one": (), "two": (), "three": ("--loader", "stream"), "four": ("--loader", "resident")}
    for name, more in options.items():
        subprocess.run(train(tmp_path, name, *more), env=environment, check=True, capture_output=True)
    assert len({digest(tmp_path, name) for name in options}) == 1


@pytest.mark.slow
def test_a_run_that_is_killed_and_resumed_is_the_same_bits(tmp_path: Path, environment: dict[str, str]) -> None:
    subprocess.run(train(tmp_path, "whole"), env=environment, check=True, capture_output=True)
    command = train(tmp_path, "killed", "--save-steps", "20")
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, start_new_session=True) as process:
        while not (tmp_path / "runs" / "killed" / "previous.ckpt").exists():
            assert process.poll() is None
        os.killpg(process.pid, signal.SIGKILL)
    resume = [sys.executable, "-m", "finetui", "resume", "killed", "--runs-dir", str(tmp_path / "runs")]
    subprocess.run(resume, env=environment, check=True, capture_output=True)
    assert digest(tmp_path, "killed") == digest(tmp_path, "whole")
