"""--gpus and --nproc, and what processes that a launcher has started may not be asked."""

import sys
from pathlib import Path

import pytest
from fake_nvml import FakeNvml

from finetui.engine.errors import BadInput
from finetui.engine.protocol.config import RunConfig
from finetui.tui.cli.options import ChangedSettings, RunMode, RunOptions
from finetui.tui.cli.start import start


def test_processes_are_a_setting_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(4))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert RunOptions().to_config().training.processes == 1
    training = RunOptions(nproc=2, device="cpu").to_config().training
    assert (training.processes, training.device) == (2, "cpu")
    training = RunOptions(gpus="all").to_config().training
    assert (training.processes, training.device) == (4, "cuda")
    assert ChangedSettings(nproc=3).changes() == {("training", "processes"): 3}
    assert ChangedSettings(gpus="2").changes() == {("training", "processes"): 2, ("training", "device"): "cuda"}
    assert ChangedSettings().changes() == {}


@pytest.mark.parametrize("other", [{"nproc": 2}, {"device": "cpu"}, {"device": "cuda:1"}])
def test_gpus_and_another_place_are_refused(other: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(4))
    with pytest.raises(BadInput, match=f"--gpus says .* --{next(iter(other))};"):
        RunOptions(gpus="all", **other).to_config()


@pytest.mark.parametrize("mode", [RunMode(dashboard=True), RunMode(detach=True)])
def test_a_rank_has_no_dashboard_and_no_background(mode: RunMode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(BadInput, match="finetui attach"):
        start(RunConfig(), mode)


def test_ranks_that_cannot_be_are_refused_in_a_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(BadInput, match="torchrun"):
        start(RunConfig(), RunMode())
