"""Freezing, by the one thing that counts: the bits of what is frozen."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from engine.config import TrainingConfig
from engine.data import ResidentSplit
from engine.errors import BadInput
from engine.models import module_groups
from engine.training.trainer import Trainer


class Small(nn.Module):
    """A network with everything that can move while it should not: batch norm, dropout, biases."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5))
        self.body = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.head = nn.Linear(4 * 4 * 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(self.stem(x)).flatten(1))


def make_trainer(**training: object) -> Trainer:
    torch.manual_seed(0)
    images = torch.randint(0, 256, (64, 1, 8, 8), dtype=torch.uint8)
    data = ResidentSplit(images, torch.randint(0, 3, (64,)), (0.5,), (0.5,))
    model = Small()
    settings = {"batch_size": 8, "lr": 0.05, "momentum": 0.9, "weight_decay": 0.01, "thaw_warmup_steps": 5} | training
    return Trainer(model, module_groups(model), data, TrainingConfig(**settings))


def bits(trainer: Trainer, group: str) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in trainer.model.state_dict().items() if name.startswith(group + ".")}


def take(trainer: Trainer, steps: int) -> None:
    for _ in range(steps):
        trainer.train_step()
        if trainer.position == trainer.steps_per_epoch:
            trainer.end_epoch()


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


def test_a_frozen_group_keeps_its_bits_statistics_included() -> None:
    trainer = make_trainer()
    take(trainer, 5)  # momentum has built up, and would go on moving a tensor with a zero gradient
    trainer.set_frozen(["stem"], frozen=True)
    stem, head = bits(trainer, "stem"), bits(trainer, "head")
    take(trainer, 20)
    assert same(stem, bits(trainer, "stem"))
    assert not same(head, bits(trainer, "head"))


def test_a_frozen_group_has_no_gradient_and_no_optimizer_state() -> None:
    trainer = make_trainer()
    take(trainer, 3)
    trainer.set_frozen(["body"], frozen=True)
    take(trainer, 2)
    for parameter in trainer.model.body.parameters():
        assert parameter.grad is None
        assert not trainer.optimizer.state.get(parameter)
    assert trainer.state_dict()["optimizer"].keys() == {
        "stem.0.weight", "stem.0.bias", "stem.1.weight", "stem.1.bias", "head.weight", "head.bias"
    }  # fmt: skip


def test_frozen_modules_are_in_eval_mode_also_after_an_evaluation() -> None:
    trainer = make_trainer()
    trainer.set_frozen(["stem"], frozen=True)
    trainer.model.eval()
    trainer.freezer.train_mode()
    assert not any(module.training for module in trainer.model.stem.modules())
    assert all(module.training for module in trainer.model.body.modules())


def test_an_unfrozen_group_starts_afresh_and_warms_up() -> None:
    trainer = make_trainer()
    take(trainer, 5)
    trainer.set_frozen(["stem"], frozen=True)
    take(trainer, 5)
    trainer.set_frozen(["stem"], frozen=False)
    assert not trainer.optimizer.state.get(trainer.model.stem[0].weight)
    take(trainer, 1)
    rates = {group["group"]: group["lr"] for group in trainer.optimizer.param_groups}
    assert rates == pytest.approx({"stem": 0.01, "body": 0.05, "head": 0.05})
    take(trainer, 5)
    assert {group["lr"] for group in trainer.optimizer.param_groups} == {0.05}


def test_biases_and_norms_get_no_weight_decay() -> None:
    trainer = make_trainer()
    for group in trainer.optimizer.param_groups:
        assert {p.ndim > 1 for p in group["params"]} == {group["weight_decay"] > 0}


def test_nothing_is_changed_by_a_refused_freeze() -> None:
    trainer = make_trainer()
    for names, says in ((["stem", "body", "head"], "at least one"), (["stem", "nose"], "no layer group 'nose'")):
        with pytest.raises(BadInput, match=says):
            trainer.set_frozen(names, frozen=True)
        assert trainer.freezer.frozen == frozenset()
        assert all(parameter.requires_grad for parameter in trainer.model.parameters())


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.sets(st.sampled_from(["stem", "body", "head"]), min_size=1), st.booleans(), st.integers(1, 4)),
        min_size=1,
        max_size=12,
    )
)
def test_any_toggles_at_any_step(toggles: list[tuple[set[str], bool, int]]) -> None:
    trainer = make_trainer()
    for names, frozen, steps in toggles:
        if frozen and trainer.freezer.frozen | names == {"stem", "body", "head"}:
            with pytest.raises(BadInput):
                trainer.set_frozen(sorted(names), frozen)
        else:
            trainer.set_frozen(sorted(names), frozen)
        before = {name: bits(trainer, name) for name in trainer.freezer.frozen}
        take(trainer, steps)
        assert all(same(before[name], bits(trainer, name)) for name in before)
    point = trainer.take_point()
    assert point is not None
