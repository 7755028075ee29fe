"""The commands for runs that go on: resume, branch, rollback, replay."""

import fcntl
import json
import os
import shlex
import shutil
import signal
import subprocess
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from command_line import FINETUI, finetui
from PIL import Image
from steered import at
from watching import until

from finetui.engine.protocol.commands import Stop
from finetui.engine.protocol.config import CheckpointsConfig, DataConfig, RunConfig
from finetui.engine.protocol.config_file import load
from finetui.engine.protocol.events import Alert, Rewound
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.journal import JournalReader
from finetui.engine.runs.lineage import effective
from finetui.engine.runs.lock import holder_of
from finetui.engine.session import time_advice
from finetui.engine.session.session import Session

# Not measured: two runs are to come to the same bits.
SMALL = ["--data", "mnist-sample", "--batch-size", "20", "--lr", "0.01", "--device", "cpu", "--fast", "on"]


def weights(folder: RunFolder, file: str = "last.ckpt") -> dict:
    return torch.load(folder.path / file, weights_only=True)["model"]


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run of two epochs, `whole`."""
    folder = tmp_path_factory.mktemp("resume")
    command = [*FINETUI, "train", *SMALL, "--epochs", "2", "--name", "whole"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=120)
    return folder


def test_a_dashboard_on_a_run_that_goes_on_is_opened_with_its_options(
    finished: Path, in_process, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple] = []

    def opened(config: RunConfig, *, start: bool, images: str, notify: str, resume: object, resume_from: str) -> int:
        parent = config.branch.parent if config.branch else config.finetune.parent if config.finetune else ""
        asked.append((start, images, notify, resume is not None, resume_from, Path(parent).name))
        return 0

    monkeypatch.setattr("finetui.tui.app.launch.open_new_run", opened)
    looks = ["--dashboard", "--notify", "osc9", "--images", "ascii"]
    for command in (
        ["resume", "whole", "--checkpoint", "best"],
        ["branch", "whole"],
        ["finetune", "--from", "whole", "--epochs", "2"],
    ):
        done = in_process(*command, *looks, cwd=finished)
        assert done.returncode == 0, done.stderr
    pinned = asked[1][-1]
    assert pinned.startswith("step-")  # and not best.ckpt, which a later one takes the place of
    common = (True, "ascii", "osc9")
    assert asked == [(*common, True, "best", ""), (*common, False, "", pinned), (*common, False, "", pinned)]


def test_a_training_that_is_killed_is_resumed_to_the_same_weights(finished: Path, in_process) -> None:
    folder = RunFolder(finished / "checkpoints" / "cut")
    command = [*FINETUI, "train", *SMALL, "--epochs", "2", "--name", "cut", "--save-steps", "20", "--json"]
    with subprocess.Popen(command, cwd=finished, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, 4096)  # no room for it to train on while nobody reads
        assert any(json.loads(line)["step"] >= 60 for line in process.stdout)
        process.kill()
    listed = in_process("runs", cwd=finished)
    assert "crashed" in listed.stdout
    assert "finetui resume cut" in listed.stdout
    result = in_process("resume", "cut", cwd=finished)
    assert result.returncode == 0
    assert "resumed" in in_process("log", "cut", cwd=finished).stdout
    assert same(weights(folder), weights(RunFolder(finished / "checkpoints" / "whole")))


@pytest.mark.parametrize(
    ("part", "option"), [("waiting", "--workers 2"), ("waiting", "--loader resident"), ("saving", "--save-steps")]
)
def test_what_is_said_about_time_is_a_command_that_works(
    tmp_path: Path, make_config, in_process, monkeypatch: pytest.MonkeyPatch, part: str, option: str
) -> None:
    monkeypatch.setattr(time_advice, "_SECONDS", 0.0)
    monkeypatch.setattr(time_advice, "_processors", lambda: 2)
    limits = dict.fromkeys(time_advice._OUT_OF_LINE, 2.0) | {part: 0.001}
    monkeypatch.setattr(time_advice, "_OUT_OF_LINE", limits)
    chance = np.random.default_rng(0)
    for name in ("train/a", "train/b", "test/a", "test/b"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(16):
            pixels = chance.integers(0, 256, (28, 28), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{number}.png")
    made = make_config(epochs=4, batch_size=4)
    data = DataConfig(name=str(tmp_path / "photos"), loader="stream", workers=1)
    made = msgspec.structs.replace(made, data=data, checkpoints=CheckpointsConfig(every_steps=2))
    whole = Session(made).run().folder
    cut = Session(made, script=at((19, Stop()))).run().folder
    assert whole is not None
    assert cut is not None
    said = [event.message for event in JournalReader(cut.journal).read() if isinstance(event, Alert)][-1]
    command, *others = said.partition("finetui resume ")[2].split(", or ")
    run, *options = shlex.split(command)
    if option not in command:
        options = shlex.split(others[0].partition(" (")[0])
    assert option in " ".join(options)
    result = in_process("resume", run, *options, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert ("speed: " in result.stderr) == (option == "--workers 2")  # resident, nothing waits any more
    assert same(weights(cut), weights(whole))
    logged = in_process("log", run, cwd=tmp_path).stdout
    assert "where " in logged
    assert "changed since the run began" not in logged
    before, kept = load(whole.config), load(cut.config)
    assert (kept.data, kept.checkpoints) != (before.data, before.checkpoints)
    assert kept.data.loader == ("resident" if option == "--loader resident" else "stream")
    told = {
        "--workers 2": "2 workers",
        "--loader resident": "loader resident",
        "--save-steps": "settings in [checkpoints]",
    }
    assert "continues with " in logged and told[option] in logged
    assert kept.data.workers == (2 if option == "--workers 2" else 1)
    assert (kept.checkpoints.every_steps > 2) == (option == "--save-steps")


def test_a_run_is_taken_back_to_a_checkpoint_that_is_not_the_last(finished: Path, in_process) -> None:
    result = in_process("branch", "whole", "--checkpoint", "previous", "--name", "twin", cwd=finished)
    assert result.returncode == 0
    twin = RunFolder(finished / "checkpoints" / "twin")
    assert same(weights(twin), weights(RunFolder(finished / "checkpoints" / "whole")))
    back = in_process("resume", "twin", "--checkpoint", "best", cwd=finished)
    assert back.returncode == 0
    assert same(weights(twin), weights(RunFolder(finished / "checkpoints" / "whole")))


def test_a_branch_is_a_run_of_its_own_below_the_other(finished: Path, in_process) -> None:
    whole = RunFolder(finished / "checkpoints" / "whole")
    before = {path.name: path.read_bytes() for path in whole.path.iterdir() if path.suffix == ".ckpt"}
    result = in_process("branch", "whole", "--checkpoint", "last", "--epochs", "3", "--json", cwd=finished)
    assert result.returncode == 0
    rows = json.loads(in_process("runs", "--json", cwd=finished).stdout)
    row = next(row for row in rows if row["name"] == "whole-branch")
    assert (row["parent"], row["state"], row["epoch"], row["step"]) == ("whole", "finished", 3, 600)
    assert (
        "└ whole-branch" in in_process("runs", cwd=finished).stdout
        or "├ whole-branch" in in_process("runs", cwd=finished).stdout
    )
    assert all((whole.path / name).read_bytes() == content for name, content in before.items())
    assert (whole.path / "step-400.ckpt").is_file()
    (begun,) = [e for e in effective(JournalReader(finished / "checkpoints/whole-branch/journal.jsonl").read())
                if isinstance(e, Rewound)]  # fmt: skip
    assert (begun.cause, begun.step) == ("branch", 400)


def test_a_replay_says_whether_it_ended_with_the_same_weights(finished: Path, in_process) -> None:
    result = in_process("replay", "whole", "--json", cwd=finished)
    assert result.returncode == 0
    found = json.loads(result.stdout)
    assert list(found) == [
        "run",
        "path",
        "steps",
        "changes",
        "compared",
        "same",
        "different_at",
        "weights",
        "otherwise",
    ]
    assert (found["run"], found["steps"], found["same"], found["different_at"]) == ("whole-replay", 400, True, None)
    assert found["compared"] == 3
    # A journal that tells of something else is found out.
    journal = finished / "checkpoints" / "whole-replay" / "journal.jsonl"
    journal.write_text(journal.read_text().replace('"seed":0', '"seed":1'))
    other = in_process("replay", "whole-replay", cwd=finished)
    assert other.returncode == 1
    assert "the weights differ, first seen at the checkpoint of step 0" in other.stdout


def test_a_live_run_is_rolled_back_and_detached_ones_are_resumed(finished: Path, in_process) -> None:
    folder = RunFolder(finished / "checkpoints" / "live")
    begun = in_process(
        "train", *SMALL, "--epochs", "500", "--name", "live", "--save-steps", "50", "--detach", cwd=finished
    )
    assert begun.returncode == 0
    try:
        until(lambda: folder.checkpoint("previous").exists(), "there never were two checkpoints")
        assert in_process("resume", "live", cwd=finished).returncode == 2
        unknown = in_process("rollback", "live", "nope", cwd=finished)
        assert unknown.returncode == 2
        assert "there is no checkpoint 'nope' in this run; there are: last (step" in unknown.stderr
        back = in_process("rollback", "live", "previous", "--rate-factor", "0.5", cwd=finished)
        assert back.returncode == 0
        assert "live: rolled back to previous, step " in back.stdout
        told = [event for event in JournalReader(folder.journal).read() if isinstance(event, Rewound)]
        assert [event.cause for event in told] == ["rollback"]
        holder = holder_of(folder)
        assert holder is not None
        os.kill(holder.pid, signal.SIGKILL)
        until(lambda: holder_of(folder) is None, "the engine never ended")
        again = in_process("resume", "live", "--detach", cwd=finished)
        assert again.returncode == 0
        assert "live: running in the background" in again.stdout
        assert holder_of(folder) is not None
    finally:
        stopped = in_process("stop", "live", cwd=finished)
    assert stopped.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["resume", "whole"], "has finished all its epochs; start a finetune from it"),
        (["resume", "whole", "--checkpoint", "nope"], "has no checkpoint 'nope'; it has: best, last, previous"),
        (["resume", "none"], "no run 'none'"),
        (["resume", "whole", "--dashboard", "--detach"], "choose one of them"),
        (["rollback", "whole", "best"], "is not live: finetui resume whole:best"),
        (["branch", "whole", "--name", "whole"], "'whole' exists already"),
        (["branch", "whole", "--checkpoint", "nope"], "there is no checkpoint 'nope' in this run"),
        (["branch", "whole", "--name", "a/b"], "a folder name"),
        (["replay", "whole", "--name", "whole"], "'whole' exists already"),
        (["replay", "whole", "--name", "../x"], "a folder name"),
    ],
)
def test_bad_input_is_one_sentence_and_status_2(finished: Path, in_process, arguments: list[str], says: str) -> None:
    before = sorted(path.name for path in (finished / "checkpoints").iterdir())
    result = in_process(*arguments, cwd=finished)
    assert result.returncode == 2
    assert says in result.stderr
    assert result.stderr.count("\n") == 1
    assert sorted(path.name for path in (finished / "checkpoints").iterdir()) == before


def test_a_run_whose_journal_is_lost_goes_on_in_the_background(finished: Path, in_process, tmp_path: Path) -> None:
    shutil.copytree(finished / "checkpoints" / "whole", tmp_path / "checkpoints" / "lost")
    (tmp_path / "checkpoints" / "lost" / "journal.jsonl").unlink()
    result = in_process("resume", "lost", "--checkpoint", "previous", "--detach", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "watch and steer it:  finetui attach lost" in result.stdout
    until(lambda: holder_of(RunFolder(tmp_path / "checkpoints" / "lost")) is None, "the engine never ended")
    listed = in_process("runs", "--columns", "name,state,started,parent", cwd=tmp_path).stdout
    assert listed.splitlines()[1].split() == ["lost", "finished", "-", "-"]


def test_a_persons_own_code_has_to_be_named_again(tmp_path: Path, in_process) -> None:
    (tmp_path / "net.py").write_text(
        "from torch import nn\nopen('imported', 'a').close()\n"
        "def make(num_classes):\n    return nn.Sequential(nn.Flatten(), nn.Linear(784, num_classes))\n"
    )
    code = f"{tmp_path / 'net.py'}:make"
    # In a process of its own: each imports a file once.
    assert finetui("train", *SMALL, "--epochs", "1", "--model", code, "--name", "own", cwd=tmp_path).returncode == 0
    (tmp_path / "imported").unlink()
    for command in (["resume", "own", "--checkpoint", "previous"], ["branch", "own"], ["replay", "own"]):
        refused = in_process(*command, cwd=tmp_path)
        assert refused.returncode == 2
        assert f"if you trust it, pass it: --model {code}" in refused.stderr
        assert not (tmp_path / "imported").exists()
    assert in_process("resume", "own", "--checkpoint", "previous", "--model", code, cwd=tmp_path).returncode == 0
    assert (tmp_path / "imported").exists()
