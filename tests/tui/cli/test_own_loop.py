"""The commands on a run of a person's own loop: what was told can be seen; what only the loop can do is refused."""

from pathlib import Path

import pytest
import torch

import finetui


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the run `own`, that a loop was stopped in, and `mute`, of which no predictions were given."""
    root = tmp_path_factory.mktemp("own")
    for name in ("own", "mute"):
        net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 2))
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        images, labels = torch.rand(8, 1, 4, 4), torch.tensor([0, 1] * 4)
        watching = finetui.watch(net, optimizer, name=name, runs_dir=root / "checkpoints")
        with pytest.raises(KeyboardInterrupt), watching as run:
            for batch in run.steps([images]):
                run.log(loss=net(batch).sum())
            if name == "own":
                run.predictions([[0.9, 0.1]] * 8, labels, images)
            raise KeyboardInterrupt
    return root


def test_its_mistakes_are_listed_and_reported(own: Path, in_process, tmp_path: Path) -> None:
    listed = in_process("errors", "own", "--csv", cwd=own)
    assert listed.returncode == 0
    assert len(listed.stdout.splitlines()) == 1 + 4
    written = in_process("card", "own", "--output", str(tmp_path / "own.html"), cwd=own)
    assert written.returncode == 0, written.stderr
    assert "data:image/png" in (tmp_path / "own.html").read_text()
    told = (tmp_path / "own.md").read_text()
    assert "8 val images, 2 classes" in told and "last.predictions" in told.partition("| Predictions |")[2]
    assert "| optimizer | SGD |" in told and "batch" not in told  # finetui's own defaults say nothing of it
    refused = in_process("errors", "mute", cwd=own)
    assert refused.returncode == 2
    assert "call run.predictions" in refused.stderr
    refused = in_process("errors", "own", "--duplicates", cwd=own)
    assert "the training images of your own loop are not known" in refused.stderr


@pytest.mark.parametrize("command", [("evaluate", "own"), ("export", "own"), ("summary", "own"), ("resume", "own")])
def test_what_needs_its_network_is_refused_in_a_sentence(own: Path, in_process, command: tuple[str, ...]) -> None:
    refused = in_process(*command, *(("--to", "pt2") if "export" in command else ()), cwd=own)
    assert refused.returncode == 2
    assert "was trained by your own loop" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_nobody_is_told_to_resume_it(own: Path, in_process) -> None:
    assert "resume" not in in_process("runs", cwd=own).stdout
    assert "resume" not in in_process("stop", "own", cwd=own).stderr
    assert "start the loop, then try again" in in_process("audit", "own", cwd=own).stderr
