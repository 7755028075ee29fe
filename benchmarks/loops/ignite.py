"""PyTorch-Ignite with its progress bar, as its quick start writes it."""

import time

import torch
from ignite.contrib.handlers import ProgressBar
from ignite.engine import Engine, Events, create_supervised_trainer
from torch import nn
from torch.utils.data import DataLoader
from torchvision import datasets

from benchmarks.loops import LR, MOMENTUM
from benchmarks.loops.article import TRANSFORM
from benchmarks.loops.net import Net


def train(data_dir: str, batch_size: int, epochs: int) -> list[float]:
    """Return the seconds of each epoch."""
    loader = DataLoader(datasets.MNIST(data_dir, train=True, transform=TRANSFORM), batch_size, shuffle=True)
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=LR, momentum=MOMENTUM)
    trainer = create_supervised_trainer(net, optimizer, nn.CrossEntropyLoss())
    ProgressBar().attach(trainer, output_transform=lambda loss: {"loss": loss})
    seconds: list[float] = []

    @trainer.on(Events.EPOCH_STARTED)
    def _begin(_engine: Engine) -> None:
        seconds.append(time.perf_counter())

    @trainer.on(Events.EPOCH_COMPLETED)
    def _end(_engine: Engine) -> None:
        seconds.append(time.perf_counter() - seconds.pop())

    trainer.run(loader, max_epochs=epochs)
    return seconds
