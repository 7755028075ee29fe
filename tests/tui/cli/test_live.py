"""`finetui attach`, `stop`, `train --detach` and what `runs` says of runs that are going on."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from command_line import FINETUI, finetui
from peers import Engine
from watching import Watcher, until

from finetui.engine.errors import BadInput
from finetui.engine.link import sockets
from finetui.engine.link.process_link import ProcessLink
from finetui.engine.link.socket_link import AttachLink, not_live
from finetui.engine.protocol.commands import Pause, Resume, SetLearningRate, StartFinetune
from finetui.engine.protocol.events import CommandAccepted, RunPrepared, StateChanged, TrainPoint
from finetui.engine.runs.folder import RunFolder, create_run
from finetui.engine.runs.journal import JournalReader
from finetui.engine.runs.lock import RunLock, holder_of, is_live
from finetui.engine.runs.summaries import summarise_run
from finetui.engine.session.session import Session
from finetui.tui.cli import steer
from finetui.tui.cli.detached import train_detached
from finetui.tui.cli.main import run

FAILED = StateChanged(state="failed", reason="reading the data was cancelled")
ENDLESS = ["--data", "mnist-sample", "--device", "cpu", "--epochs", "1000", "--batch-size", "20"]


@pytest.fixture
def detached(tmp_path: Path) -> Iterator[RunFolder]:
    """A run named `bg` that trains in the background."""
    result = finetui("train", *ENDLESS, "--name", "bg", "--detach", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    yield RunFolder(tmp_path / "checkpoints" / "bg")


@pytest.fixture
def attach(watch: Callable[[AttachLink], Watcher]) -> Callable[..., Watcher]:
    return lambda folder, **options: watch(AttachLink(folder, **options))


# -- train --detach -----------------------------------------------------------------------------------


def test_a_training_in_the_background_says_how_to_get_at_it(tmp_path: Path) -> None:
    result = finetui("train", *ENDLESS, "--name", "bg", "--detach", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    there = holder_of(RunFolder(tmp_path / "checkpoints" / "bg"))
    assert there is not None
    assert result.stdout.splitlines() == [
        f"bg: running in the background, process {there.pid}",
        "  watch and steer it:  finetui attach bg",
        "  end it:              finetui stop bg",
    ]
    assert os.getsid(there.pid) == there.pid
    assert "lenet, 44,426 parameters" in result.stderr
    stopped = finetui("stop", "bg", cwd=tmp_path)
    assert stopped.returncode == 0, stopped.stderr
    until(lambda: not is_live(RunFolder(tmp_path / "checkpoints" / "bg")))
    summary = summarise_run(RunFolder(tmp_path / "checkpoints" / "bg"))
    assert summary is not None
    assert stopped.stdout == f"bg: stopped at step {summary.step:,}\n"
    assert (summary.state, summary.pid) == ("stopped", None)
    assert (tmp_path / "checkpoints" / "bg" / "last.ckpt").is_file()


def test_a_run_elsewhere_is_named_by_its_folder(tmp_path: Path) -> None:
    arguments = ("train", *ENDLESS, "--name", "bg", "--runs-dir", "my runs", "--detach")
    result = finetui(*arguments, cwd=tmp_path)
    assert f"finetui attach '{tmp_path}/my runs/bg'" in result.stdout
    assert finetui("stop", f"{tmp_path}/my runs/bg", cwd=tmp_path).returncode == 0


def test_a_short_training_in_the_background_leaves_when_it_is_done(tmp_path: Path) -> None:
    arguments = ("train", "--data", "mnist-sample", "--device", "cpu", "--epochs", "1", "--name", "s", "--detach")
    assert finetui(*arguments, cwd=tmp_path).returncode == 0
    folder = RunFolder(tmp_path / "checkpoints" / "s")
    until(lambda: not is_live(folder))
    summary = summarise_run(folder)
    assert summary is not None
    assert summary.state == "finished"


def test_a_finetune_in_the_background(tmp_path: Path, make_config) -> None:
    Session(make_config(name="base")).run()
    arguments = ("finetune", "--from", "base", "--runs-dir", "runs", "--epochs", "500", "--name", "ft", "--detach")
    result = finetui(*arguments, "--recipe", "linear-probe", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "ft: running in the background" in result.stdout
    assert finetui("stop", "runs/ft", cwd=tmp_path).stdout.startswith("ft: stopped at step ")


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["--batch-size", "100000"], 2, "100000 is more than the 4000 training images"),
        (["--data", "broken.py:make"], 2, "broken.py:make"),
        (["--json"], 2, "--json and --detach: choose one of them"),
    ],
)
def test_a_training_that_cannot_begin_is_said_at_once(
    tmp_path: Path, arguments: list[str], status: int, says: str
) -> None:
    (tmp_path / "broken.py").write_text("def make():\n    raise ValueError('no such images')\n")
    base = ["train", "--data", "mnist-sample", "--device", "cpu", "--detach"]
    if "--data" in arguments:
        base = ["train", "--device", "cpu", "--detach"]
    result = finetui(*base, *arguments, cwd=tmp_path)
    assert result.returncode == status
    assert says in result.stderr.splitlines()[-1]
    assert result.stderr.splitlines()[-1].startswith("finetui: ")
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "checkpoints").exists()


def test_how_a_training_failed_decides_the_exit_status_however_soon_it_is_told(
    make_config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine that has told of its failure still lives for a moment, without an exit status."""
    monkeypatch.setattr("finetui.tui.cli.detached._POLL_SECONDS", 0.0)
    with pytest.raises(BadInput, match="100000 is more than"):
        train_detached(make_config(batch_size=100_000))


