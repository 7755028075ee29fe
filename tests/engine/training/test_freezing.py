"""Freezing, by the one thing that counts: the bits of what is frozen."""

import random

import pytest
import torch
from hypothesis import given, settings, strategies as st
from small_trainer import make_trainer, take
from torch import nn

from finetui.engine.data import epoch_order
from finetui.engine.errors import BadInput
from finetui.engine.protocol.config import SCHEDULES
from finetui.engine.training.class_balance import sampling_weights
from finetui.engine.training.epoch_steps import steps_per_epoch
from finetui.engine.training.recipes import Stage
from finetui.engine.training.trainer import Trainer


def bits(trainer: Trainer, group: str) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in trainer.model.state_dict().items() if name.startswith(group + ".")}


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
        "stem.0.weight", "stem.0.bias", "stem.1.weight", "stem.1.bias",
        "neck.weight", "neck.bias", "head.weight", "head.bias",
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
    rates = {p: group["lr"] for group in trainer.optimizer.param_groups for p in group["params"]}
    for name, parameter in trainer.model.named_parameters():
        assert rates[parameter] == pytest.approx(0.01 if name.startswith("stem.") else 0.05), name
    take(trainer, 5)
    assert {group["lr"] for group in trainer.optimizer.param_groups} == {0.05}


def test_biases_and_norms_get_no_weight_decay() -> None:
    trainer = make_trainer()
    for group in trainer.optimizer.param_groups:
        assert {p.ndim > 1 for p in group["params"]} == {group["weight_decay"] > 0}


def test_nothing_is_changed_by_a_refused_freeze() -> None:
    trainer = make_trainer()
    refused = ((["stem", "body", "neck", "head"], "at least one"), (["stem", "nose"], "no layer group or layer 'nose'"))
    for names, says in refused:
        with pytest.raises(BadInput, match=says):
            trainer.set_frozen(names, frozen=True)
        assert trainer.freezer.frozen == frozenset()
        assert all(parameter.requires_grad for parameter in trainer.model.parameters())


def test_a_single_layer_freezes_and_its_group_is_told_partly_frozen() -> None:
    trainer = make_trainer()
    take(trainer, 3)
    trainer.set_frozen([], frozen=True, layers=["stem.1"])
    norm, conv = bits(trainer, "stem.1"), bits(trainer, "stem.0")
    take(trainer, 3)
    assert same(norm, bits(trainer, "stem.1"))
    assert not same(conv, bits(trainer, "stem.0"))
    stem = trainer.freezer.table()[0]
    assert (stem.frozen, stem.trainable, stem.parameters, stem.norm) == (False, 40, 48, "running")
    assert [layer.frozen for layer in stem.layers] == [False, True]
    # Dropout in a group that still trains stays on; once all of it is frozen, it is off.
    assert trainer.model.stem[3].training
    trainer.set_frozen([], frozen=True, layers=["stem.0"])
    assert trainer.freezer.table()[0].frozen
    assert not trainer.model.stem[3].training


def test_one_switch_lets_frozen_normalisation_collect_statistics() -> None:
    trainer = make_trainer(frozen_norm_trains=True)
    trainer.set_frozen(["stem"], frozen=True)
    before = bits(trainer, "stem")
    take(trainer, 3)
    after = bits(trainer, "stem")
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"stem.1.running_mean", "stem.1.running_var", "stem.1.num_batches_tracked"}
    assert trainer.freezer.table()[0].norm == "batch"
    trainer.freezer.set_norm_trains(False)
    before = bits(trainer, "stem")
    take(trainer, 3)
    assert same(before, bits(trainer, "stem"))


def test_a_stage_changes_what_it_says_and_leaves_what_was_done_by_hand() -> None:
    plan = (Stage(name="head only", epochs=1, frozen=("stem", "body")), Stage(name="all", epochs=1, lr_factor=0.5))
    trainer = make_trainer(plan=plan, always_frozen=("stem.0",), epochs=2)
    assert trainer.freezer.frozen == {"stem.0", "stem.1", "body.0", "body.1"}
    trainer.set_frozen([], frozen=False, layers=["body.1"])
    trainer.set_frozen([], frozen=True, layers=["body.1"])
    take(trainer, 8)
    assert trainer.freezer.frozen == {"stem.0", "body.1"}
    assert trainer.rates.highest == 0.025
    # What a stage thaws warms up, like what a person thaws.
    trainer.train_step()
    rates = {p: group["lr"] for group in trainer.optimizer.param_groups for p in group["params"]}
    for name, parameter in trainer.model.named_parameters():
        thawed = name.startswith(("stem.1", "body.0"))
        assert not parameter.requires_grad or rates[parameter] == pytest.approx(0.005 if thawed else 0.025), name


