"""Balanced class weights: a class without images weighs nothing, and all others what scikit-learn says."""

import msgspec
import pytest
import torch
from small_trainer import Small
from torch import nn

from finetui.engine.data import ResidentSplit, from_datasets
from finetui.engine.models import module_groups
from finetui.engine.protocol.config import TrainingConfig
from finetui.engine.protocol.events import RunPrepared
from finetui.engine.session.session import Session
from finetui.engine.training.trainer import Trainer


def trainer(labels: torch.Tensor, classes: int, smoothing: float) -> Trainer:
    data = ResidentSplit(torch.zeros(len(labels), 1, 8, 8, dtype=torch.uint8), labels, (0.5,), (0.5,))
    model = Small()
    settings = TrainingConfig(batch_size=8, class_weights="balanced", label_smoothing=smoothing)
    return Trainer(model, module_groups(model), data, settings, classes=classes)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("empty", [0, 2, 4])
def test_an_empty_class_takes_no_part_in_the_loss(smoothing: float, empty: int) -> None:
    """The loss is that of the other classes alone, but for the share of smoothing that nobody gets."""
    others = [number for number in range(5) if number != empty]
    labels = torch.tensor([others[index % 4] for index in range(32)] + [others[0]] * 8)
    logits = torch.randn(40, 5, generator=torch.Generator().manual_seed(0), requires_grad=True)
    loss = trainer(labels, 5, smoothing).forward.loss(logits, labels)
    counts = torch.bincount(labels, minlength=5)
    weights = torch.where(counts > 0, 40 / (5 * counts.clamp(min=1)), 0.0)
    log = logits.log_softmax(1)
    hit = -(log.gather(1, labels[:, None])[:, 0] * weights[labels]).sum()
    spread = -(log[:, others] * weights[others]).sum() / 5
    expected = ((1 - smoothing) * hit + smoothing * spread) / weights[labels].sum()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    loss.backward()
    assert (logits.grad[:, empty] > 0).all()  # nothing pulls the network towards it


def test_where_every_class_has_images_it_is_torchs_own_loss_bit_for_bit() -> None:
    labels = torch.arange(40) % 3
    labels[:8] = 0
    logits = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    weights = 40 / (3 * torch.bincount(labels))
    expected = nn.CrossEntropyLoss(weight=weights, label_smoothing=0.1)(logits, labels)
    assert torch.equal(trainer(labels, 3, 0.1).forward.loss(logits, labels), expected)


class CountedFromOne(torch.utils.data.Dataset):
    """Stripes, of which the class is the place; class 0 has none."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        image = torch.zeros(1, 28, 28)
        image[0, :, 7 * (index % 3) : 7 * (index % 3) + 7] = 1
        return image, index % 3 + 1


def test_labels_counted_from_one_train_and_are_told(make_config, recorder) -> None:
    data = from_datasets(CountedFromOne(90), CountedFromOne(12), torch.device("cpu"))
    config = make_config(epochs=8, batch_size=6, lr=0.05, momentum=0.9)
    training = msgspec.structs.replace(config.training, class_weights="balanced", label_smoothing=0.1)
    outcome = Session(msgspec.structs.replace(config, training=training), data=data, sinks=[recorder]).run()
    assert outcome.report.accuracy == 1.0
    (prepared,) = recorder.of(RunPrepared)
    assert "class 0 has no training images, and no weight in the loss" in prepared.notices
