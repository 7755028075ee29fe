"""The command line as a person or a script uses it, in processes of its own."""

import json
import os
import re
import signal
import subprocess
from pathlib import Path
from typing import get_type_hints

import msgspec
import pytest
import torch
from command_line import FINETUI, SMALL, finetui

from finetui.engine.protocol.config import TrainingConfig
from finetui.engine.protocol.events import AnyEvent
from finetui.tui.cli.main import run
from finetui.tui.cli.options import RunOptions


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A folder in which a small run named `small` was trained, and what the command printed."""
    folder = tmp_path_factory.mktemp("work")
    return folder, finetui("train", *SMALL, "--name", "small", cwd=folder)


def test_train_prints_the_tutorials_lines(trained) -> None:
    _, result = trained
    assert result.returncode == 0, result.stderr
    *losses, accuracy = result.stdout.splitlines()
    assert len(losses) == 2
    assert re.fullmatch(r"\[1,   100\] loss: \d\.\d{3}", losses[0])
    assert re.fullmatch(r"\[1,   200\] loss: \d\.\d{3}", losses[1])
    assert re.fullmatch(
        r"Accuracy of the network on the 1000 test images: \d\d\.\d\d % \(95 % CI \d\d\.\d\d to \d\d\.\d\d %\)",
        accuracy,
    )
    assert "\x1b" not in result.stdout + result.stderr


def test_a_run_can_be_opened_with_plain_torch(trained) -> None:
    folder, _ = trained
    weights = torch.load(folder / "checkpoints" / "small" / "best.ckpt", weights_only=True)["model"]
    assert weights["conv1.weight"].shape == (6, 1, 5, 5)


@pytest.mark.slow
def test_evaluate_agrees_with_the_training(trained) -> None:
    folder, result = trained
    for source in ("small", "checkpoints/small", "checkpoints/small/last.ckpt"):
        found = finetui("evaluate", "--from", source, "--json", cwd=folder)
        assert found.returncode == 0, found.stderr
        scores = json.loads(found.stdout)
        assert f"{100 * scores['accuracy']:.2f} %" in result.stdout
        assert scores["n"] == 1000
        assert list(scores)[:5] == ["accuracy", "loss", "n", "per_class", "confusion"]
        assert scores["part"] == "test"
        assert scores["interval"][0] < scores["accuracy"] < scores["interval"][1]
        assert scores["log_loss"] == scores["loss"]
        assert (scores["temperature"], scores["uncalibrated"]) == (1.0, None)
        assert [len(scores[name]) for name in ("roc_auc", "average_precision", "calibration")] == [10, 10, 15]
        names = ["label", "support", "precision", "recall", "f1", "accuracy", "loss", "mistaken_for", "mistaken"]
        assert list(scores["per_class"][3]) == names
        assert sum(map(sum, scores["confusion"])) == 1000
        hits = sum(row[i] for i, row in enumerate(scores["confusion"]))
        assert hits / 1000 == scores["accuracy"]
        assert [sum(row) for row in scores["confusion"]] == [c["support"] for c in scores["per_class"]]
    text = finetui("evaluate", "--from", "small", "--calibration", cwd=folder)
    low, high = (f"{100 * end:.2f}" for end in scores["interval"])
    first, *others = text.stdout.splitlines()
    assert first.split() == f"test accuracy {scores['accuracy']:.2%} (95% CI {low} to {high}%, n = 1,000)".split()
    for name in ("balanced accuracy", "majority baseline", "top-5 accuracy", "log loss", "expected calibration error"):
        assert any(line.startswith(name) for line in others)
    for name in ("macro avg", "weighted avg", "  0 to   7%", " 93 to 100%"):
        assert any(line.startswith(name) for line in others)


def test_runs_lists_it(trained) -> None:
    folder, _ = trained
    (row,) = json.loads(finetui("runs", "--json", cwd=folder).stdout)
    assert list(row) == [
        "name", "path", "state", "data", "model", "epoch", "step", "best_accuracy", "started", "parent", "pid", "host",
        "evaluated_on", "accuracy", "test_accuracy", "part", "time_shares", "epochs", "lr", "recipe",
        "optimizer", "schedule", "batch_size", "seed", "took", "size", "tags", "note", "provenance",
    ]  # fmt: skip
    assert (row["name"], row["state"], row["data"], row["model"]) == ("small", "finished", "mnist-sample", "lenet")
    assert (row["epoch"], row["step"], row["parent"]) == (1, 200, None)
    assert Path(row["path"]) == folder / "checkpoints" / "small"
    assert "small" in finetui("runs", cwd=folder).stdout


def test_json_is_the_journal_and_nothing_else(tmp_path: Path) -> None:
    result = finetui("train", *SMALL, "--json", "--name", "j", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert result.stdout == (tmp_path / "checkpoints" / "j" / "journal.jsonl").read_text()
    decoder = msgspec.json.Decoder(AnyEvent)
    kinds = [type(decoder.decode(line)).__name__ for line in result.stdout.splitlines()]
    assert kinds[-1] == "StateChanged"
    assert "TrainPoint" in kinds


CHATTY = """
import torch
from finetui.engine.data.user_datasets import from_datasets
class Net(torch.nn.Module):
    def __init__(self, num_classes=2):
        super().__init__(); print("building"); self.fc = torch.nn.Linear(16, num_classes)
    def forward(self, x):
        print("forward"); return self.fc(x.flatten(1))
