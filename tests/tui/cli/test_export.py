"""`finetui export` from the command line, and `finetui predict` with what it wrote."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exported_runs import train
from PIL import Image

from finetui.engine.export import export as exporting
from finetui.engine.export.certificate import json_path
from finetui.engine.export.opened import open_export
from finetui.engine.export.runner import Runner
from finetui.engine.runs.journal import JournalReader

Call = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A folder with a run called `small`."""
    train(tmp_path / "checkpoints", "small")
    return tmp_path


def test_a_run_is_exported_proved_and_used_without_it(in_process: Call, work: Path) -> None:
    done = in_process("export", "small", "--to", "pt2", "--output", "net.pt2", cwd=work)
    assert done.returncode == 0
    assert "the same class as the checkpoint on all 1,000 test images" in done.stdout
    assert (work / "net.pt2.certificate.txt").read_text() == done.stdout
    noted = list(JournalReader(work / "checkpoints" / "small" / "journal.jsonl").read())[-1]
    assert noted.command.use == "export"
    Image.fromarray(np.full((30, 40), 9, np.uint8)).save(work / "dark.png")
    with_run = in_process("predict", "small", "dark.png", "--json", cwd=work)
    (work / "checkpoints").rename(work / "elsewhere")
    alone = in_process("predict", "--from", "net.pt2", "dark.png", "--json", cwd=work)
    assert alone.returncode == 0
    one, other = json.loads(alone.stdout), json.loads(with_run.stdout)
    assert [item["class"] for item in one["top"]] == [item["class"] for item in other["top"]]
    data = (work / "net.pt2").read_bytes()
    (work / "net.pt2").write_bytes(data.replace(b'"mean":[0.1', b'"mean":[0.2'))
    refused = in_process("predict", "net.pt2", "dark.png", cwd=work)
    assert refused.returncode == 2 and refused.stdout == ""
    assert refused.stderr.startswith("finetui: net.pt2 has changed since it was exported")
    assert len(refused.stderr.splitlines()) == 1


def test_beside_the_checkpoint_by_default_and_as_json(in_process: Call, work: Path) -> None:
    done = in_process("export", "small", "--checkpoint", "last", "--to", "safetensors", "--json", cwd=work)
    found = json.loads(done.stdout)
    path = work / "checkpoints" / "small" / "last.safetensors"
    assert found == json.loads(json_path(path).read_bytes())
    assert found["checkpoint"].endswith("small/last.ckpt") and found["differing"] == []
    again = in_process("export", "small:last", "--to", "safetensors", cwd=work)
    assert again.returncode == 2 and "--force" in again.stderr
    nonsense = in_process("export", "small", "--to", "tflite", cwd=work)
    assert nonsense.returncode == 2


def test_a_file_that_says_otherwise_is_status_1_and_its_images_are_listed(
    in_process: Call, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened(path: Path, *, model: str = "lenet") -> Runner:
        found = open_export(path, model=model)

        def run(pixels: Any) -> Any:
            logits, probabilities = found.run(pixels)
            return np.roll(logits, 1, 1), np.roll(probabilities, 1, 1)

        return Runner(found.description, run)

    monkeypatch.setattr(exporting, "open_export", opened)
    done = in_process("export", "small", "--to", "pt2", cwd=work)
    assert done.returncode == 1
    assert "ANOTHER CLASS than the checkpoint on 1,000 of 1,000 test images" in done.stdout
    command = done.stdout.splitlines()[-1].partition("finetui ")[2].split()
    listed = in_process(*command, "--limit", "3", cwd=work)
    assert listed.returncode == 0, listed.stderr
    assert "1,000 listed, showing 3" in listed.stdout
