"""`finetui calibrate`, and what the other commands say of a calibrated run."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_predictions import make

import finetui
from finetui.engine.errors import BadInput
from finetui.engine.predictions.criteria import Selection
from finetui.engine.predictions.file import load_predictions
from finetui.engine.protocol.config import DataConfig, RunConfig, RunSection, TrainingConfig
from finetui.engine.runs.folder import RunFolder
from finetui.tui.state.listing import listing_of

Call = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run named `small` in `checkpoints`, which has val images."""
    from finetui.engine.session.session import Session

    root = tmp_path_factory.mktemp("work")
    config = RunConfig(
        data=DataConfig(name="mnist-sample", val=0.2),
        training=TrainingConfig(epochs=1, batch_size=50, lr=0.03, device="cpu", fast="off"),
        run=RunSection(name="small", runs_dir=str(root / "checkpoints")),
    )
    Session(config).run()
    return root


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    """A copy of it, so that a test can change the checkpoint."""
    return Path(shutil.copytree(trained, tmp_path / "work"))


def calibrate(in_process: Call, folder: Path) -> dict[str, Any]:
    result = in_process("calibrate", "small", "--device", "cpu", "--json", cwd=folder)
    assert result.returncode == 0, result.stderr
    return dict(json.loads(result.stdout))


def test_json_says_where_it_is_kept_and_what_it_makes_of_the_scores(in_process: Call, folder: Path) -> None:
    found = calibrate(in_process, folder)
    assert list(found) == ["path", "temperature", "n", "log_loss", "calibration_error"]
    assert Path(str(found["path"])).samefile(RunFolder(folder / "checkpoints" / "small").best)
    assert found["temperature"] > 0
    assert found["log_loss"][1] <= found["log_loss"][0]


def test_errors_has_the_calibrated_confidence(in_process: Call, folder: Path) -> None:
    def confidence() -> dict[int, float]:
        result = in_process("errors", "--from", "small", "--limit", "0", "--json", "--device", "cpu", cwd=folder)
        return {item["index"]: item["confidence"] for item in json.loads(result.stdout)}

    before = confidence()
    assert calibrate(in_process, folder)["temperature"] != pytest.approx(1, abs=1e-3)
    after = confidence()
    assert before.keys() == after.keys()
    assert after != pytest.approx(before, abs=1e-4)


def test_evaluate_says_both_scores_alike(in_process: Call, folder: Path) -> None:
    asked = ("evaluate", "--from", "small", "--part", "val", "--device", "cpu")
    assert re.search(
        r"^expected calibration error  \d+\.\d\d% \(15 bins\)$", in_process(*asked, cwd=folder).stdout, re.M
    )
    calibrate(in_process, folder)
    told = in_process(*asked, cwd=folder).stdout
    assert re.search(r"^log loss {20}\d\.\d{4} \(\d\.\d{4} uncalibrated\)$", told, re.M)
    assert re.search(r"^expected calibration error  \d+\.\d\d% \(\d+\.\d\d% uncalibrated; 15 bins\)$", told, re.M)


@pytest.mark.parametrize(
    ("errors", "said"),
    [((0.05, 0.06), "6.00%, was 5.00%; higher, with so few images"), ((0.06, 0.05), "5.00%, was 6.00%")],
)
def test_an_error_that_rose_is_said_to(
    in_process: Call, folder: Path, monkeypatch: pytest.MonkeyPatch, errors: tuple[float, float], said: str
) -> None:
    found = finetui.Calibration(Path("best.ckpt"), 1.5, 100, (0.5, 0.4), errors)
    monkeypatch.setattr("finetui.engine.inspection.calibrate.calibrate", lambda *_, **__: found)
    assert in_process("calibrate", "small", cwd=folder).stdout.splitlines()[-1] == f"  calibration error  {said}"


@pytest.mark.parametrize("given", [("--mean", "0.5", "--std", "0.5"), ("--classes", "a,b"), ("--crop", "28")])
def test_a_checkpoint_says_its_own_input(in_process: Call, folder: Path, given: tuple[str, ...]) -> None:
    for command in (("evaluate",), ("errors", "--part", "test"), ("predict", "digit.png")):
        result = in_process(*command, "--from", "small", "--device", "cpu", *given, cwd=folder)
        assert result.returncode == 2, command
        assert "records its own classes and input; leave --classes, --mean" in result.stderr


def test_val_against_test_says_how_to_compare(in_process: Call, folder: Path) -> None:
    last = "checkpoints/small/last.ckpt"
    asked = ("errors", "--from", "small", "--compare", last, "--device", "cpu")
    result = in_process(*asked, cwd=folder)
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1].endswith(
        "one is of val images, the other of test images; --part test takes the same images of both"
    )
    assert in_process(*asked, "--part", "test", cwd=folder).returncode == 0
    predictions = load_predictions(RunFolder(folder / "checkpoints" / "small").best_predictions)
    other = make()
    assert (predictions.origin.part, other.origin.part) == ("val", "test")
    path = folder / "other.predictions"
    other.save(path)
    with pytest.raises(BadInput, match="press p first"):
        listing_of(predictions, Selection()).compare(path, "", ())


def test_help_says_what_part_and_model_are(in_process: Call, folder: Path) -> None:
    def told(command: str) -> str:
        return " ".join(re.sub("[│╭╰─]", " ", in_process(command, "--help", cwd=folder).stdout).split())

    assert "(default: for a run val, else test, as in training; for a file test, else val)" in told("errors")
    for command in ("evaluate", "errors", "predict"):
        assert "for bare weights the name of the network, such as resnet18" in told(command)


def test_a_run_that_goes_on_says_what_changed(in_process: Call, folder: Path) -> None:
    result = in_process("extend", "small", "--epochs", "2", cwd=folder)
    assert result.returncode == 0
    assert re.search(r"^new settings from step \d+: 2 epochs, batches of 50, ", result.stderr, re.M)
    refused = in_process("extend", "small", "--epochs", "2", cwd=folder)
    assert "small has already trained 2 epochs; --epochs is the total, so give a larger number" in refused.stderr
