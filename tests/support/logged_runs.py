"""Runs that are logged: configured, cut, rolled back, and what their CSV files hold."""

import csv
from pathlib import Path

import msgspec
import pytest
import torch
from steered import at

from finetui.engine.protocol.commands import RollBack, Save, SetFrozen, SetLearningRate
from finetui.engine.protocol.config import CheckpointsConfig, RunConfig
from finetui.engine.protocol.config_file import load
from finetui.engine.runs.folder import RunFolder
from finetui.engine.session.session import Session


def logged(config: RunConfig, *names: str) -> RunConfig:
    """Return `config` with these logs, and a checkpoint every ten steps."""
    return msgspec.structs.replace(
        config,
        run=msgspec.structs.replace(config.run, log=names),
        checkpoints=CheckpointsConfig(every_steps=10, every_minutes=0),
    )


def run_steered(config: RunConfig, *sinks) -> RunFolder:
    """Train with a layer frozen at step 5 and another rate at step 8."""
    script = at((5, SetFrozen(groups=("conv1",), frozen=True)), (8, SetLearningRate(value=0.005)))
    folder = Session(config, sinks=sinks, script=script).run().folder
    assert folder is not None
    return folder


def run_cut_and_resumed(config: RunConfig, *sinks) -> RunFolder:
    """Have a run fail at step 25, and go on from its checkpoint of step 20."""

    def fail(step: int, _loss: torch.Tensor) -> None:
        if step == 25:
            raise RuntimeError("cut")

    first = Session(config, on_step=fail)
    with pytest.raises(RuntimeError, match="cut"):
        first.run()
    assert first.folder is not None
    Session(load(first.folder.config), resume=first.folder, sinks=sinks).run()
    return first.folder


def run_rolled_back(config: RunConfig, *sinks) -> RunFolder:
    """Save at step 10, and go back there from step 25, to go on with a tenth of the rate."""
    script = at((10, Save(name="early")), (25, RollBack(checkpoint="early", rate_factor=0.1)))
    folder = Session(config, sinks=sinks, script=script).run().folder
    assert folder is not None
    return folder


def rows(folder: RunFolder, name: str) -> list[dict[str, str]]:
    """Return the rows of one of the run's CSV files."""
    with (Path(folder.path) / "csv" / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def steps(folder: RunFolder, name: str = "train") -> list[int]:
    """Return the steps of one of the run's CSV files."""
    return [int(row["step"]) for row in rows(folder, name)]
