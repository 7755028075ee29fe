"""The whole program in a real pseudo-terminal, training for real in an engine process of its own."""

import json
import subprocess
from pathlib import Path

import pytest
from command_line import FINETUI

SAMPLE = ["--data", "mnist-sample", "--device", "cpu", "--batch-size", "20", "--lr", "0.01", "--schedule", "constant"]


def list_runs(folder: Path) -> list[dict]:
    result = subprocess.run([*FINETUI, "runs", "--json"], cwd=folder, capture_output=True, text=True, check=True)
    return json.loads(result.stdout)


def test_a_run_is_started_steered_and_stopped(open_terminal, tmp_path: Path) -> None:
    terminal = open_terminal(*SAMPLE, "--epochs", "1000", "--name", "steered")
    terminal.until("ready", "conv1")
    assert list_runs(tmp_path) == []
    terminal.type("s")
    terminal.until("running", "img/s", "the best so far")
    terminal.click("conv2")
    terminal.until("frozen")
    terminal.type("+")
    terminal.until("0.02")
    terminal.click("Pause")
    terminal.until("paused", "Resume")
    terminal.type("n")
    terminal.until("step once at step")
    terminal.type(" ")
    terminal.until("running")
    terminal.type("x")
    terminal.until("Stop training?", "s resumes from it", "enter Stop")
    terminal.type("\r")
    terminal.until("stopped")
    terminal.type("q")
    assert terminal.until_exit() == 0
    assert terminal.restored()
    assert "steered: stopped at step" in terminal.left()
    assert "test accuracy" in terminal.left()
    assert "finetui open steered" in terminal.left()
    assert "finetui resume steered" in terminal.left()
    (run,) = list_runs(tmp_path)
    assert (run["name"], run["state"]) == ("steered", "stopped")
    journal = (tmp_path / "checkpoints" / "steered" / "journal.jsonl").read_text()
    for command in ("start", "set_frozen", "set_learning_rate", "pause", "step_once", "resume", "stop"):
        assert f'"type":"{command}"' in journal


@pytest.mark.slow
def test_the_tutorials_finetuning(open_terminal, tmp_path: Path) -> None:
    import torch

    terminal = open_terminal(*SAMPLE, "--epochs", "1", "--name", "base", "--start")
    terminal.until("finished")
    terminal.type("f")
    terminal.until("lp-ft", "2 epochs")
    terminal.type("\x1b[A")  # up: the recipe before
    terminal.until("linear-probe", "trains fc4", "new     fc4")
    terminal.type("\r")
    terminal.until("-linear-probe", "finished", "bypassed")  # the parent has no room here: see below
    terminal.type("q")
    assert terminal.until_exit() == 0
    child, base = list_runs(tmp_path)
    assert (child["parent"], child["state"]) == ("base", "finished")
    before, after = (torch.load(f"{run['path']}/last.ckpt", weights_only=True)["model"] for run in (base, child))
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert set(after) - set(before) == {"fc4.weight", "fc4.bias"}


def test_bad_data_is_told_in_the_dashboard(open_terminal, tmp_path: Path) -> None:
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    (folder / "train-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03" + bytes(12))
    terminal = open_terminal("--data-dir", str(tmp_path), columns=120, rows=40)
    terminal.until("failed", "train-labels-idx1-ubyte")
    assert "Traceback" not in terminal.text()
    terminal.type("q")
    assert terminal.until_exit() == 1
    assert b"Traceback" not in terminal.raw


@pytest.mark.parametrize(("columns", "rows"), [(59, 24), (80, 14)])
def test_a_terminal_that_is_too_small_is_said(open_terminal, columns: int, rows: int) -> None:
    terminal = open_terminal(columns=columns, rows=rows)
    assert terminal.until_exit() == 2
    text = " ".join(terminal.raw.decode().split())
    assert "at least 60x15" in text
    assert f"{columns}x{rows}" in text


@pytest.mark.slow
def test_resizing_keeps_everything_in_place(open_terminal) -> None:
    terminal = open_terminal(*SAMPLE, "--epochs", "1000", "--start")
    terminal.until("running", "img/s")
    for columns, rows in ((200, 60), (120, 40), (60, 15), (40, 10), (80, 24)):
        terminal.resize(columns, rows)
        terminal.until(*(("60x15",) if columns < 60 else ("running", "Pause", "conv1", "? Help")))
    terminal.type("q")
    assert terminal.until_exit() == 0


def test_quitting_before_the_start_leaves_nothing(open_terminal, tmp_path: Path) -> None:
    terminal = open_terminal(*SAMPLE)
    terminal.until("preparing")
    terminal.type("q")
    assert terminal.until_exit() == 0
    assert terminal.restored()
    assert not (tmp_path / "checkpoints").exists()


def test_finetui_alone_asks_what_to_train_and_trains_it(open_terminal, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    terminal = open_terminal()
    terminal.until("Data", "mnist-sample", "Model", "Start training")
    terminal.click("mnist-sample")
    terminal.until("32 steps per epoch")
    terminal.click("Batch size")
    terminal.type("\r")
    terminal.until("-mnist-sample-lenet", "best ")
    terminal.type("d")
    assert terminal.until_exit() == 0
    assert terminal.restored()
    (run,) = list_runs(tmp_path)
    assert (run["data"], run["model"]) == ("mnist-sample", "lenet")
    assert (tmp_path / "state" / "finetui" / "last-settings.json").is_file()
    again = open_terminal()
    again.until("mnist-sample", "lenet", run["name"][:20])
    again.type("\x1b")
    assert again.until_exit() == 0
    subprocess.run([*FINETUI, "stop", run["name"]], cwd=tmp_path, capture_output=True, check=False)
