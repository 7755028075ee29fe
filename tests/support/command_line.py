"""Runs `finetui` as a person does, in a process of its own."""

import subprocess
import sys
from pathlib import Path

FINETUI = (sys.executable, "-m", "finetui")
SMALL = ["--data", "mnist-sample", "--epochs", "1", "--batch-size", "20", "--lr", "0.01", "--device", "cpu"]
ENDLESS = ["--data", "mnist-sample", "--device", "cpu", "--epochs", "1000", "--batch-size", "20"]


def finetui(*arguments: str, cwd: Path, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*FINETUI, *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        stdin=subprocess.DEVNULL,
        **options,
    )
