"""Small runs for several ranks: 310 of the bundled digits to train on, 90 to evaluate, seven batches an epoch."""

from pathlib import Path
from typing import Any

import torch

from finetui.engine.checkpoints import checkpoint
from finetui.engine.data import ImageData, from_datasets
from finetui.engine.data.load import load
from finetui.engine.distributed.ranks import Ranks
from finetui.engine.protocol.config import DataConfig, RunConfig, RunSection, TrainingConfig
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.journal import JournalReader
from finetui.engine.session.session import Session

STEPS = 7  # an epoch's: of 46 images, which 4 ranks cannot share alike, and the last of 34


class Digits(torch.utils.data.Dataset[Any]):
    """Some of the digits, one by one."""

    def __init__(self, part: str, count: int) -> None:
        data = load(DataConfig(name="mnist-sample"), torch.device("cpu")).part(part)
        self.items = [(data.item(index), int(data.labels[index])) for index in range(count)]
        self.classes = [str(digit) for digit in range(10)]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.items[index]


class RankedRuns:
    """Trains in `path`, on data that is read once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._train, self._test = Digits("train", 310), Digits("test", 90)

    def data(self, **reading: Any) -> ImageData:
        request = DataConfig(**({"loader": "resident"} | reading))
        return from_datasets(self._train, self._test, torch.device("cpu"), request=request, name="digits")

    def config(self, name: str, augment: str = "none", **training: Any) -> RunConfig:
        settings = {"batch_size": 46, "lr": 0.02, "optimizer": "sgd", "schedule": "constant", "device": "cpu"}
        section = RunSection(name=name, runs_dir=str(self.path))
        # Not finetui's rule, which counts threads: all processes here have one.
        return RunConfig(
            data=DataConfig(augment=augment), training=TrainingConfig(**(settings | training)), run=section
        )

    def train(self, ranks: Ranks, config: RunConfig, *, loader: str = "resident", **session: Any) -> RunFolder:
        """Run a session; return its folder."""
        workers = 1 if loader == "stream" else 2
        folder = Session(config, ranks=ranks, data=self.data(loader=loader, workers=workers), **session).run().folder
        assert folder is not None
        return folder

    def folder(self, name: str) -> RunFolder:
        return RunFolder(self.path / name)

    def weights(self, name: str, kept: str = "last") -> dict[str, torch.Tensor]:
        return checkpoint.load(self.folder(name).checkpoint(kept))[1]

    def told(self, name: str, *kinds: type) -> list[Any]:
        return [event for event in JournalReader(self.folder(name).journal).read() if isinstance(event, kinds)]
