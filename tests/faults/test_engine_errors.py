"""An engine that fails in the middle of a step: the dashboard stays, says what happened, and what can be done."""

from pathlib import Path

import pytest

from finetui.engine.checkpoints import checkpoint
from finetui.engine.runs.folder import RunFolder

SAMPLE = ["--data", "mnist-sample", "--device", "cpu", "--batch-size", "20", "--epochs", "1000", "--save-steps", "20"]
NETWORK = """
import resource
from torch import nn
import torch


class Net(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.flatten, self.fc = nn.Flatten(), nn.Linear(784, num_classes)
        self.calls = 0

    def forward(self, images):
        self.calls += self.training
        if self.calls > 50:
            {fault}
        return self.fc(self.flatten(images))


def make(num_classes):
    return Net(num_classes)
"""
FAULTS = {
    "an exception": ("raise ZeroDivisionError('bo\\x1b[31mom [/red]')", ["ZeroDivisionError: bo"]),
    "no memory": (
        "resource.setrlimit(resource.RLIMIT_AS, (2**32, 2**32)); torch.empty(2**36)",
        ["out of memory", "use a smaller --batch-size"],
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_dashboard_stays_and_says_what_to_do(open_terminal, tmp_path: Path, fault: str) -> None:
    """Row 9: an exception in a step, and memory that runs out."""
    code, words = FAULTS[fault]
    (tmp_path / "net.py").write_text(NETWORK.format(fault=code))
    terminal = open_terminal(*SAMPLE, "--model", "net.py:make", "--name", "broken", "--start", columns=120, rows=40)
    screen = " ".join(terminal.until("failed", "the engine has ended").split())
    for said in (*words, "is intact", "finetui resume broken"):
        assert said in screen
    assert "Traceback" not in screen
    terminal.type("m")  # it is still a dashboard
    terminal.until("Enlarge")
    terminal.type("q")
    terminal.until("m Errors")
    terminal.type("q")
    assert terminal.until_exit() == 1
    assert terminal.restored()
    assert b"Traceback" not in terminal.raw
    folder = RunFolder(tmp_path / "checkpoints" / "broken")
    assert checkpoint.load(folder.last)[2]["step"] > 0
    assert "Traceback" in folder.log.read_text()
