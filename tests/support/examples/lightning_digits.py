"""Classify digits with Lightning: a data module, a module with torchmetrics and a scheduler, a Trainer, its test."""

import sys

import lightning.pytorch as pl
import torch
from digits import DigitNet, Digits
from torch.nn import functional as F
from torch.utils.data import DataLoader, random_split
from torchmetrics.classification import MulticlassAccuracy

import finetui


class DigitData(pl.LightningDataModule):
    def setup(self, stage: str) -> None:
        everything = Digits("train", 1000)
        self.train, self.val = random_split(everything, [900, 100], torch.Generator().manual_seed(1))
        self.test = Digits("t10k", 200)

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.train, batch_size=32, shuffle=True)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(self.val, batch_size=64)

    def test_dataloader(self) -> DataLoader:
        return DataLoader(self.test, batch_size=64)


class Classifier(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.network = DigitNet()
        self.accuracy = MulticlassAccuracy(10, average="micro")

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.network(images)

    def training_step(self, batch: tuple, _index: int) -> torch.Tensor:
        loss = F.cross_entropy(self(batch[0]), batch[1])
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: tuple, _index: int) -> None:
        self.accuracy(self(batch[0]), batch[1])
        self.log("val_acc", self.accuracy)

    def test_step(self, batch: tuple, _index: int) -> None:
        self.accuracy(self(batch[0]), batch[1])
        self.log("test_acc", self.accuracy)

    def configure_optimizers(self) -> dict:
        optimizer = torch.optim.Adam(self.parameters(), lr=0.002)
        return {"optimizer": optimizer, "lr_scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.99)}


if __name__ == "__main__":
    pl.seed_everything(1)
    model, data = Classifier(), DigitData()
    trainer = pl.Trainer(
        max_epochs=10_000, accelerator="cpu", enable_progress_bar=False, default_root_dir=sys.argv[1] + "/lightning",
        callbacks=[finetui.LightningCallback(runs_dir=sys.argv[1] + "/runs")],
    )  # fmt: skip
    trainer.fit(model, datamodule=data)
    trainer.test(model, datamodule=data)
