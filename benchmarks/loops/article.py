"""The tutorial's own loop: a DataLoader, transforms for each image, a loss printed every hundred steps."""

import time

import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from benchmarks.loops import LR, MEAN, MOMENTUM, STD
from benchmarks.loops.net import Net

TRANSFORM = transforms.Compose([transforms.ToTensor(), transforms.Normalize((MEAN,), (STD,))])


def train(data_dir: str, batch_size: int, epochs: int) -> list[float]:
    """Return the seconds of each epoch."""
    loader = DataLoader(datasets.MNIST(data_dir, train=True, transform=TRANSFORM), batch_size, shuffle=True)
    net, criterion = Net(), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=LR, momentum=MOMENTUM)
    seconds = []
    for _ in range(epochs):
        started = time.perf_counter()
        epoch(net, loader, criterion, optimizer)
        seconds.append(time.perf_counter() - started)
    return seconds


def epoch(net: nn.Module, loader: DataLoader, criterion: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Train for an epoch."""
    running = 0.0
    for inputs, labels in loader:
        optimizer.zero_grad()
        loss = criterion(net(inputs), labels)
        loss.backward()
        optimizer.step()
        running += loss.item()
