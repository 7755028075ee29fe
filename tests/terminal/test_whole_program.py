"""The whole program in a real pseudo-terminal, training for real in an engine process of its own."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from command_line import FINETUI

from finetui.engine.protocol.events import Evaluated, Rewound
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.journal import JournalReader
from finetui.engine.runs.lock import holder_of

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


def test_what_is_typed_ahead_of_a_screen_is_typed_into_it(open_terminal) -> None:
    """Each letter of this text would do something on the Train screen: detach, evaluate, stop, close."""
    terminal = open_terminal(*SAMPLE, "--epochs", "1000", "--name", "ahead", "--start", columns=120, rows=40)
    terminal.until("running", "img/s")
    terminal.type("o/detach x wsq")
    terminal.until("1 Journal", "detach x wsq", "No matching lines")
    terminal.type("\r")
    terminal.type("qEx12")  # back to Train, and into the first field of a form
    terminal.until("Train further", "12")
    assert "stopped" not in terminal.text()
    terminal.type("\x1b")
    terminal.until_true(lambda: "Train further" not in terminal.text(), "the form did not close")
    terminal.type("x\r")  # with the answer to the question that is about to come
    terminal.until("stopped")
    terminal.type("q")
    assert terminal.until_exit() == 0


def test_a_run_that_is_left_goes_on_and_can_be_looked_at(open_terminal, tmp_path: Path) -> None:
    terminal = open_terminal(*SAMPLE, "--epochs", "8", "--name", "left", "--start", columns=120, rows=40)
    terminal.until("running")
    terminal.type("d")
    assert terminal.until_exit() == 0
    assert "left: running at step" in terminal.left()
    assert "finetui attach left" in terminal.left()
    assert "finetui stop left" in terminal.left()
    deadline = time.monotonic() + 90
    while list_runs(tmp_path)[0]["state"] != "finished" and time.monotonic() < deadline:
        time.sleep(0.5)
    (run,) = list_runs(tmp_path)
    assert (run["state"], run["epoch"], run["step"]) == ("finished", 8, 1600)
    again = open_terminal("open", "left", columns=120, rows=40)
    journal = JournalReader(tmp_path / "checkpoints" / "left" / "journal.jsonl")
    last = [event for event in journal.read() if isinstance(event, Evaluated)][-1]
    again.until("finished", "epoch 8/8", "1,600/1,600", "100%", "conv1", f"{last.accuracy:.2%} of 1,000 test images")
    again.type("s")
    again.until("all epochs are done")
    again.type("q")
    assert again.until_exit() == 0
    assert again.restored()


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
        terminal.until(*(("needs 60x15",) if columns < 60 else ("running", "Pause", "conv1", "? Help")))
    terminal.type("q")
    assert terminal.until_exit() == 0


def test_quitting_before_the_start_leaves_nothing(open_terminal, tmp_path: Path) -> None:
    terminal = open_terminal(*SAMPLE)
    terminal.until("preparing")
    terminal.type("q")
    assert terminal.until_exit() == 0
    assert terminal.restored()
    assert not (tmp_path / "checkpoints").exists()


def test_mistakes_are_browsed_while_it_trains_and_after_it_has_ended(open_terminal, tmp_path: Path) -> None:
    terminal = open_terminal(*SAMPLE, "--epochs", "1000", "--name", "seen", "--start", columns=120, rows=40)
    terminal.until("the best so far")
    terminal.type("m")
    terminal.until("all 1,000", "▀", "test image")  # a newer evaluation is told in the filter's place
    terminal.type("i")
    terminal.until("Grad-CAM at conv2")
    terminal.type(" ")
    terminal.until("1 marked")
    terminal.click("→")  # a caption: its image comes under the cursor
    terminal.type("q")
    terminal.until("conv1")
    terminal.type("x\r")
    terminal.until("stopped")
    terminal.type("q")
    assert terminal.until_exit() == 0
    assert terminal.restored()
    again = open_terminal("open", "seen", columns=80, rows=24)
    again.until("stopped")
    again.type("m")
    again.until("mistakes", "highest loss first", "▀", "test image")
    again.type("\x1b")
    again.until("conv1")
    again.type("q")
    assert again.until_exit() == 0
    assert again.restored()


def test_an_engine_that_is_killed_is_told_and_the_run_goes_on_from_the_dashboard(open_terminal, tmp_path: Path) -> None:
    terminal = open_terminal(
        *SAMPLE, "--epochs", "1000", "--save-steps", "50", "--name", "killed", "--start", columns=120, rows=40
    )
    terminal.until("running", "img/s", "the best so far")
    folder = RunFolder(tmp_path / "checkpoints" / "killed")
    holder = holder_of(folder)
    assert holder is not None
    os.kill(holder.pid, signal.SIGKILL)
    terminal.until("crashed", "killed by signal 9", "s Resume")
    terminal.type("s")
    terminal.until("running", "img/s")
    # The line about that has left the log by the time the run goes on.
    assert any(isinstance(event, Rewound) for event in JournalReader(folder.journal).read())
    again = holder_of(folder)
    assert again is not None
    assert again.pid != holder.pid
    terminal.type("x\r")
    terminal.until("stopped")
    terminal.type("q")
    assert terminal.until_exit() == 0
    (run,) = list_runs(tmp_path)
    assert run["state"] == "stopped"


def test_finetui_alone_asks_what_to_train_and_trains_it(open_terminal, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    terminal = open_terminal()
    terminal.until("Data", "mnist-sample", "Model", "Start training")
    terminal.click("mnist-sample")
    terminal.until("32 steps an epoch")
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