def test_whoever_loses_patience_before_it_has_begun_leaves_nothing(tmp_path: Path) -> None:
    code = "import os, time\ndef make():\n    os.symlink(str(os.getpid()), 'reading')\n    time.sleep(600)\n"
    (tmp_path / "endless.py").write_text(code)
    reading = tmp_path / "reading"
    arguments = [*FINETUI, "train", "--data", "endless.py:make", "--device", "cpu", "--detach"]
    process = subprocess.Popen(arguments, cwd=tmp_path, stderr=subprocess.PIPE, start_new_session=True)
    until(reading.is_symlink)
    engine = psutil.Process(int(reading.readlink().name))
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    engine.wait(60)
    assert not (tmp_path / "checkpoints").exists()


# -- a plain training ---------------------------------------------------------------------------------


def test_dashboards_attach_to_a_plain_training_and_it_goes_on(tmp_path: Path, attach) -> None:
    log = (tmp_path / "output").open("wb")
    process = subprocess.Popen([*FINETUI, "train", *ENDLESS, "--name", "fg"], cwd=tmp_path, stdout=log, stderr=log)
    folder = RunFolder(tmp_path / "checkpoints" / "fg")
    until(lambda: folder.journal.exists() and b"train_point" in folder.journal.read_bytes())
    there = holder_of(folder)
    assert there is not None
    assert there.pid == process.pid
    ann, bob = attach(folder), attach(folder, reading=True)
    ann.link.send(SetLearningRate(value=0.02))
    for watcher in (ann, bob):
        accepted = watcher.until_kind(CommandAccepted)
        assert accepted.command.value == 0.02
    ann.link.send(Pause())
    bob.until_state("paused")
    for watcher in (ann, bob):
        watcher.close()
    time.sleep(1)  # it waits for whoever paused it
    assert process.poll() is None
    cleo = attach(folder)
    cleo.until_state("paused")
    cleo.link.send(Resume())
    cleo.until_state("running")
    cleo.close()
    step = next(reversed([e.step for e in JournalReader(folder.journal).read() if isinstance(e, TrainPoint)]))
    until(lambda: any(isinstance(e, TrainPoint) and e.step > step + 20 for e in JournalReader(folder.journal).read()))
    assert finetui("stop", "fg", cwd=tmp_path).returncode == 0
    assert process.wait(20) == 0
    assert b"Traceback" not in (tmp_path / "output").read_bytes()


def test_a_finetune_that_a_dashboard_begins_goes_on_in_the_same_terminal(tmp_path: Path, attach) -> None:
    log = (tmp_path / "output").open("wb")
    process = subprocess.Popen([*FINETUI, "train", *ENDLESS, "--name", "fg"], cwd=tmp_path, stdout=log, stderr=log)
    folder = RunFolder(tmp_path / "checkpoints" / "fg")
    until(lambda: folder.journal.exists() and b"train_point" in folder.journal.read_bytes())
    watcher = attach(folder)
    watcher.until_kind(TrainPoint)
    watcher.link.send(StartFinetune())
    child = watcher.until(lambda event: isinstance(event, RunPrepared) and event.parent == "fg")
    assert child.seq >= 0
    watcher.until_kind(TrainPoint)
    assert watcher.link.folder is not None
    assert watcher.link.folder.path != folder.path
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 143


