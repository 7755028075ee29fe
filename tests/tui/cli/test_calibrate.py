"""`finetui calibrate`, and what the other commands say of a calibrated run."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finetui.engine.protocol.config import DataConfig, RunConfig, RunSection, TrainingConfig
from finetui.engine.runs.folder import RunFolder

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
