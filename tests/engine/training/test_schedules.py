import itertools
import math

import pytest
import torch

from finetui.engine.protocol.config import SCHEDULES, TrainingConfig
from finetui.engine.training.schedules import build_schedule, cosine, one_cycle, stepped, warmed_up


def theirs(make, steps: int) -> list[float]:
    """Return what PyTorch's own scheduler does to a learning rate of 1."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = make(optimizer)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def test_step_and_cosine_are_pytorchs() -> None:
    ours = [stepped(7, 0.1)(step) for step in range(30)]
    assert ours == pytest.approx(theirs(lambda o: torch.optim.lr_scheduler.StepLR(o, 7, 0.1), 30))
    ours = [cosine(30)(step) for step in range(30)]
    assert ours == pytest.approx(theirs(lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 30), 30))


@pytest.mark.parametrize("steps", [2, 3, 4, 7, 10, 41, 1000])
@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_one_cycle_is_pytorchs_step_by_step(steps: int, name: str) -> None:
    weights = [torch.nn.Parameter(torch.zeros(1))]
    optimizer = torch.optim.SGD(weights, 1.0, momentum=0.9) if name == "sgd" else torch.optim.AdamW(weights, 1.0)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.3, total_steps=steps)
    ours = build_schedule(TrainingConfig(epochs=steps), steps, 1)
    for step in range(steps):
        (group,) = optimizer.param_groups
        assert 0.3 * ours.rate(step) == pytest.approx(group["lr"], rel=1e-12)
        momentum = group["betas"][0] if "betas" in group else group["momentum"]
        assert ours.momentum(step) == pytest.approx(momentum, rel=1e-12)
        optimizer.step()
        if step < steps - 1:
            scheduler.step()


def test_the_first_rules_have_the_cycle_that_their_runs_began_with() -> None:
    ours = build_schedule(TrainingConfig(), 41, 41, rules=1)
    assert ours.momentum is None
    # Its peak is at 0.3 of the way from the first step to the last, its end at 1e-5.
    assert [ours.rate(step) for step in (0, 12, 40)] == pytest.approx([0.04, 1, 1e-5])
    assert ours.rate(5) == pytest.approx(1 - 0.96 * (1 + math.cos(math.pi * 5 / 12)) / 2)


def test_a_warm_up_rises_to_where_the_schedule_begins() -> None:
    ours = warmed_up(one_cycle(10), 5)
    first = 1 / 25
    assert [ours.rate(step) / first for step in range(5)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert [ours.momentum(step) for step in range(6)] == pytest.approx([0.95] * 6)
    for step in range(5, 15):
        assert (ours.rate(step), ours.momentum(step)) == tuple(part(step - 5) for part in one_cycle(10))


def test_a_warm_up_belongs_to_the_begin_of_a_run() -> None:
    training = TrainingConfig(schedule="constant", epochs=4, warmup_epochs=1)
    assert build_schedule(training, 20, 10).rate(0) == 0.1
    assert build_schedule(training, 20, 10, first=False).rate(0) == 1
    assert build_schedule(training, 20, 10, first=False, rules=1).rate(0) == 0.1


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("warmup", [0.0, 0.5, 2.5])
def test_no_rate_is_ever_zero_or_above_one(name: str, warmup: float) -> None:
    for epochs, steps_per_epoch in itertools.product((3, 10), (1, 2, 40)):
        training = TrainingConfig(schedule=name, epochs=epochs, warmup_epochs=warmup)
        schedule = build_schedule(training, epochs * steps_per_epoch, steps_per_epoch)
        factors = [schedule.rate(step) for step in range(epochs * steps_per_epoch + 3)]
        assert all(0 < factor <= 1 + 1e-12 for factor in factors)


def test_the_configuration_is_followed() -> None:
    training = TrainingConfig(schedule="step", epochs=9, step_factor=0.5)
    assert [build_schedule(training, 90, 10).rate(step) for step in (0, 29, 30, 60)] == [1, 1, 0.5, 0.25]
    training = TrainingConfig(schedule="step", epochs=9, step_epochs=2, step_factor=0.5, warmup_epochs=1)
    assert [build_schedule(training, 90, 10).rate(step) for step in (0, 10, 29, 30)] == [0.1, 1, 1, 0.5]
