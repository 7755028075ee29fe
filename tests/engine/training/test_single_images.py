"""Batch normalisation cannot train on one image: a batch that shrinks to one is passed over, wherever it comes."""

import pytest
import torch
from small_trainer import Small
from torch import nn

from finetui.engine.data import ImageData, ResidentSplit, epoch_order
from finetui.engine.models import module_groups
from finetui.engine.protocol.config import TrainingConfig
from finetui.engine.protocol.events import Log
from finetui.engine.session.session import Session
from finetui.engine.training.lr_finder import find_learning_rate
from finetui.engine.training.trainer import Trainer

# In the first epoch, each in a batch of its own, and not the last.
UNREADABLE = epoch_order(30, 0, 0)[[0, 7, 12]].tolist()


class Features(nn.Module):
    """Normalises a vector of features, as heads do."""

    def __init__(self, norm: bool = True) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 8))
        self.norm = nn.BatchNorm1d(8) if norm else nn.Identity()
        self.head = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.norm(self.body(x)))


def split(count: int, *unreadable: int) -> ResidentSplit:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 1, 8, 8), dtype=torch.uint8, generator=generator)
    labels = torch.arange(count) % 3
    return ResidentSplit(images, labels, (0.5,), (0.5,), unreadable=dict.fromkeys(unreadable, "truncated"))


@pytest.mark.parametrize(("make", "passed_over"), [(Features, 3), (Small, 3), (lambda: Features(norm=False), 0)])
def test_a_batch_of_one_in_the_middle_of_an_epoch(make, passed_over: int) -> None:
    data = split(30, *UNREADABLE)
    steps: list[int] = []
    model = make()
    training = TrainingConfig(batch_size=2, epochs=1, schedule="constant", optimizer="sgd")
    trainer = Trainer(model, module_groups(model), data, training, lambda step, _loss: steps.append(step))
    sizes = [len(labels) for _, labels in trainer.batches(0, 0)]
    assert sorted(sizes)[:4] == [1, 1, 1, 2]  # each unreadable image in a batch of its own
    assert sizes[-1] == 2  # not the last one
    for _ in range(trainer.steps_per_epoch):
        trainer.train_step()
    assert (trainer.step, trainer.left_out, len(steps)) == (15, passed_over, 15 - passed_over)
    rates, _ = find_learning_rate(trainer, progress=lambda *_: None, stopped=lambda: False)
    assert rates


def test_it_is_told_once(make_config, recorder) -> None:
    data = ImageData(
        name="own", requested="own", classes=("a", "b", "c"), train=split(30, *UNREADABLE), test=split(6), mean=(0.5,),
        std=(0.5,), channels=1, height=8, width=8, location="", notices=(),
    )  # fmt: skip
    config = make_config(epochs=3, batch_size=2)
    outcome = Session(config, model=Features(), data=data, sinks=[recorder]).run()
    assert outcome.state == "finished"
    assert len([log for log in recorder.of(Log) if "batch normalization needs two" in log.message]) == 1
