"""Finetuning, other models and other images by command line."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import SMALL, finetui
from PIL import Image

MODEL = """
import torch
def make(num_classes):
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten(),
        torch.nn.Linear(16, num_classes),
    )
"""


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the run `base`, an image folder and a network of one's own."""
    folder = tmp_path_factory.mktemp("work")
    result = finetui("train", *SMALL, "--name", "base", cwd=folder)
    assert result.returncode == 0, result.stderr
    (folder / "net.py").write_text(MODEL)
    chance = np.random.default_rng(0)
    for part, count in (("train", 30), ("test", 10)):
        for label, (name, colour) in enumerate((("röd", 0), ("blå", 2))):
            path = folder / "photos" / part / name
            path.mkdir(parents=True)
            for index in range(count):
                pixels = chance.integers(0, 60, (16, 16, 3), dtype=np.uint8)
                pixels[..., colour] += 150 + label
                Image.fromarray(pixels).save(path / f"{index}.png")
    (folder / "photos" / "train" / "röd" / "broken.png").write_bytes(b"x")
    return folder


def listed(folder: Path) -> dict[str, dict]:
    return {run["name"]: run for run in json.loads(finetui("runs", "--json", cwd=folder).stdout)}


def weights(folder: Path, run: str) -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoints" / run / "last.ckpt", weights_only=True)["model"]


def test_the_tutorials_finetuning_in_one_command(work: Path) -> None:
    arguments = ("--recipe", "linear-probe", "--epochs", "1", "--lr", "0.02", "--name", "probe")
    result = finetui("finetune", "--from", "base", *arguments, cwd=work)
    assert result.returncode == 0, result.stderr
    assert "weights kept in conv1, conv2, fc1, fc2, fc3; new in fc4" in result.stderr
    before, after = weights(work, "base"), weights(work, "probe")
    assert set(after) - set(before) == {"fc4.weight", "fc4.bias"}
    runs = listed(work)
    assert runs["probe"]["parent"] == "base"
    # What is not given is the parent's: the batch size, here.
    assert "batch_size = 20" in (work / "checkpoints" / "probe" / "config.toml").read_text()
    text = finetui("runs", cwd=work).stdout
    lines = [line.split("  ")[0] for line in text.splitlines()]
    assert lines.index("└ probe") == lines.index("base") + 1
    scores = json.loads(finetui("evaluate", "--from", "probe", "--json", cwd=work).stdout)
    assert scores["accuracy"] == runs["probe"]["best_accuracy"]


@pytest.mark.slow
def test_json_prints_events_and_nothing_else(work: Path) -> None:
    arguments = ("--epochs", "2", "--freeze", "conv1", "conv2.bias", "--json")
    result = finetui("finetune", "--from", "base", *arguments, cwd=work)
    assert result.returncode == 2  # conv2.bias is a tensor, not a layer
    assert "conv2.bias" in result.stderr
    result = finetui(
        "finetune", "--from", "base", "--epochs", "2", "--freeze", "conv1", "--freeze", "fc1", "--json", cwd=work
    )
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert [event["name"] for event in events if event["type"] == "stage_started"] == ["head only", "all layers"]
    prepared = next(event for event in events if event["type"] == "run_prepared")
    assert prepared["config"]["finetune"]["freeze"] == ["conv1", "fc1"]
    layers = [event for event in events if event["type"] == "layers_changed"][-1]["layers"]
    assert [group["name"] for group in layers if group["frozen"]] == ["conv1", "fc1"]