class Items(torch.utils.data.Dataset):
    classes = ["Köpfchen 头", "b"]
    def __len__(self): return 8
    def __getitem__(self, index):
        print("item"); return torch.full((1, 4, 4), index * 20, dtype=torch.uint8), index % 2
def pair(): return Items(), Items()
"""


@pytest.mark.parametrize("loader", ["resident", "stream"])
def test_what_a_persons_code_prints_is_no_json(tmp_path: Path, loader: str) -> None:
    (tmp_path / "own.py").write_text(CHATTY)
    own = ["--model", "own.py:Net", "--data", "own.py:pair"]
    train = ["train", *own, "--loader", loader, "--epochs", "1", "--batch-size", "4", "--name", "r", "--json"]
    for command in (train, ["evaluate", "--from", "r", *own, "--json"], ["summary", *own, "--json"],
                    ["errors", "--from", "checkpoints/r/last.ckpt", *own, "--json"],
                    ["replay", "r", *own, "--json"]):  # fmt: skip
        found = finetui(*command, cwd=tmp_path)
        assert found.returncode == 0, found.stderr
        for line in found.stdout.splitlines() if command[0] == "train" else [found.stdout]:
            json.loads(line)
        assert "building" in found.stderr


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_what_a_locale_cannot_show_is_replaced(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "own.py").write_text(CHATTY.replace("print", "str"))
    own = ["--model", "own.py:Net", "--data", "own.py:pair"]
    env = os.environ | {"PYTHONIOENCODING": encoding}
    commands = (
        ["train", *own, "--epochs", "1", "--batch-size", "4", "--name", "r"],
        ["evaluate", "--from", "r", *own],
        ["errors", "--from", "r", *own, "--show", "all"],
        ["runs"],
        ["summary", *own],
    )
    for command in commands:
        found = finetui(*command, cwd=tmp_path, env=env, encoding=encoding)
        assert (found.returncode, "Traceback" in found.stderr) == (0, False), found.stderr
    assert "?" in finetui("evaluate", "--from", "r", *own, cwd=tmp_path, env=env, encoding=encoding).stdout
    assert "Köpfchen 头" in finetui("evaluate", "--from", "r", *own, "--json", cwd=tmp_path, env=env).stdout


def test_a_configuration_file_and_options_over_it(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('[data]\nname = "mnist-sample"\n[training]\nepochs = 7\nlr = 0.05\n')
    result = finetui("train", "--config", "c.toml", "--epochs", "1", "--name", "c", "--device", "cpu", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    kept = (tmp_path / "checkpoints" / "c" / "config.toml").read_text()
    assert "epochs = 1\n" in kept
    assert "lr = 0.05\n" in kept
    again = finetui("train", "--config", "checkpoints/c/config.toml", cwd=tmp_path)
    assert again.returncode == 2
    assert "'c' exists" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["train", "--data", "mnits"], "did you mean 'mnist'"),
        (["train", "--model", "resnet"], "no model 'resnet'"),
        (["train", "--lr", "zero"], "finetui: --lr: 'zero' is not a number"),
        (["train", "--lr", "-0.1"], "positive number"),
        (["train", "--lr", "nan"], "positive number"),
        (["train", "--batch-size", "0"], "--batch-size"),
        (["train", "--epochs", "1.5"], "--epochs"),
        (["train", "--device", "tpu"], "auto, cpu, cuda"),
        (["train", "--epochs", "abc"], "finetui: --epochs: 'abc' is not a whole number"),
        (["train", "--xyzzy"], "train does not take --xyzzy; see finetui train --help"),
        (["train", "--epoch", "2"], "train does not take --epoch; did you mean --epochs?"),
        (["train", "--recipe", "artcle"], "--recipe: 'artcle' is not one of default, article; did you mean 'article'?"),
        (["--images", "png"], "finetui: --images: 'png' is not one of auto, blocks, ascii, sixel, kitty"),
        (["evaluate", "x", "--part", "tset"], "'tset' is not one of train, val, test; did you mean 'test'?"),
        (["completion", "fsh"], "SHELL: 'fsh' is not one of bash, zsh, fish; did you mean 'fish'?"),
        (["train", "extra"], "train does not take 'extra'"),
        (["train", "--config", "none.toml"], "none.toml cannot be read"),
        (["train", "--runs-dir", "/dev/null/x"], "/dev/null is not a folder"),
        (["train", "--data-dir", "/nowhere", "--data", "mnist"], "/nowhere does not exist"),
        (["train", "--data", "mnist-sample", "--batch-size", "4001"], "4001 is more than the 4000 training images"),
        (["evaluate"], "evaluate: RUN is missing"),
        (["evaluate", "--from", "/etc/passwd", "--device", "cpu"], "not a checkpoint"),
        (["evaluate", "none"], "no run 'none'"),
        (["open", "none"], "no run 'none'"),
        (["nonsense"], "no command 'nonsense'; `finetui --help` lists all"),
        (["trian", "--data", "mnist-sample"], "no command 'trian'; did you mean train?"),
        ([], "needs a terminal"),
        (["--data", "mnits"], "did you mean 'mnist'"),
    ],
)
def test_bad_input_is_one_sentence_and_status_2(tmp_path: Path, in_process, arguments: list[str], says: str) -> None:
    result = in_process(*arguments, cwd=tmp_path)
    assert result.returncode == 2, result.stderr
    assert says in result.stderr
    complaint = [line for line in result.stderr.splitlines() if line.startswith("finetui: ")]
    assert len(complaint) == 1
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    assert list(tmp_path.glob("checkpoints/*")) == []


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda folder: (folder / "train-images-idx3-ubyte.gz").unlink(), "has no train-images-idx3-ubyte"),
        (lambda folder: os.truncate(folder / "t10k-images-idx3-ubyte.gz", 5000), "damaged"),
        (lambda folder: (folder / "train-labels-idx1-ubyte.gz").write_bytes(b"text"), "not an IDX file"),
        (
            lambda folder: (folder / "t10k-labels-idx1-ubyte.gz").replace(folder / "train-labels-idx1-ubyte.gz"),
            "4 000 images",
        ),
    ],
)
def test_broken_data_files_are_named(tmp_path: Path, in_process, damage, says: str) -> None:
    import shutil

    from finetui.engine.data.mnist import SAMPLE_FOLDER

    folder = tmp_path / "MNIST" / "raw"
    shutil.copytree(SAMPLE_FOLDER, folder)
    damage(folder)
    result = in_process("train", "--data", "mnist", "--data-dir", str(tmp_path), cwd=tmp_path)
    assert result.returncode == 2
    assert says in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "checkpoints").exists()


def test_an_interrupt_saves_and_exits_with_130(tmp_path: Path) -> None:
    arguments = ["train", "--data", "mnist-sample", "--epochs", "1000", "--name", "i", "--device", "cpu"]
    process = subprocess.Popen(
        [*FINETUI, *arguments], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert (tmp_path / "checkpoints" / "i" / "last.ckpt").is_file()
    (row,) = json.loads(finetui("runs", "--json", cwd=tmp_path).stdout)
    assert row["state"] == "stopped"


def test_a_termination_saves_and_exits_with_143(tmp_path: Path) -> None:
    arguments = ["train", "--data", "mnist-sample", "--epochs", "1000", "--name", "t", "--device", "cpu"]
    process = subprocess.Popen([*FINETUI, *arguments], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    process.stdout.readline()
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 143
    assert (tmp_path / "checkpoints" / "t" / "last.ckpt").is_file()


def test_a_reader_that_leaves_is_no_disaster(trained) -> None:
    folder, _ = trained
    command = f"{' '.join(FINETUI)} runs | true"
    result = subprocess.run(command, shell=True, cwd=folder, capture_output=True, text=True, timeout=60)
    assert "Traceback" not in result.stderr


def test_the_version_is_the_distributions(capsys: pytest.CaptureFixture[str]) -> None:
    from importlib.metadata import version

    assert run(["--version"]) == 0
    assert capsys.readouterr().out.strip() == version("finetui")


@pytest.mark.parametrize(
    ("arguments", "says"), [(["--device", "tpu"], "auto, cpu, cuda"), (["--data", "x"], "no data set or folder 'x'")]
)
def test_evaluating_with_bad_options(trained, in_process, arguments: list[str], says: str) -> None:
    folder, _ = trained
    result = in_process("evaluate", "--from", "small", *arguments, cwd=folder)
    assert result.returncode == 2
    assert says in result.stderr
    assert "Traceback" not in result.stderr


def test_every_option_of_training_sets_a_field() -> None:
    hints = get_type_hints(RunOptions, include_extras=True)
    options = {name for name, hint in hints.items() if hint.__metadata__[-1].group[0].name == "Training"}
    assert {"epochs", "lr", "device"} <= options
    standing_for_others = {"gpus", "nproc"}  # `processes` and `device`, see test_process_count.py
    assert options - standing_for_others <= set(TrainingConfig.__struct_fields__)


def test_the_help_of_an_option_is_whole(capsys: pytest.CaptureFixture[str]) -> None:
    run(["train", "--help"])
    help_text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "an image folder, or module:factory (runs that code)." in help_text
