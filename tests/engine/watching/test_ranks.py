"""A loop of several processes: the first one records it, and all of them do what a dashboard wants."""

import os
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from forked_ranks import on_ranks
from own_loop import OwnNet, images_and_labels, journal_of
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.distributed import DistributedSampler

import finetui
from finetui.engine.distributed.ranks import Ranks
from finetui.engine.protocol import commands, events
from finetui.engine.runs.folder import RunFolder


def train(runs_dir: Path) -> dict[str, Any]:
    """Train as people do under torchrun; rank 0 is told to freeze, to slow down, and to stop, at steps of its own."""
    dist.init_process_group("gloo")
    torch.manual_seed(0)
    data = TensorDataset(*images_and_labels())
    loader = DataLoader(data, 8, sampler=DistributedSampler(data, shuffle=False))
    net = DistributedDataParallel(OwnNet())
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    steps = 0
    seen: dict[str, Any] = {}
    with finetui.watch(net, optimizer, runs_dir=runs_dir, name="own", epochs=100) as run:
        tell = run._loop.record.commands.put if os.environ["RANK"] == "0" else lambda _command: None
        for _ in range(100):
            for images, labels in run.steps(loader):
                optimizer.zero_grad()
                loss = F.cross_entropy(net(images), labels)
                loss.backward()
                optimizer.step()
                run.log(loss=loss)
                steps += 1
                if steps == 3:
                    tell(commands.SetFrozen(groups=("block1.0",), frozen=True))
                    tell(commands.SetLearningRate(value=0.0, factor=0.5))
                    seen["before"] = net.module.block1[0].weight.detach().clone()
                if steps == 6:
                    seen["after"] = net.module.block1[0].weight.detach().clone()
                if steps == 8:
                    tell(commands.Stop())
    weights = {name: value.clone() for name, value in net.module.state_dict().items() if "running" not in name}
    dist.destroy_process_group()
    return seen | {"steps": steps, "stopped": run.stopped, "weights": weights, "folder": run.folder}


def test_all_ranks_do_what_the_first_is_told(tmp_path: Path) -> None:
    def work(_ranks: Ranks) -> dict[str, Any]:
        return train(tmp_path / "runs")

    first, second = on_ranks(2, work, tmp_path)
    for rank in (first, second):
        assert (rank["steps"], rank["stopped"]) == (8, True)
        assert torch.equal(rank["before"], rank["after"])
    same = (torch.equal(first["weights"][name], second["weights"][name]) for name in first["weights"])
    assert all(same)
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["own"]
    told = journal_of(RunFolder(tmp_path / "runs" / "own"))
    assert next(event for event in told if isinstance(event, events.RunPrepared)).world == 2
    accepted = [type(event.command).__name__ for event in told if isinstance(event, events.CommandAccepted)]
    assert accepted == ["SetFrozen", "SetLearningRate", "Stop"]
    assert [event.state for event in told if isinstance(event, events.StateChanged)][-1] == "stopped"
