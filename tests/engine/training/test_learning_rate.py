import pytest
import torch

from finetui.engine.training.learning_rate import LearningRates
from finetui.engine.training.optimizer import ParameterGroups
from finetui.engine.training.schedules import Schedules, constant


def optimizer() -> torch.optim.SGD:
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "layer": name} for name in ("stem", "head")]
    return torch.optim.SGD([{**group, "weight_decay": 0.0} for group in groups], lr=1.0)


def rates_of(rates: LearningRates, step: int) -> list[float]:
    sgd = optimizer()
    rates.apply(ParameterGroups(sgd), step)
    # Without rates of their own all parameters are in one group.
    return [group["lr"] for group in sgd.param_groups for _ in group["params"]]


def test_a_persons_change_survives_the_schedule() -> None:
    rates = LearningRates(0.1, 0, schedule=lambda step: 0.5 if step >= 10 else 1.0)
    assert rates_of(rates, 0) == [0.1, 0.1]
    rates.set(0.02, 5)
    assert rates_of(rates, 5) == pytest.approx([0.02, 0.02])
    assert rates_of(rates, 10) == pytest.approx([0.01, 0.01])
    rates.set(0.3, 12)
    assert rates.at(12) == pytest.approx(0.3)


def test_a_thawed_layer_warms_up_alone() -> None:
    rates = LearningRates(1.0, 4)
    rates.thaw("head", 100)
    assert [rates_of(rates, step) for step in range(100, 105)] == [
        [1.0, 0.25],
        [1.0, 0.5],
        [1.0, 0.75],
        [1.0, 1.0],
        [1.0, 1.0],
    ]


def test_state_survives() -> None:
    rates = LearningRates(1.0, 10)
    rates.set(0.5, 0)
    rates.thaw("head", 3)
    again = LearningRates(1.0, 10)
    again.load_state_dict(rates.state_dict(), {})
    assert rates_of(again, 5) == rates_of(rates, 5) == pytest.approx([0.5, 0.15])


def test_a_checkpoint_of_the_first_rules_names_groups() -> None:
    rates = LearningRates(1.0, 10)
    rates.load_state_dict({"user": 0.5, "thawed_at": {"top": 3}}, {"top": ("head",), "bottom": ("stem",)})
    assert rates_of(rates, 5) == pytest.approx([0.5, 0.15])


def test_a_cycle_moves_the_momentum_of_who_has_one() -> None:
    weights = torch.nn.Parameter(torch.zeros(1))
    group = {"params": [weights], "weight_decay": 0.0, "layer": "only"}
    none, sgd = torch.optim.SGD([{**group}]), torch.optim.SGD([{**group}], momentum=0.9)
    for optimizer in (none, sgd, torch.optim.AdamW([{**group}])):
        rates, groups = LearningRates(1.0, 0), ParameterGroups(optimizer)
        seen = []
        for schedules in (Schedules(constant, lambda step: 0.85 + 0.01 * step), Schedules(constant)):
            rates.begin(schedules, 5, 1.0, {})
            rates.apply(groups, 6)
            (one,) = optimizer.param_groups
            seen.append(one["betas"][0] if "betas" in one else one["momentum"])
        assert seen == ([0, 0] if optimizer is none else [0.86, 0.9])


def test_one_group_or_many_the_optimizer_forgets_nothing() -> None:
    sgd = optimizer()
    groups = ParameterGroups(sgd)
    groups.set_rate(0.5)
    sgd.load_state_dict(sgd.state_dict())  # torch makes new groups
    groups.set_rate(0.25)
    assert [(group["lr"], len(group["params"])) for group in sgd.param_groups] == [(0.25, 2)]
    groups.set_rates(1.0, {"stem": 0.1, "head": 1.0}.__getitem__)
    assert [(group["lr"], len(group["params"])) for group in sgd.param_groups] == [(0.1, 1), (1.0, 1)]
    sgd.add_param_group({"params": [torch.nn.Parameter(torch.zeros(1))], "layer": "late"})
    with pytest.raises(RuntimeError, match="parameters were added"):
        groups.set_rate(0.5)