@pytest.mark.slow
def test_an_image_folder_and_a_network_of_ones_own(work: Path) -> None:
    arguments = ("--data", "photos", "--model", "net.py:make", "--epochs", "4", "--lr", "0.3", "--batch-size", "10")
    result = finetui("train", *arguments, "--name", "own", "--augment", "light", cwd=work)
    assert result.returncode == 0, result.stderr
    assert "the network is your own code, net.py:make" in result.stderr
    assert "1 file or class was skipped" in result.stderr
    assert "train/röd/broken.png" in (work / "checkpoints" / "own" / "journal.jsonl").read_text()
    assert listed(work)["own"]["best_accuracy"] == 1.0
    refused = finetui("evaluate", "--from", "own", cwd=work)
    assert refused.returncode == 2
    assert f"--model {work / 'net.py'}:make" in refused.stderr
    found = finetui("evaluate", "--from", "own", "--model", "net.py:make", "--json", cwd=work)
    scores = json.loads(found.stdout)
    assert scores["accuracy"] == 1.0
    assert [row["label"] for row in scores["per_class"]] == ["blå", "röd"]
    refused = finetui("finetune", "--from", "own", "--epochs", "2", cwd=work)
    assert refused.returncode == 2
    assert f"--model {work / 'net.py'}:make" in refused.stderr
    again = finetui("finetune", "--from", "own", "--model", "net.py:make", "--epochs", "2", "--name", "tuned", cwd=work)
    assert again.returncode == 0, again.stderr
    assert listed(work)["tuned"]["parent"] == "own"


@pytest.mark.slow
def test_a_network_of_torchvisions(work: Path) -> None:
    arguments = ("--data", "photos", "--model", "squeezenet1_1", "--epochs", "1", "--batch-size", "30", "--lr", "0.001")
    result = finetui(
        "train", *arguments, "--optimizer", "adamw", "--schedule", "one-cycle", "--name", "squeeze", cwd=work
    )
    assert result.returncode == 0, result.stderr
    assert weights(work, "squeeze")["classifier.1.weight"].shape[0] == 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["train", "--model", "resnet81"], "did you mean"),
        (["train", "--model", "no/such.py:make"], "cannot be imported"),
        (["train", "--weights", "nowhere.pt"], "nowhere.pt"),
        (["train", "--weights", "default"], "lenet"),
        (["train", "--data", "no/such/folder"], "does not exist"),
        (["train", "--data", "photoss"], "no data set or folder"),
        (["train", "--optimizer", "adam"], "did you mean 'adamw'"),
        (["train", "--schedule", "cosin"], "did you mean 'cosine'"),
        (["train", "--warmup-epochs", "10"], "--warmup-epochs"),
        (["train", "--label-smoothing", "1"], "--label-smoothing"),
        (["train", "--augment", "much"], "--augment"),
        (["train", "--loader", "fast"], "--loader"),
        (["finetune", "--from", "none"], "no run 'none'"),
        (["finetune", "--from", "base", "--recipe", "magic"], "--recipe"),
        (["finetune", "--from", "base", "--epochs", "1"], "--epochs"),
        (["finetune", "--from", "base", "--freeze", "nose", "--epochs", "2"], "'nose'"),
        (["finetune", "--from", "base", "--head", "keep", "--data", "photos", "--epochs", "2"], "--head"),
        (["finetune", "--from", "/etc/passwd", "--epochs", "2"], "not a checkpoint"),
    ],
)
def test_bad_input_is_one_sentence_and_status_2(work: Path, in_process, arguments: list[str], says: str) -> None:
    before = sorted(path.name for path in (work / "checkpoints").iterdir())
    settings = [] if arguments[0] == "finetune" or "--data" in arguments else ["--data", "mnist-sample"]
    result = in_process(*arguments, *settings, "--device", "cpu", cwd=work)
    assert result.returncode == 2, result.stderr
    assert says in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stderr.splitlines()[-1].startswith(("finetui: ", "failed: "))
    assert sorted(path.name for path in (work / "checkpoints").iterdir()) == before


@pytest.mark.slow
def test_a_state_dict_of_ones_own(work: Path) -> None:
    state = torch.load(work / "checkpoints" / "base" / "best.ckpt", weights_only=True)["model"]
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}, work / "mine.pt")
    result: subprocess.CompletedProcess[str] = finetui(
        "train", *SMALL[:-4], "--lr", "0.0001", "--weights", "mine.pt", "--name", "warm", cwd=work
    )
    assert result.returncode == 0, result.stderr
    assert "mine.pt: weights kept in all layers" in result.stderr
    assert listed(work)["warm"]["best_accuracy"] >= listed(work)["base"]["best_accuracy"] - 0.01
