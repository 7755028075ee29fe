"""`finetui audit` of a live loop: a table, JSON, the exit status; and what it says of a run that does not train."""

from pathlib import Path

import msgspec
import pytest
from own_loop import OwnLoop
from watching import until

from finetui.engine.protocol.audit import Audit
from finetui.tui.cli.main import run


def audit(loop: OwnLoop, *options: str) -> int:
    folder = loop.folder_kept
    return run(["audit", folder.name, "--runs-dir", str(folder.path.parent), "--steps", "4", *options])


def training(loop: OwnLoop) -> None:
    until(lambda: loop.steps > 3, "it never began")


def test_a_healthy_loop(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with OwnLoop(tmp_path) as loop:
        training(loop)
        assert audit(loop) == 0
        assert capsys.readouterr().out == "16 tensors over 4 steps, 0 of them frozen: all as they claim\n"
        assert audit(loop, "--all") == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].split() == ["TENSOR", "CLAIMS", "MOVED", "GRADIENT", "OPTIMIZER"]
        row = next(line for line in lines if line.startswith("head.weight"))
        assert row.split()[1:3] == ["trains", "yes"]
        assert row.endswith("SGD lr 0.05 m 0.9 wd 0.01")
        assert len(lines) == 1 + 16 + 2
        assert max(map(len, lines)) <= 80


def test_a_loop_with_a_fault(tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    loop = OwnLoop(tmp_path)
    loop.net.block1.requires_grad_(False)  # in train mode
    with loop:
        training(loop)
        assert audit(loop) == 1
        text = capsysbinary.readouterr().out.decode()
        assert (
            "✗ block1.1.running_mean, block1.1.running_var, block1.1.num_batches_tracked: its layer is frozen" in text
        )
        row = next(line for line in text.splitlines() if line.startswith("block1.1.running_var"))
        assert row.split()[1:3] == ["frozen", "yes"]
        assert "head" not in text
        assert text.endswith("3 wrong\n")
        assert audit(loop, "--json") == 1
        found = msgspec.json.decode(capsysbinary.readouterr().out, type=Audit)
        assert {finding.name for finding in found.wrong} == {
            "block1.1.running_mean", "block1.1.running_var", "block1.1.num_batches_tracked"
        }  # fmt: skip
        assert len(found.tensors) == 16


def test_a_run_that_does_not_train(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with OwnLoop(tmp_path) as loop:
        training(loop)
        assert run(["audit", "own", "--runs-dir", str(tmp_path), "--steps", "0"]) == 2
        assert "a whole number of at least 1" in capsys.readouterr().err
    assert audit(loop) == 2
    said = capsys.readouterr().err
    assert "own is not training" in said
    assert "start the loop, then try again" in said  # only the loop itself can go on
