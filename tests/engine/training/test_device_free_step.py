"""What a step asks of its device: on torch's device `meta` nothing can be read, so whatever would wait for it fails."""

from collections.abc import Iterator

import pytest
import torch
from small_trainer import Small
from torch import Tensor, nn

from finetui.engine.data import InputTransform, Transform
from finetui.engine.models import module_groups
from finetui.engine.protocol.config import TrainingConfig
from finetui.engine.protocol.values import FastPath
from finetui.engine.training.trainer import Trainer


class MetaSplit:
    """64 images of 8x8 pixels on the device `meta`."""

    draws = False
    labels = torch.arange(64) % 3

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, order: Tensor, batch_size: int, *_: object) -> Iterator[tuple[Tensor, Tensor]]:
        finish = InputTransform(Transform(mean=(0.5,), std=(0.5,), height=9, width=9), torch.device("meta"))
        for indices in order.split(batch_size):
            pixels = torch.zeros(len(indices), 1, 8, 8, dtype=torch.uint8, device="meta")
            yield finish(pixels, None)[:, :, :8, :8], torch.zeros(len(indices), dtype=torch.int64, device="meta")


def trainer(**settings: object) -> Trainer:
    model: nn.Module = Small().to("meta")
    path = FastPath(channels_last=True)
    training = TrainingConfig(**{"batch_size": 7, "lr": 0.01, "epochs": 9, **settings})
    return Trainer(model, module_groups(model), MetaSplit(), training, path=path, classes=3)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_no_step_waits_for_its_device(optimizer: str) -> None:
    training = trainer(optimizer=optimizer, class_weights="balanced", label_smoothing=0.1)
    for step in range(40):
        if step == 13:
            training.set_frozen(["stem"], frozen=True)
        if step == 21:
            training.set_frozen(["stem"], frozen=False)  # with a warm-up, so that the groups have rates of their own
        training.train_step()
        if training.epoch_complete:
            training.end_epoch()
    assert training.step == 40
    with pytest.raises(RuntimeError, match="meta"):
        training.take_point()  # which waits: this is how the steps above would have failed
