"""Signals to the engine, and to a training without a dashboard: saved, gone in time, and nothing broken."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from watching import Watcher, until

from finetui.engine.checkpoints import checkpoint
from finetui.engine.link.process_link import ProcessLink
from finetui.engine.protocol.commands import Evaluate, Pause
from finetui.engine.protocol.config import DataConfig, ModelConfig
from finetui.engine.protocol.config_file import load
from finetui.engine.protocol.events import CheckpointSaved, Phase, StateChanged, TrainPoint
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.journal import JournalReader
from finetui.engine.runs.lock import is_live
from finetui.engine.session.session import Session

FINETUI = [sys.executable, "-m", "finetui"]

# Put first on the path of the process, this makes its disk stall as soon as the file $STALL is there: `fsync` does not
# return, and the main thread hears no signal, as one in the kernel's hands hears none.
STALLING_DISK = """
import os, pathlib, signal, time
fsync = os.fsync
def stalling(descriptor):
    stall = pathlib.Path(os.environ["STALL"])
    if stall.exists():
        stall.with_suffix(".stalled").touch()
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        time.sleep(float(os.environ["STALL_SECONDS"]))
    fsync(descriptor)
os.fsync = stalling
"""

# A network that takes its time over every batch of an evaluation.
SLOW_NETWORK = """
import time, torch
class Slow(torch.nn.Sequential):
    def forward(self, images):
        if not self.training:
            time.sleep(0.5)
        return super().forward(images)
def make(num_classes):
    return Slow(torch.nn.Flatten(), torch.nn.Linear(784, num_classes))
"""

# Data that are never there, and nobody may interrupt.
ENDLESS_DATA = """
import time
def make():
    open("reading", "w").close()
    time.sleep(600)
"""


@pytest.fixture
def start(watch: Callable[[ProcessLink], Watcher]) -> Callable[..., Watcher]:
    return lambda config, **options: watch(ProcessLink(config, autostart=True, **options))


@pytest.fixture
def stall(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the file that, once it is there, makes the disk of new processes stall."""
    folder = tmp_path / "path"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(STALLING_DISK)
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
    monkeypatch.setenv("STALL", str(tmp_path / "stall"))
    monkeypatch.setenv("STALL_SECONDS", "60")
    return tmp_path / "stall"


def terminate(watcher: Watcher, within: float = 50.0) -> None:
    """Send SIGTERM to the engine, and check that it ends by that: 5 s are required, see docs/reliability.md."""
    os.kill(watcher.link.pid, signal.SIGTERM)
    until(lambda: watcher.link.status is not None, seconds=within)
    assert watcher.link.status == 143
    watcher.thread.join(60)


def folder_of(watcher: Watcher) -> RunFolder:
    assert watcher.link.folder is not None
    return watcher.link.folder


def last_state(folder: RunFolder) -> StateChanged:
    *_, last = [event for event in JournalReader(folder.journal).read() if isinstance(event, StateChanged)]
    return last


def assert_saved_where_it_stopped(folder: RunFolder) -> None:
    *_, point = [event for event in JournalReader(folder.journal).read() if isinstance(event, TrainPoint)]
    _, _, training = checkpoint.load(folder.last)
    last = last_state(folder)
    assert last.state == "stopped"
    assert training["step"] == point.step == last.step > 0


# -- the first signal ---------------------------------------------------------------------------------


def test_sigterm_while_training_saves_the_last_step(start, make_config) -> None:
    """Row 3: a checkpoint at the last completed step, exit status 143 within 5 s."""
    watcher = start(make_config(epochs=1000, name="trains"))
    watcher.until_kind(TrainPoint)
    terminate(watcher)
    assert_saved_where_it_stopped(folder_of(watcher))
    watcher.until_state("stopped")


def test_sigterm_while_paused(start, make_config) -> None:
    """Row 3: also while somebody has paused it."""
    watcher = start(make_config(epochs=1000, name="paused"))
    watcher.until_kind(TrainPoint)
    watcher.link.send(Pause())
    watcher.until_state("paused")
    terminate(watcher)
    assert_saved_where_it_stopped(folder_of(watcher))


def test_sigterm_while_evaluating(start, make_config, tmp_path: Path) -> None:
    """Row 3: also in the middle of an evaluation that takes long."""
    (tmp_path / "slow.py").write_text(SLOW_NETWORK)
    config = make_config(epochs=1000, name="evaluates", batch_size=20)
    config = msgspec.structs.replace(config, model=ModelConfig(name=f"{tmp_path / 'slow.py'}:make"))
    watcher = start(config)
    watcher.until_kind(TrainPoint)
    watcher.link.send(Evaluate())
    watcher.until(lambda event: isinstance(event, Phase) and event.name == "Evaluating")
    terminate(watcher)
    assert_saved_where_it_stopped(folder_of(watcher))


def test_sigterm_while_nothing_has_begun(start, make_config, tmp_path: Path) -> None:
    """Row 3: also while torch is being imported; nothing is left."""
    watcher = start(make_config(name="never"))
    watcher.until(lambda event: isinstance(event, Phase) and event.name == "Importing PyTorch")
    terminate(watcher)
    assert not (tmp_path / "runs").exists()