def test_a_training_without_a_place_for_a_socket_goes_on_without_dashboards(tmp_path: Path) -> None:
    program = "from finetui.engine.link import sockets; from finetui.tui.cli import main as cli;"
    program += "sockets.LONGEST_PATH = 10; cli.main()"
    arguments = ["train", "--data", "mnist-sample", "--device", "cpu", "--epochs", "1", "--name", "m"]
    result = subprocess.run(
        [sys.executable, "-c", program, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    assert "finetui: no dashboard can attach: there is no place for a socket" in result.stderr
    assert "Accuracy of the network" in result.stdout


# -- attach -------------------------------------------------------------------------------------------


def test_attach_without_a_live_run_says_what_there_is(tmp_path: Path, in_process, make_config) -> None:
    Session(make_config(name="done")).run()
    for arguments, says in (
        (("attach", "--runs-dir", "runs"), "no run in runs is going on; `finetui runs` lists them all"),
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
    assert "finetui: the run done is finished: no engine has it; `finetui open done` shows it" in said


def test_two_dashboards_on_one_run_and_a_third_that_reads(open_terminal, detached: RunFolder) -> None:
    ann = open_terminal("attach", columns=120, rows=40)
    ann.until("running", "img/s", "bg")
    bob = open_terminal("attach", "bg", columns=120, rows=40)
    for terminal in (ann, bob):
        terminal.until("2 dashboards")
    ann.type(" ")
    bob.until("paused", "pause at step", "(by ")
    assert "(by " not in ann.until("paused", "pause at step")
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
    assert "the run done is finished: no engine has it" in result.stderr


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


def test_stop_of_an_engine_whose_socket_is_out_of_reach(tmp_path: Path, detached: RunFolder) -> None:
    there = holder_of(detached)
    assert there is not None
    os.kill(there.pid, signal.SIGSTOP)  # so that it cannot open another socket
    Path(there.socket).unlink()
    with subprocess.Popen([*FINETUI, "stop", "bg"], cwd=tmp_path, stdout=subprocess.PIPE, text=True) as stopping_it:
        until(lambda: bool(pending(there.pid) & 1 << signal.SIGTERM - 1))
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
    assert "end it yourself" in result.stderr
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


# -- runs ---------------------------------------------------------------------------------------------


def test_the_list_says_how_to_get_at_each_run(tmp_path: Path, in_process, make_config) -> None:
    for name in ("done", "cut"):
        folder = Session(make_config(name=name)).run().folder
        assert folder is not None
    lines = folder.journal.read_bytes().splitlines(keepends=True)
    folder.journal.write_bytes(b"".join(lines[:-1]))
    link = ProcessLink(make_config(name="live", epochs=1000), autostart=True)
    watcher = Watcher(link)
    watcher.until_kind(TrainPoint)
    text = in_process("runs", "--runs-dir", "runs", cwd=tmp_path).stdout
    table, hints = text.split("\n\n")
    states = {line.split()[0]: line.split()[1] for line in table.splitlines()[1:]}
    assert states == {"live": "running", "cut": "crashed", "done": "finished"}
    where = tmp_path / "runs"
    attach, resume = hints.splitlines()
    assert attach.split("  ")[0] == f"finetui attach {where}/live"
    assert f"running, process {link.pid}" in attach
    assert resume.startswith(f"finetui resume {where}/cut  ")
    assert "crashed at step 40" in resume
    listed = json.loads(in_process("runs", "--runs-dir", "runs", "--json", cwd=tmp_path).stdout)
    rows = {row["name"]: row for row in listed}
    assert (rows["live"]["pid"], rows["live"]["host"]) == (link.pid, socket.gethostname())
    assert (rows["done"]["pid"], rows["done"]["host"]) == (None, None)
    os.kill(link.pid, signal.SIGKILL)
    watcher.until_state("crashed")
    watcher.close()
    assert f"finetui resume {where}/live" in in_process("runs", "--runs-dir", "runs", cwd=tmp_path).stdout
