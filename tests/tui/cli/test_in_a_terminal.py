"""The dashboard in a pseudo-terminal, with an engine that trains; both are forked, unlike those of `tests/terminal`."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

from command_line import FINETUI

from finetui.engine.protocol.events import Evaluated
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.journal import JournalReader
from finetui.engine.runs.lock import holder_of
from finetui.engine.runs.summaries import summarise_run

SAMPLE = ["--data", "mnist-sample", "--device", "cpu", "--batch-size", "20", "--lr", "0.01", "--schedule", "constant"]


def list_runs(folder: Path) -> list[dict]:
    result = subprocess.run([*FINETUI, "runs", "--json"], cwd=folder, capture_output=True, text=True, check=True)
    return json.loads(result.stdout)


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
    folder = RunFolder(tmp_path / "checkpoints" / "left")
    deadline = time.monotonic() + 90
    while summarise_run(folder).state != "finished" and time.monotonic() < deadline:
        time.sleep(0.1)
    (run,) = list_runs(tmp_path)
    assert (run["state"], run["epoch"], run["step"]) == ("finished", 8, 1600)
    again = open_terminal("open", "left", columns=120, rows=40)
    journal = JournalReader(folder.journal)
    last = [event for event in journal.read() if isinstance(event, Evaluated)][-1]
    again.until("finished", "epoch 8/8", "1,600/1,600", "100%", "conv1", f"{last.accuracy:.2%} of 1,000 test images")
    again.type("s")
    again.until("all epochs are done")
    again.type("q")
    assert again.until_exit() == 0
    assert again.restored()


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
    terminal.until("running", "┊resumed", "img/s")
    again = holder_of(folder)
    assert again is not None
    assert again.pid != holder.pid
    terminal.type("x\r")
    terminal.until("stopped")
    terminal.type("q")
    assert terminal.until_exit() == 0
    (run,) = list_runs(tmp_path)
    assert run["state"] == "stopped"
