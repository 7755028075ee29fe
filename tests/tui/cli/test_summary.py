"""`finetui summary`: what it prints fits a terminal, is harmless, and agrees with what training would build."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from rich.cells import cell_len

from finetui.engine.checkpoints import checkpoint
from finetui.engine.data import Transform
from finetui.engine.models import Architecture, LeNet
from finetui.engine.models.summary import ModelSummary, ModuleSummary
from finetui.tui.cli.summary import Step, total_lines, tree_lines
from finetui.tui.state.numbers import short

OWN = """
import torch
from torch import nn

class Net(nn.Sequential):
    def __init__(self, num_classes):
        super().__init__(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, num_classes))

    def forward(self, x):
        return super().forward(x) if x.mean().item() < 1 else None

def make(num_classes):
    return Net(num_classes)

def broken(num_classes):
    raise RuntimeError("no luck \\x1b[31m")
"""


def module(name: str, **changes: object) -> ModuleSummary:
    settings = {
        "depth": name.count(".") + 1 if name else 0, "kind": "Linear", "summary": "linear 4→4", "own": 20,
        "parameters": 20, "trainable": 20, "parameter_bytes": 80, "calls": 1, "output": (4,), "activation_bytes": 16,
        "flops": 32, "time": None,
    }  # fmt: skip
    return ModuleSummary(name=name, **settings | changes)


def summary(*modules: ModuleSummary, seconds: float | None = None) -> ModelSummary:
    return ModelSummary(
        input=(1, 2, 2), modules=modules, seconds=seconds, weight_bytes=80, trainable_bytes=80, saved_bytes=10
    )


def test_lenet_is_the_default(in_process, tmp_path: Path) -> None:
    result = in_process("summary", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        "MODULE                   OUTPUT  PARAMS  FLOPS",
        "LeNet                        10   44.4K   563K",
        "  conv1 conv 1→6, 5×5   6×24×24     156   173K",
        "  conv2 conv 6→16, 5×5   16×8×8   2.42K   307K",
        "  fc1 linear 256→120        120   30.8K  61.4K",
        "  fc2 linear 120→84          84   10.2K  20.2K",
        "  fc3 linear 84→10           10     850  1.68K",
        "",
        "input        1×28×28",
        "parameters   44,426, of which 44,426 train",
        "FLOPs        563K for one image: matrix products, convolutions and attention,",
        "             a multiply-add counts as 2",
        "memory       2.79 MB at least, for SGD with momentum, 64 images per step:",
        "  weights       178 KB",
        "  gradients     178 KB",
        "  momentum      178 KB",
        "  activations  2.26 MB",
    ]


def test_json_has_all_of_it(in_process, tmp_path: Path) -> None:
    result = in_process("summary", "--json", "--classes", "5", "--batch-size", "1", "--time", cwd=tmp_path)
    (line,) = result.stdout.splitlines()
    found = json.loads(line)
    assert (found["model"], found["input"], found["classes"]) == ("lenet", [1, 28, 28], 5)
    assert found["flops"] == 563_280 - 2 * 84 * 5
    assert found["memory"]["activations"] == 35_312
    assert found["memory"]["total"] == 3 * 4 * found["parameters"] + 35_312
    assert [row["name"] for row in found["modules"]] == ["", "conv1", "conv2", "fc1", "fc2", "fc3"]
    assert found["modules"][0]["time"] == 1
    assert 0 < found["seconds"] < 60


def test_times_are_shown_when_they_are_asked_for(in_process, tmp_path: Path) -> None:
    lines = in_process("summary", "--time", "--device", "cpu", cwd=tmp_path).stdout.splitlines()
    assert lines[0].endswith("FLOPS  TIME")
    assert lines[1].endswith("100%")
    assert any(line.startswith("time  ") and line.endswith(" ms for one image") for line in lines)


def test_networks_of_torchvision_take_imagenet_unless_data_is_given(in_process, tmp_path: Path) -> None:
    result = in_process("summary", "--model", "resnet18", cwd=tmp_path)
    lines = result.stdout.splitlines()
    assert lines[1].split() == ["ResNet", "1000", "11.7M", "3.63G"]
    assert "input        3×224×224" in lines
    assert max(map(cell_len, lines)) <= 80
    small = json.loads(
        in_process("summary", "--model", "resnet18", "--image-size", "64", "--json", cwd=tmp_path).stdout
    )
    assert (small["input"], small["classes"]) == ([3, 64, 64], 1000)
    digits = json.loads(in_process("summary", "--model", "resnet18", "--data", "mnist", "--json", cwd=tmp_path).stdout)
    assert (digits["input"], digits["classes"]) == ([1, 28, 28], 10)
    assert digits["modules"][1]["summary"] == "conv 1→64, 7×7"
    larger = json.loads(in_process("summary", "--model", "alexnet", "--data", "mnist", "--json", cwd=tmp_path).stdout)
    assert larger["input"] == [1, 64, 64]  # as training would resize them: it does not take 28x28


def test_a_folder_gives_shape_and_classes(in_process, tmp_path: Path) -> None:
    for part in ("train", "test"):
        for name in ("a", "b", "c"):
            (tmp_path / "pets" / part / name).mkdir(parents=True)
            for index in range(2):
                Image.new("RGB", (40, 36), (index, 50, 100)).save(tmp_path / "pets" / part / name / f"{index}.png")
    result = in_process("summary", "--model", "squeezenet1_1", "--data", "./pets", "--json", cwd=tmp_path)
    found = json.loads(result.stdout)
    assert (found["input"], found["classes"]) == ([3, 36, 40], 3)


def test_a_persons_own_network(in_process, tmp_path: Path) -> None:
    (tmp_path / "mine_to_sum.py").write_text(OWN)
    result = in_process("summary", "--model", "mine_to_sum.py:make", "--classes", "7", cwd=tmp_path)
    assert result.stdout.splitlines()[1].split() == ["Net", "7", "147", "10.6M"]
    result = in_process("summary", "--model", "mine_to_sum.py:broken", cwd=tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
    assert "no luck �[31m" in result.stderr
    assert "\x1b" not in result.stderr


def save_checkpoint(folder: Path, name: str) -> Path:
    architecture = Architecture(name=name, num_classes=3, in_channels=3, height=28, width=28)
    transform = Transform(mean=(0.5,), std=(0.5,))
    about = checkpoint.About(
        architecture=architecture, transform=transform, classes=("a", "b", "c"), data="mnist", run=""
    )
    path = folder / "mine.ckpt"
    checkpoint.save(path, about, LeNet(3, 3).state_dict(), {})
    return path


def test_a_checkpoint_says_what_it_is(in_process, tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, "lenet")
    found = json.loads(in_process("summary", "--from", str(path), "--json", cwd=tmp_path).stdout)
    assert (found["model"], found["input"], found["classes"]) == ("lenet", [3, 28, 28], 3)
    result = in_process("summary", "--from", str(path), "--classes", "4", cwd=tmp_path)
    assert result.returncode == 2
    assert "leave out --data" in result.stderr


def test_a_checkpoint_cannot_run_code_that_is_not_named(in_process, tmp_path: Path) -> None:
    (tmp_path / "evil_to_sum.py").write_text("raise SystemExit('it ran')")
    path = save_checkpoint(tmp_path, "evil_to_sum.py:make")
    result = in_process("summary", "--from", str(path), cwd=tmp_path)
    assert result.returncode == 2
    assert "if you trust it, pass it: --model evil_to_sum.py:make" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--model", "resnet"], "did you mean"),
        (["--model", "../lenet"], "model.name (--model)"),
        (["--image-size", "32"], "lenet takes images of 28x28 pixels"),
        (["--image-size", "7"], "data.image_size (--image-size)"),
        (["--classes", "0"], "--classes: a network has at least 1 class"),
        (["--classes", "1.5"], "not a whole number"),
        (["--batch-size", "0"], "--batch-size must be at least 1"),
        (["--data", "./nowhere"], "/nowhere does not exist"),
        (["--from", "nothing"], "nothing"),
        (["--device", "gpu"], "training.device (--device)"),
        (["--model", "squeezenet1_1", "--image-size", "8"], "does not take inputs of the shape"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_status_2(in_process, tmp_path: Path, arguments: list, says: str) -> None:
    result = in_process("summary", *arguments, cwd=tmp_path)
    assert result.returncode == 2
    assert says in result.stderr
    assert (result.stdout, result.stderr.count("\n")) == ("", 1)


def test_names_are_cut_by_cells_and_numbers_never() -> None:
    deep = "a." * 30 + "漢字" * 40
    found = tree_lines(summary(module(""), module(deep, output=(2048, 7, 7), parameters=2**40, flops=2**50)))
    assert {cell_len(line) for line in found} == {80}
    assert found[-1].startswith("  " * 10 + "漢字漢字")
    assert re.search(r"[漢字]…  2048×7×7   1.10T  1.13P$", found[-1])
    wide = tree_lines(summary(module(""), module("漢" * 32)))  # fewer characters than there is room for
    assert "漢…" in wide[-1]
    assert cell_len(wide[-1]) == 80
    narrow = tree_lines(summary(module(""), module("layer", output=(1000,) * 12)), 40)
    assert narrow[-1].startswith("  layer lin…")
    assert narrow[-1].endswith("×".join(["1000"] * 12) + "      20     32")


def test_names_from_outside_are_harmless() -> None:
    (_, row) = tree_lines(summary(module("[red]x\x1b[31m\n\u202e", summary="[b]")))
    assert row.startswith("  [red]x�[31m � [b]")


def test_what_is_not_known_is_a_dash() -> None:
    unused = module("a", calls=0, output=None, flops=None, parameters=0, time=None)
    lines = tree_lines(summary(module("", time=1.0), unused, module("b", calls=3, time=0.255), seconds=0.01))
    assert lines[2].split() == ["a", "linear", "4→4", "-", "-", "-", "-"]
    assert lines[3].split() == ["b", "linear", "4→4", "(3", "calls)", "4", "20", "32", "26%"]


def test_totals_fit_for_huge_networks() -> None:
    lines = total_lines(
        summary(module("", flops=2**60, parameters=2**45, trainable=2**45), seconds=1.5), Step(1_000_000, 7, "AdamW", 2)
    )
    assert max(map(cell_len, lines)) <= 80


def test_counts_have_three_digits() -> None:
    counts = {0: "0", 999: "999", 1000: "1.00K", 9994: "9.99K", 9995: "10.0K", 99_950: "100K", 999_499: "999K"}
    counts |= {999_500: "1.00M", 44_426: "44.4K", 3_628_146_688: "3.63G", 10**18: "1000P"}
    assert {count: short(count) for count in counts} == counts


def test_it_loads_torch_only_when_it_runs() -> None:
    code = "import sys, finetui.tui.cli.summary; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


@pytest.mark.parametrize(
    ("arguments", "images", "optimizer", "states"),
    [
        ((), 32, "AdamW", 2),
        (("--optimizer", "sgd"), 32, "SGD with momentum", 1),
        (("--optimizer", "sgd", "--momentum", "0"), 32, "SGD", 0),
        (("--accumulate", "4"), 8, "AdamW", 2),
    ],
)
def test_of_a_run_the_memory_is_that_of_its_own_steps(
    in_process, tmp_path: Path, arguments: tuple[str, ...], images: int, optimizer: str, states: int
) -> None:
    """`images` are those whose activations are there at once."""
    given = ("--data", "mnist-sample", "--epochs", "1", "--batch-size", "32", "--name", "one", "--device", "cpu")
    assert in_process("train", *given, *arguments, cwd=tmp_path).returncode == 0
    memory = json.loads(in_process("summary", "one", "--json", cwd=tmp_path).stdout)["memory"]
    assert (memory["batch_size"], memory["optimizer_kind"]) == (32, optimizer)
    assert memory["optimizer"] == states * memory["gradients"] == states * 4 * 44_426
    alone = json.loads(in_process("summary", "--batch-size", "1", "--json", cwd=tmp_path).stdout)["memory"]
    assert memory["activations"] == images * alone["activations"]
    said = in_process("summary", "one", cwd=tmp_path).stdout
    assert f"for {optimizer}, 32 images per step{' in 4 parts' if images == 8 else ''}:" in said
    assert ("moment" in said.partition(" per step")[2]) == bool(states)