def test_sigterm_while_nothing_can_be_interrupted(start, make_config, tmp_path: Path, monkeypatch) -> None:
    """Row 3: also while a person's own code reads data and does not come back."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "endless.py").write_text(ENDLESS_DATA)
    config = msgspec.structs.replace(make_config(), data=DataConfig(name=f"{tmp_path / 'endless.py'}:make"))
    watcher = start(config)
    until((tmp_path / "reading").exists)
    terminate(watcher)


def test_sigterm_while_it_is_finished_and_watched(start, make_config) -> None:
    """Row 3: also when there is nothing left to do but to answer questions."""
    watcher = start(make_config(name="done"))
    watcher.until_state("finished")
    terminate(watcher)
    assert last_state(folder_of(watcher)).state == "finished"


@pytest.mark.slow
def test_a_terminated_run_goes_on_exactly(start, make_config) -> None:
    """Row 3: `resume` continues exactly: the end is that of a run that was never cut."""
    whole = Session(make_config(epochs=3, name="whole")).run().folder
    assert whole is not None
    watcher = start(make_config(epochs=3, name="cut"))
    watcher.until_kind(TrainPoint)
    terminate(watcher)
    folder = folder_of(watcher)
    again = start(load(folder.config), resume=folder)
    again.until(lambda event: isinstance(event, StateChanged) and event.state == "finished")
    (_, cut_weights, _), (_, whole_weights, _) = (checkpoint.load(f.last) for f in (folder, whole))
    assert checkpoint.digest(cut_weights) == checkpoint.digest(whole_weights)


def test_other_signals_and_the_terminals_end_do_not_reach_it(start, make_config) -> None:
    """Row 3: the engine leads a session of its own, and a hang-up or ctrl+c is not for it."""
    watcher = start(make_config(epochs=1000, name="deaf"))
    watcher.until_kind(TrainPoint)
    pid = watcher.link.pid
    assert os.getsid(pid) == pid
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGHUP):
        os.kill(pid, number)
        step = watcher.until_kind(TrainPoint).step
        assert watcher.until_kind(TrainPoint).step > step


# -- the second one -----------------------------------------------------------------------------------


def test_a_second_sigterm_during_a_save_does_not_wait_for_the_disk(start, make_config, stall: Path) -> None:
    """Row 6: exit within 2 s, and the checkpoint before is valid."""
    watcher = start(make_config(epochs=1000, batch_size=2, name="stalls"))  # an epoch takes longer than this test
    saved = watcher.until_kind(CheckpointSaved)
    watcher.until_kind(TrainPoint)
    stall.touch()
    dead = watcher.link.pid
    os.kill(dead, signal.SIGTERM)
    until(stall.with_suffix(".stalled").exists)
    assert watcher.link.status is None
    terminate(watcher, within=30.0)  # the disk stalls for 60 s
    folder = folder_of(watcher)
    _, _, training = checkpoint.load(folder.last)
    assert training["step"] == saved.step
    crashed = watcher.until_state("crashed")
    assert "exit status 143" in crashed.reason
    stall.unlink()
    again = start(load(folder.config), resume=folder)
    again.until(lambda event: isinstance(event, TrainPoint) and event.step > saved.step + 1)
    # Its own it may be writing just now.
    assert not [path.name for path in folder.path.iterdir() if path.suffix == ".tmp" and f".{dead}." in path.name]


# -- without a dashboard ------------------------------------------------------------------------------


def headless(cwd: Path, *arguments: str) -> "subprocess.Popen[bytes]":
    small = ["--data", "mnist-sample", "--device", "cpu", "--epochs", "1000", "--name", "t"]
    log = (cwd / "output").open("wb")
    return subprocess.Popen([*FINETUI, "train", *small, *arguments], cwd=cwd, stdout=log, stderr=log)


def started(cwd: Path) -> RunFolder:
    folder = RunFolder(cwd / "checkpoints" / "t")
    until(lambda: folder.journal.exists() and b'"train_point"' in folder.journal.read_bytes(), seconds=60)
    return folder


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_finetui_train_saves_on_a_signal(tmp_path: Path, number: int) -> None:
    """Row 3: without a dashboard, too."""
    process = headless(tmp_path)
    folder = started(tmp_path)
    began = time.monotonic()
    process.send_signal(number)
    assert process.wait(20) == 128 + number
    assert time.monotonic() - began < 15
    assert_saved_where_it_stopped(folder)
    assert b"Traceback" not in (tmp_path / "output").read_bytes()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_finetui_train_does_not_wait_for_the_disk_on_a_second_signal(tmp_path: Path, stall: Path, number: int) -> None:
    """Row 6: without a dashboard, too."""
    process = headless(tmp_path, "--save-steps", "1")
    folder = started(tmp_path)
    until(folder.last.exists)
    stall.touch()
    until(stall.with_suffix(".stalled").exists)  # by a save that the step asked for
    process.send_signal(number)
    began = time.monotonic()
    while process.poll() is None:
        assert time.monotonic() - began < 20
        process.send_signal(number)
        time.sleep(0.05)
    assert process.returncode == 128 + number
    checkpoint.load(folder.last)
    assert not is_live(folder)


def test_a_signal_that_comes_twice_is_one_wish(tmp_path: Path, stall: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 6: `timeout` signals its child and then its group, and wants the run saved all the same."""
    monkeypatch.setenv("STALL_SECONDS", "1")
    process = headless(tmp_path)
    folder = started(tmp_path)
    stall.touch()
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)  # two of one kind could be heard as one
    assert process.wait(60) in (143, 130)
    assert_saved_where_it_stopped(folder)


@pytest.mark.slow
def test_a_run_under_timeout_is_saved(tmp_path: Path) -> None:
    """Row 3: as a batch system ends it."""
    arguments = ["train", "--data", "mnist-sample", "--device", "cpu", "--epochs", "1000", "--name", "t"]
    result = subprocess.run(["timeout", "20", *FINETUI, *arguments], cwd=tmp_path, capture_output=True, timeout=60)
    assert result.returncode == 124
    assert_saved_where_it_stopped(RunFolder(tmp_path / "checkpoints" / "t"))
