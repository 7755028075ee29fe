"""Training steps of one run in one process and in two, one thread each: finetui's, and DistributedDataParallel by hand.

`torchrun --nproc-per-node 2 -m benchmarks.ranks hand lenet --data-dir DATA` measures one, and prints it as JSON.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from itertools import pairwise

import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torchvision import datasets
from torchvision.models import resnet18

from benchmarks.loops import LR, MEAN, MOMENTUM, STD
from benchmarks.loops.net import Net
from benchmarks.measuring import Options, in_turn, python, table
from finetui.engine.protocol.commands import Stop
from finetui.engine.protocol.config import DataConfig, RunConfig, RunSection, TrainingConfig
from finetui.engine.protocol.queues import CommandQueue
from finetui.engine.session.session import Session

NETWORKS = {"lenet": (128, 400), "resnet18": (64, 24)}  # images in a step, of all processes; steps
_UNMEASURED = 0.25  # of the steps, at first
_WORLDS = (1, 2)
_SETTINGS = {
    "optimizer": "sgd",
    "lr": LR,
    "momentum": MOMENTUM,
    "weight_decay": 0.0,
    "schedule": "constant",
    "device": "cpu",
}
_ONE_THREAD = {"OMP_NUM_THREADS": "1"}


def run(options: Options) -> str:
    """Measure, and return a table."""
    os.environ.update(_ONE_THREAD)
    rows = []
    for network, (batch, _) in NETWORKS.items():
        contenders = {
            f"{name}, {world}": lambda name=name, world=world, network=network: _step(name, world, network, options)
            for world in _WORLDS
            for name in ("hand", "finetui")
        }
        found = in_turn(contenders, options.rounds)
        for world in _WORLDS:
            hand, ours = (statistics.median(found[f"{name}, {world}"]) for name in ("hand", "finetui"))
            figures = f"{batch / hand:,.0f}", f"{batch / ours:,.0f}", f"{hand / ours:.2f} x"
            rows.append([f"{network}, batches of {batch}", str(world), *figures])
    head = ["MNIST", "processes", "by hand, images/s", "finetui, images/s", "as fast as by hand"]
    return table(head, rows)


def _step(name: str, world: int, network: str, options: Options) -> float:
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(world))
    printed = python(*torchrun, "-m", "benchmarks.ranks", name, network, "--data-dir", options.data_dir)
    return float(json.loads(next(line for line in printed.splitlines() if line.startswith("{")))["seconds"])


def made(network: str) -> nn.Module:
    """Return the network `network` for images `[B, 1, 28, 28]`."""
    torch.manual_seed(0)
    if network == "lenet":
        return Net()
    net = resnet18(num_classes=10)
    net.conv1 = nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
    return net


def by_hand(network: str, data_dir: str) -> float:
    """Return the median seconds of a step of somebody who knows how, with DistributedDataParallel."""
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    mnist = datasets.MNIST(data_dir, train=True)
    images, labels = mnist.data[:, None].float().div_(255).sub_(MEAN).div_(STD), mnist.targets
    net = made(network)
    parallel = DistributedDataParallel(net) if world > 1 else net
    optimizer = torch.optim.SGD(net.parameters(), lr=LR, momentum=MOMENTUM)
    batch, steps = NETWORKS[network]
    seconds, running = [], torch.zeros(())
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    for indices in order[: batch * steps].split(batch):
        started = time.perf_counter()
        own = indices[rank::world]
        optimizer.zero_grad()
        loss = F.cross_entropy(parallel(images[own]), labels[own])
        loss.backward()
        optimizer.step()
        running += loss.detach()
        seconds.append(time.perf_counter() - started)
    dist.destroy_process_group()
    return statistics.median(seconds[int(_UNMEASURED * steps) :])


def ours(network: str, data_dir: str) -> float:
    """Return the median seconds of a step of finetui's; what happens between two steps counts."""
    batch, steps = NETWORKS[network]
    commands, at = CommandQueue(), []

    def on_step(step: int, _loss: torch.Tensor) -> None:
        at.append(time.perf_counter())
        if step == steps:
            commands.put(Stop())

    with tempfile.TemporaryDirectory(prefix="ranks-") as folder:
        config = RunConfig(
            data=DataConfig(name="mnist", dir=data_dir),
            training=TrainingConfig(epochs=1, batch_size=batch, **_SETTINGS),
            run=RunSection(runs_dir=folder),
        )
        Session(config, commands=commands, on_step=on_step, model=made(network)).run()
    between = [after - before for before, after in pairwise(at)]
    return statistics.median(between[int(_UNMEASURED * steps) :])


def main() -> None:
    """Measure what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=("hand", "finetui"))
    parser.add_argument("network", choices=NETWORKS)
    parser.add_argument("--data-dir", required=True)
    given = parser.parse_args()
    seconds = {"hand": by_hand, "finetui": ours}[given.name](given.network, given.data_dir)
    if os.environ["RANK"] == "0":
        print(json.dumps({"seconds": seconds}))


if __name__ == "__main__":
    main()
