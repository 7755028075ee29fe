"""Scores, predictions and temperatures are computed by the rules that a training is: the same bits each time."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from finetui.engine.export.classify import classify
from finetui.engine.inspection.calibrate import calibrate
from finetui.engine.inspection.opened_checkpoint import evaluate_checkpoint
from finetui.engine.protocol.config import DataConfig, RunConfig, RunSection, TrainingConfig
from finetui.engine.session.session import Session


def test_whatever_computes_with_a_checkpoint_does_it_by_rule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = RunConfig(
        data=DataConfig(name="mnist-sample", val=0.2),
        run=RunSection(name="one", runs_dir=str(tmp_path)),
        training=TrainingConfig(epochs=1, batch_size=128, device="cpu"),
    )
    folder = Session(config).run().folder
    assert folder is not None
    Image.new("L", (28, 28), 90).save(tmp_path / "a.png")
    seen: list[bool] = []
    forward = torch.nn.Conv2d.forward

    def noting(self: torch.nn.Conv2d, inputs: torch.Tensor) -> torch.Tensor:
        seen.append(torch.backends.cudnn.deterministic)
        return forward(self, inputs)

    monkeypatch.setattr(torch.nn.Conv2d, "forward", noting)
    before = torch.backends.cudnn.deterministic
    assert not before
    for compute in (
        lambda: evaluate_checkpoint(folder.best, device="cpu"),
        lambda: calibrate(folder.best, device="cpu"),
        lambda: list(classify(folder.best, [tmp_path / "a.png"], device="cpu")),
    ):
        seen.clear()
        compute()
        assert seen and all(seen)
        assert torch.backends.cudnn.deterministic == before
