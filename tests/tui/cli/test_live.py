"""`finetui attach` and `finetui stop`."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import ENDLESS, FINETUI, finetui
from peers import Engine
from watching import until

from finetui.engine.errors import BadInput
from finetui.engine.link import sockets
from finetui.engine.link.attach_link import not_live
from finetui.engine.protocol.events import CommandAccepted, StateChanged, TrainPoint
from finetui.engine.runs.folder import RunFolder, create_run
from finetui.engine.runs.lock import RunLock, holder_of, is_live
from finetui.engine.session.session import Session
from finetui.tui.cli import steer
from finetui.tui.cli.main import run

FAILED = StateChanged(state="failed", reason="reading the data was cancelled")


@pytest.fixture
def detached(tmp_path: Path) -> Iterator[RunFolder]:
    """A run named `bg` that trains in the background."""
    result = finetui("train", *ENDLESS, "--name", "bg", "--detach", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    yield RunFolder(tmp_path / "checkpoints" / "bg")


# -- attach -------------------------------------------------------------------------------------------


def test_attach_without_a_live_run_says_what_there_is(tmp_path: Path, in_process, make_config) -> None:
    Session(make_config(name="done")).run()
    for arguments, says in (
        (("attach", "--runs-dir", "runs"), "no run in runs is live; `finetui runs` lists them all"),
        (("attach", "nope", "--runs-dir", "runs"), "no run 'nope'"),
    ):
        result = in_process(*arguments, cwd=tmp_path)
        assert result.returncode == 2
        assert says in result.stderr


def test_attach_to_a_run_that_has_ended_offers_what_can_be_done(open_terminal, tmp_path: Path) -> None:
    arguments = ("train", "--data", "mnist-sample", "--device", "cpu", "--epochs", "1", "--name", "done")
    assert finetui(*arguments, cwd=tmp_path).returncode == 0
    terminal = open_terminal("attach", "done")
    assert terminal.until_exit() == 2
    said = " ".join(terminal.raw.decode().split())
    assert "finetui: the run done is finished: no engine is running it; `finetui open done` shows it" in said


def test_two_dashboards_on_one_run_and_a_third_that_reads(open_terminal, detached: RunFolder) -> None:
    ann = open_terminal("attach", columns=120, rows=40)
    ann.until("running", "img/s", "bg")
    bob = open_terminal("attach", "bg", columns=120, rows=40)
    for terminal in (ann, bob):
        terminal.until("2 dashboards")
    ann.type(" ")
    bob.until("paused", "paused at step", "(by ")
    assert "(by " not in ann.until("paused", "paused at step")
    reader = open_terminal("attach", "bg", "--read-only", columns=120, rows=40)
    reader.until("3 dashboards", "paused")
    reader.type(" ")
    reader.until("this dashboard only reads")
    ann.until("paused")
    bob.type(" ")
    for terminal in (ann, bob, reader):
        terminal.until("running")
    reader.type("q")
    assert reader.until_exit() == 0
    ann.until("2 dashboards")
    bob.type("q")
    assert bob.until_exit() == 0
    assert is_live(detached)
    ann.type("q")
    assert ann.until_exit() == 0
    assert "finetui attach bg" in ann.left()
    assert is_live(detached)


def test_the_newest_live_run_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_config) -> None:
    for name in ("old", "new", "ended"):
        folder = create_run(make_config(name=name), name)
        folder.journal.touch()
        os.utime(folder.config, (1000 + len(name), {"old": 1000, "new": 2000, "ended": 3000}[name]))
    locks = [RunLock(RunFolder(tmp_path / "runs" / name), "/x.sock") for name in ("old", "new")]
    opened: list[str] = []

    def open_attached(folder: RunFolder, **_options: object) -> int:
        opened.append(folder.name)
        return 0

    monkeypatch.setattr("finetui.tui.app.launch.open_attached", open_attached)
    assert run(["attach", "--runs-dir", str(tmp_path / "runs")]) == 0
    assert run(["attach", "old", "--runs-dir", str(tmp_path / "runs")]) == 0
    assert opened == ["new", "old"]
    for lock in locks:
        lock.release()


# -- stop ---------------------------------------------------------------------------------------------


def test_stop_of_a_run_that_nobody_has(tmp_path: Path, in_process, make_config) -> None:
    Session(make_config(name="done")).run()
    result = in_process("stop", "done", "--runs-dir", "runs", cwd=tmp_path)
    assert result.returncode == 2
    assert "the run done is finished: no engine is running it" in result.stderr


def test_stop_of_a_run_on_another_host(tmp_path: Path, in_process, make_config) -> None:
    folder = Session(make_config(name="far")).run().folder
    assert folder is not None
    lock = RunLock(folder, "/x.sock")
    folder.lock.write_text(json.dumps({"pid": os.getpid(), "host": "elsewhere", "socket": "/x.sock"}))
    result = in_process("stop", "far", "--runs-dir", "runs", cwd=tmp_path)
    assert result.returncode == 2
    assert "is on host elsewhere" in result.stderr
    lock.release()


def test_stop_while_others_watch_leaves_them_their_engine(tmp_path: Path, detached: RunFolder, attach) -> None:
    ann = attach(detached)
    ann.until_kind(TrainPoint)
    result = finetui("stop", "bg", cwd=tmp_path)
    assert result.stdout.startswith("bg: stopped at step ")
    ann.until_state("stopped")
    accepted = ann.until_kind(CommandAccepted)
    assert accepted.command.by.startswith("finetui stop by ")
    assert is_live(detached)
    again = finetui("stop", "bg", cwd=tmp_path)
    assert (again.returncode, again.stdout.split(" at ")[0]) == (0, "bg: already stopped")


def pending(pid: int) -> int:
    """Return the mask of the signals that wait for the process."""
    status = Path(f"/proc/{pid}/status").read_text()
    (mask,) = [line.split()[1] for line in status.splitlines() if line.startswith("ShdPnd:")]
    return int(mask, 16)


def halt(pid: int) -> None:
    """Stop the process and wait until each of its threads stands still, which takes a moment."""
    os.kill(pid, signal.SIGSTOP)
    tasks = Path(f"/proc/{pid}/task")
    until(lambda: all("State:\tT" in (task / "status").read_text() for task in tasks.iterdir()))


def test_stop_of_an_engine_whose_socket_is_out_of_reach(tmp_path: Path, detached: RunFolder) -> None:
    there = holder_of(detached)
    assert there is not None
    halt(there.pid)  # so that it cannot open another socket
    Path(there.socket).unlink()
    with subprocess.Popen([*FINETUI, "stop", "bg"], cwd=tmp_path, stdout=subprocess.PIPE, text=True) as stopping_it:
        until(lambda: bool(pending(there.pid) & 1 << signal.SIGTERM - 1) or stopping_it.poll() is not None)
        os.kill(there.pid, signal.SIGCONT)
        said, _ = stopping_it.communicate(timeout=120)
    assert stopping_it.returncode == 0
    assert said.startswith("bg: stopped at step ")
    assert f"process {there.pid} could only be reached by a signal" in said


def test_no_process_is_signalled_that_does_not_have_the_run(tmp_path: Path, in_process, make_config) -> None:
    folder = Session(make_config(name="x")).run().folder
    assert folder is not None
    lock = RunLock(folder, "/nowhere.sock")
    innocent = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    about = {"pid": innocent.pid, "host": socket.gethostname(), "socket": "/nowhere.sock"}
    folder.lock.write_text(json.dumps(about))
    assert steer.has_open(os.getpid(), folder)
    result = in_process("stop", "x", "--runs-dir", "runs", cwd=tmp_path)
    assert result.returncode == 2
    assert "stop it yourself" in result.stderr
    assert innocent.poll() is None
    innocent.kill()
    innocent.wait()
    lock.release()


def test_a_run_that_ends_while_it_is_to_be_stopped_is_said_to_have_ended(
    tmp_path: Path, in_process, make_config, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Session(make_config(name="x")).run().folder
    assert folder is not None
    lock = RunLock(folder, "/nowhere.sock")

    def attach(folder: RunFolder, **_: object) -> None:
        lock.release()
        raise BadInput(not_live(folder))

    monkeypatch.setattr(steer, "AttachLink", attach)
    result = in_process("stop", "x", "--runs-dir", "runs", cwd=tmp_path)
    assert result.returncode == 2
    assert "finished" in result.stderr


def test_a_run_that_fails_before_it_hears_of_the_stop_is_said_to_have_failed(
    tmp_path: Path, in_process, make_config
) -> None:
    engine = Engine(sockets.new_path())
    folder = Session(make_config(name="x")).run().folder
    assert folder is not None
    lock = RunLock(folder, str(engine.server.path))
    threading.Thread(target=lambda: (engine.command(), engine.say(FAILED), engine.server.stop())).start()
    result = in_process("stop", "x", "--runs-dir", "runs", cwd=tmp_path)
    assert (result.returncode, result.stdout) == (0, "x: failed at step 0 (reading the data was cancelled)\n")
    lock.release()
