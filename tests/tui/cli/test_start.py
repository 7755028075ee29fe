"""`finetui train`: in the background, and here, where dashboards may attach to it."""

import os
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from command_line import ENDLESS, FINETUI, finetui
from fork_server import FORKED
from watching import until

from finetui.engine.errors import BadInput
from finetui.engine.protocol.commands import Pause, Resume, SetLearningRate, StartFinetune
from finetui.engine.protocol.events import CommandAccepted, RunPrepared, TrainPoint
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.journal import JournalReader
from finetui.engine.runs.lock import holder_of, is_live
from finetui.engine.runs.summaries import summarise_run
from finetui.engine.session.session import Session
from finetui.tui.cli.start import train_detached

# -- train --detach -----------------------------------------------------------------------------------


def test_a_training_in_the_background_says_how_to_get_at_it(tmp_path: Path) -> None:
    result = finetui("train", *ENDLESS, "--name", "bg", "--detach", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    there = holder_of(RunFolder(tmp_path / "checkpoints" / "bg"))
    assert there is not None
    assert result.stdout.splitlines() == [
        f"bg: running in the background, process {there.pid}",
        "  watch and steer it:  finetui attach bg",
        "  stop it:             finetui stop bg",
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
    monkeypatch.setattr("finetui.tui.cli.steer._POLL_SECONDS", 0.0)
    with pytest.raises(BadInput, match="100000 is more than"):
        train_detached(make_config(batch_size=100_000))


def test_whoever_loses_patience_before_it_has_begun_leaves_nothing(tmp_path: Path) -> None:
    code = "import os, time\ndef make():\n    os.symlink(str(os.getpid()), 'reading')\n    time.sleep(600)\n"
    (tmp_path / "endless.py").write_text(code)
    arguments = [*FINETUI, "train", "--data", "endless.py:make", "--device", "cpu", "--detach"]
    process = subprocess.Popen(arguments, cwd=tmp_path, stderr=subprocess.PIPE, start_new_session=True)
    reading = tmp_path / "reading"
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
    result = subprocess.run([*FORKED, program, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert "finetui: no dashboard can attach: there is no place for a socket" in result.stderr
    assert "Accuracy of the network" in result.stdout
