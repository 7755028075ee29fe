"""PyTorch Lightning with its rich progress bar, as its own "in 15 minutes" tutorial writes it."""

import tempfile
import time
import warnings

import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import RichProgressBar
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torchvision import datasets

from benchmarks.loops import LR, MOMENTUM
from benchmarks.loops.article import TRANSFORM
from benchmarks.loops.net import Net


class _Lit(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = Net()

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], _index: int) -> torch.Tensor:
        inputs, labels = batch
        loss = F.cross_entropy(self.net(inputs), labels)
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=LR, momentum=MOMENTUM)


class _Clock(Callback):
    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_train_epoch_start(self, *_: object) -> None:
        self._started = time.perf_counter()

    def on_train_epoch_end(self, *_: object) -> None:
        self.seconds.append(time.perf_counter() - self._started)


def train(data_dir: str, batch_size: int, epochs: int) -> list[float]:
    """Return the seconds of each epoch."""
    warnings.filterwarnings("ignore")
    seed_everything(0, verbose=False)
    loader = DataLoader(datasets.MNIST(data_dir, train=True, transform=TRANSFORM), batch_size, shuffle=True)
    clock = _Clock()
    with tempfile.TemporaryDirectory() as folder:
        bar = RichProgressBar()
        trainer = Trainer(max_epochs=epochs, accelerator="cpu", default_root_dir=folder, callbacks=[bar, clock])
        trainer.fit(_Lit(), loader)
    return clock.seconds
