"""fastai's Learner over DataLoaders made from PyTorch's, with its progress bar, as its migration tutorial writes it."""

import time

from fastai.callback.core import Callback
from fastai.data.core import DataLoaders
from fastai.learner import Learner
from fastai.optimizer import OptimWrapper
from torch import nn, optim
from torch.utils.data import DataLoader
from torchvision import datasets

from benchmarks.loops import LR, MOMENTUM
from benchmarks.loops.article import TRANSFORM
from benchmarks.loops.net import Net


class _Clock(Callback):
    def __init__(self) -> None:
        self.seconds: list[float] = []

    def before_train(self) -> None:
        self._started = time.perf_counter()

    def after_train(self) -> None:
        self.seconds.append(time.perf_counter() - self._started)


def train(data_dir: str, batch_size: int, epochs: int) -> list[float]:
    """Return the seconds of each epoch."""
    data = datasets.MNIST(data_dir, train=True, transform=TRANSFORM)
    test = datasets.MNIST(data_dir, train=False, transform=TRANSFORM)
    loaders = DataLoaders(DataLoader(data, batch_size, shuffle=True), DataLoader(test, 1000))
    clock = _Clock()

    def sgd(parameters: object, lr: float, **_: object) -> OptimWrapper:
        return OptimWrapper(parameters, optim.SGD, lr=lr, momentum=MOMENTUM)

    learner = Learner(loaders, Net(), loss_func=nn.CrossEntropyLoss(), opt_func=sgd, lr=LR, cbs=[clock])
    learner.fit(epochs)
    return clock.seconds
