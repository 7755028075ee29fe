"""A small network with all that can be frozen, and a trainer for it."""

import torch
from torch import nn

from finetui.engine.data import ResidentSplit
from finetui.engine.models import module_groups
from finetui.engine.protocol.config import TrainingConfig
from finetui.engine.training.trainer import Trainer


class Small(nn.Module):
    """A network with everything that can move while it should not: batch norm, dropout, biases."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5))
        self.body = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.neck = nn.Conv2d(4, 4, 1)
        self.head = nn.Linear(4 * 4 * 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.neck(self.body(self.stem(x))).flatten(1))


def make_trainer(
    plan: tuple = (), always_frozen: tuple = (), model: nn.Module | None = None, **training: object
) -> Trainer:
    torch.manual_seed(0)
    images = torch.randint(0, 256, (64, 1, 8, 8), dtype=torch.uint8)
    data = ResidentSplit(images, torch.randint(0, 3, (64,)), (0.5,), (0.5,))
    model = model or Small()
    settings = {"batch_size": 8, "lr": 0.05, "momentum": 0.9, "weight_decay": 0.01, "thaw_warmup_steps": 5}
    settings = settings | {"optimizer": "sgd", "schedule": "constant"} | training
    return Trainer(
        model, module_groups(model), data, TrainingConfig(**settings), plan=plan, always_frozen=always_frozen
    )


def take(trainer: Trainer, steps: int) -> None:
    for _ in range(steps):
        trainer.train_step()
        if trainer.position == trainer.steps_per_epoch:
            trainer.end_epoch()