def test_nothing_left_to_train_is_refused() -> None:
    with pytest.raises(BadInput, match="at least one layer"):
        make_trainer(plan=(Stage(name="", epochs=1, frozen=("stem", "body", "neck")),), always_frozen=("head",))


def test_a_batch_of_one_is_left_out_where_there_is_batch_normalisation() -> None:
    trainer = make_trainer(batch_size=21)  # 64 = 3 x 21 + 1
    assert trainer.steps_per_epoch == 3
    take(trainer, 7)
    assert steps_per_epoch(nn.Linear(2, 2), 64, 21) == 4
    assert steps_per_epoch(trainer.model, 1, 1) == 1


def test_imbalanced_classes_can_be_weighted_or_sampled() -> None:
    plain, weighted = make_trainer(), make_trainer(class_weights="balanced", label_smoothing=0.1)
    labels = torch.tensor([0, 1, 2, 2])
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(1))
    counts = torch.bincount(plain._data.labels)
    expected = nn.CrossEntropyLoss(weight=64 / (3 * counts), label_smoothing=0.1)(logits, labels)
    assert torch.allclose(weighted.forward.loss(logits, labels), expected)
    assert torch.allclose(plain.forward.loss(logits, labels), nn.CrossEntropyLoss()(logits, labels))

    rare = torch.cat([torch.zeros(60), torch.ones(4)]).long()
    drawn = torch.cat([epoch_order(64, 0, epoch, weights=sampling_weights(rare)) for epoch in range(20)])
    assert 0.4 < rare[drawn].float().mean() < 0.6


TOGGLES = st.lists(
    st.tuples(
        st.sets(st.sampled_from(["stem", "body", "neck", "head", "stem.0", "stem.1", "body.0", "body.1"]), min_size=1),
        st.booleans(),
        st.integers(1, 4),
    ),
    min_size=1,
    max_size=12,
)
OPTIMIZERS = [{"optimizer": "sgd"}, {"optimizer": "sgd", "nesterov": True}, {"optimizer": "adamw"}]


def toggle(trainer: Trainer, names: set[str], frozen: bool) -> None:
    """Freeze or thaw, and check that only the impossible is refused."""
    layers = trainer.freezer.layers_of(names)
    if frozen and trainer.freezer.frozen | layers == trainer.freezer.layers_of(["stem", "body", "neck", "head"]):
        with pytest.raises(BadInput):
            trainer.set_frozen(sorted(names), frozen)
    else:
        trainer.set_frozen(sorted(names), frozen)


def frozen_bits(trainer: Trainer) -> dict[str, torch.Tensor]:
    frozen = tuple(f"{name}." for name in trainer.freezer.frozen)
    return {name: tensor.clone() for name, tensor in trainer.model.state_dict().items() if name.startswith(frozen)}


@settings(max_examples=25, deadline=None)
@given(TOGGLES, st.sampled_from(OPTIMIZERS), st.sampled_from(SCHEDULES))
def test_any_toggles_at_any_step(toggles: list[tuple[set[str], bool, int]], optimizer: dict, schedule: str) -> None:
    trainer = make_trainer(**optimizer, schedule=schedule, epochs=6)
    for names, frozen, steps in toggles:
        toggle(trainer, names, frozen)
        before = frozen_bits(trainer)
        take(trainer, steps)
        assert same(before, trainer.model.state_dict())
    point = trainer.take_point()
    assert point is not None
    assert len(point.group_grad_norms) == 4


@pytest.mark.slow
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
def test_random_toggles_over_two_thousand_steps(optimizer: dict, schedule: str) -> None:
    trainer = make_trainer(**optimizer, schedule=schedule, epochs=250, warmup_epochs=1.0, lr=0.01)
    chance = random.Random(f"{optimizer}{schedule}")
    names = ["stem", "body", "neck", "head", "stem.0", "stem.1", "body.0", "body.1"]
    while trainer.step < 2000:
        toggle(trainer, set(chance.sample(names, chance.randint(1, 3))), chance.random() < 0.5)
        before = frozen_bits(trainer)
        take(trainer, min(chance.randint(1, 40), 2000 - trainer.step))
        assert same(before, trainer.model.state_dict())
    assert trainer.take_point() is not None  # raises where a loss was not finite
