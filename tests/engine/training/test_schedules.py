import itertools

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


def test_one_cycle_is_pytorchs() -> None:
    def make(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        # PyTorch counts the end from the start: 1e5 / 25 there is 1e5 here.
        return torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            1.0,
            total_steps=41,
            pct_start=0.25,
            div_factor=25,
            final_div_factor=1e5 / 25,
            cycle_momentum=False,
        )

    # PyTorch's peak is at pct_start * total - 1, ours at rise * (total - 1): the same for these numbers.
    ours = [one_cycle(41, rise=9.25 / 40)(step) for step in range(41)]
    assert ours == pytest.approx(theirs(make, 41), rel=1e-6)


def test_a_warm_up_rises_to_where_the_schedule_begins() -> None:
    schedule = warmed_up(cosine(10), 5)
    assert [schedule(step) for step in range(5)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert [schedule(step) for step in range(5, 15)] == [cosine(10)(step) for step in range(10)]


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("warmup", [0.0, 0.5, 2.5])
def test_no_rate_is_ever_zero_or_above_one(name: str, warmup: float) -> None:
    for epochs, steps_per_epoch in itertools.product((3, 10), (1, 2, 40)):
        training = TrainingConfig(schedule=name, epochs=epochs, warmup_epochs=warmup)
        schedule = build_schedule(training, epochs * steps_per_epoch, steps_per_epoch)
        factors = [schedule(step) for step in range(epochs * steps_per_epoch + 3)]
        assert all(0 < factor <= 1 + 1e-12 for factor in factors)


def test_the_configuration_is_followed() -> None:
    training = TrainingConfig(schedule="step", epochs=9, step_factor=0.5)
    assert [build_schedule(training, 90, 10)(step) for step in (0, 29, 30, 60)] == [1, 1, 0.5, 0.25]
    training = TrainingConfig(schedule="step", epochs=9, step_epochs=2, step_factor=0.5, warmup_epochs=1)
    assert [build_schedule(training, 90, 10)(step) for step in (0, 10, 29, 30)] == [0.1, 1, 1, 0.5]
