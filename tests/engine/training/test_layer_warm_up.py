"""A thawed layer warms up alone: the weights are those of a plain loop that gives this layer a rate of its own."""

import copy

import pytest
import torch
from small_trainer import make_trainer, take
from torch.nn import functional as F


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_the_weights_are_those_of_a_plain_loop(optimizer: str) -> None:
    trainer = make_trainer(optimizer=optimizer, lr=0.01)
    take(trainer, 3)
    trainer.set_frozen([], frozen=True, layers=["body.1"])
    take(trainer, 4)
    model = copy.deepcopy(trainer.model)
    theirs, state = dict(model.named_parameters()), trainer.optimizer.state
    thawed = ("body.1.weight", "body.1.bias")
    groups = [
        {"params": [theirs[name] for name in names], "weight_decay": decay}
        for names, decay in (
            (thawed, 0.0),
            ([name for name, p in theirs.items() if p.ndim > 1], 0.01),
            ([name for name, p in theirs.items() if p.ndim == 1 and name not in thawed], 0.0),
        )
    ]
    plain = torch.optim.SGD(groups, lr=0.01, momentum=0.9) if optimizer == "sgd" else torch.optim.AdamW(groups, lr=0.01)
    for name, p in trainer.model.named_parameters():
        if state.get(p):
            plain.state[theirs[name]] = copy.deepcopy(state[p])
    for name in thawed:
        theirs[name].requires_grad_(True)

    trainer.set_frozen([], frozen=False, layers=["body.1"])
    model.train()
    for step in range(9):
        inputs, labels = next(trainer.batches(*divmod(7 + step, 8)))
        rng = torch.get_rng_state()  # of dropout
        trainer.train_step()
        if step == 0:
            point = trainer.take_point()
            assert point.group_rate_factors == ()  # the other layers of its group train as they did
        if trainer.position == trainer.steps_per_epoch:
            trainer.end_epoch()
        torch.set_rng_state(rng)
        plain.param_groups[0]["lr"] = 0.01 * min((step + 1) / 5, 1.0)
        plain.zero_grad()
        F.cross_entropy(model(inputs), labels).backward()
        plain.step()
        for name, ours in trainer.model.named_parameters():
            assert torch.equal(ours, theirs[name]), (step, name)


def test_a_group_that_is_thawed_as_a_whole_shows_its_warm_up() -> None:
    trainer = make_trainer()
    trainer.set_frozen(["body"], frozen=True)
    take(trainer, 2)
    trainer.set_frozen(["body"], frozen=False)
    take(trainer, 1)
    point = trainer.take_point()
    assert dict(zip((g.name for g in trainer.groups), point.group_rate_factors, strict=True)) == {
        "stem": 1.0, "body": 0.2, "neck": 1.0, "head": 1.0,
    }  # fmt: skip


def test_by_the_first_rules_the_whole_group_warms_up() -> None:
    trainer = make_trainer()
    trainer.rules = 1
    trainer.set_frozen([], frozen=True, layers=["body.1"])
    take(trainer, 2)
    trainer.set_frozen([], frozen=False, layers=["body.1"])
    take(trainer, 1)
    rates = {p: group["lr"] for group in trainer.optimizer.param_groups for p in group["params"]}
    assert rates[trainer.model.body[0].weight] == rates[trainer.model.body[1].weight] == pytest.approx(0.01)
