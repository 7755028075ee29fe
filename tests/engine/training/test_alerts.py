"""What a person is told of while training goes on, and what not."""

import json
import math
import random

import pytest

from finetui.engine.protocol.config import GuardsConfig
from finetui.engine.protocol.events import Alert, Evaluated, TrainPoint
from finetui.engine.training.alerts import AlertWatch

_STEPS = 10  # of a point here


def point(step: int, loss: float = 0.5, norm: float = 1.0, steps: int = _STEPS) -> TrainPoint:
    return TrainPoint(
        step=step,
        epoch=1,
        step_in_epoch=step,
        steps=steps,
        loss=loss,
        accuracy=0.9,
        learning_rate=0.01,
        grad_norm=norm,
        samples_per_second=1000.0,
    )


def evaluated(epoch: int, loss: float) -> Evaluated:
    return Evaluated(
        step=100 * epoch, epoch=epoch, loss=loss, accuracy=0.9, n=100, per_class=(), confusion=(), best=False, seconds=1
    )


class Run:
    """Feeds a watch, and keeps what it says with the step at which it did."""

    def __init__(self, watch: AlertWatch | None = None) -> None:
        self.watch = watch or AlertWatch(GuardsConfig())
        self.step = self.epoch = 0
        self.alerts: list[Alert] = []

    def train(self, points: int, loss: float = 0.5, norm: float = 1.0) -> list[Alert]:
        found = []
        for _ in range(points):
            self.step += _STEPS
            found += self.watch.point(point(self.step, loss, norm))
        self.alerts += found
        return found

    def evaluate(self, *losses: float, train: float = math.nan) -> list[str]:
        """Evaluate once an epoch; `train` is the training loss of all these epochs."""
        found: list[Alert] = []
        for loss in losses:
            self.epoch += 1
            found += self.watch.evaluated(evaluated(self.epoch, loss), train)
        self.alerts += found
        return [alert.kind for alert in found]

    def overfit(self, *pairs: tuple[float, float]) -> list[str]:
        return [kind for test, train in pairs for kind in self.evaluate(test, train=train)]

    @property
    def kinds(self) -> list[str]:
        return [alert.kind for alert in self.alerts]


# -- plateau ------------------------------------------------------------------------------------------------


def test_a_test_loss_that_stands_still_is_a_plateau_and_said_once() -> None:
    run = Run()
    assert run.evaluate(1.0, 0.5, 0.5, 0.5, 0.4996, 0.5) == []  # four evaluations since the best
    assert run.evaluate(0.5001) == ["plateau"]
    assert run.evaluate(0.5, 0.5, 0.5, 0.5) == []
    message = run.alerts[0].message
    assert "over 5 evaluations" in message
    assert "best 0.5 in epoch 2" in message
    assert run.alerts[0].step == 700


def test_a_tenth_of_a_percent_in_all_is_no_plateau() -> None:
    run = Run()
    losses = [1.0 * (1 - 0.0003) ** epoch for epoch in range(30)]  # five times 0.03 % is more than 0.1 %
    assert run.evaluate(*losses) == []


def test_after_an_improvement_the_next_plateau_is_said_again() -> None:
    run = Run()
    assert run.evaluate(*[0.5] * 6) == ["plateau"]
    assert run.evaluate(0.4, 0.4, 0.4, 0.4, 0.4) == []
    assert run.evaluate(0.4) == ["plateau"]


def test_a_change_gives_the_test_loss_as_many_evaluations_again() -> None:
    run = Run()
    assert run.evaluate(*[0.5] * 4) == []
    run.watch.changed()
    assert run.evaluate(*[0.5] * 4) == []
    assert run.evaluate(0.5) == ["plateau"]
    run.watch.changed()  # it was tried, and did not help
    assert run.evaluate(*[0.5] * 4) == []
    assert run.evaluate(0.5) == ["plateau"]


def test_evaluating_many_times_in_one_epoch_is_no_plateau() -> None:
    run = Run()
    run.evaluate(0.5)
    for _ in range(10):
        assert run.watch.evaluated(evaluated(1, 0.5), math.nan) == []
    assert run.evaluate(0.5, 0.5, 0.5, 0.5) == []
    assert run.evaluate(0.5) == ["plateau"]


def test_the_best_of_long_ago_is_remembered() -> None:
    run = Run()
    run.evaluate(0.3, *[0.9 - 0.01 * epoch for epoch in range(20)])
    assert run.kinds == ["plateau"]
    run.watch.changed()
    run.evaluate(*[0.6] * 10)
    assert run.kinds == ["plateau", "plateau"]
    assert all("best 0.3 in epoch 1" in alert.message for alert in run.alerts)


# -- overfitting --------------------------------------------------------------------------------------------


def test_a_rising_test_loss_under_a_falling_training_loss_is_overfitting() -> None:
    run = Run()
    assert run.overfit((0.5, 0.5), (0.4, 0.4), (0.42, 0.3), (0.45, 0.2)) == []
    assert run.overfit((0.5, 0.1)) == ["overfit"]
    # Nor is it said again when the loss wavers, nor the plateau that this also is.
    assert run.overfit((0.6, 0.05), (0.45, 0.04), (0.6, 0.03), (0.7, 0.02)) == []
    message = run.alerts[0].message
    assert "rose from 0.4 in epoch 2 to 0.5" in message
    assert "training loss fell from 0.4 to 0.1" in message


def test_a_test_loss_that_rises_together_with_the_training_loss_is_not_overfitting() -> None:
    run = Run()
    assert run.overfit((0.5, 0.5), (0.4, 0.4), (0.42, 0.41), (0.45, 0.42), (0.5, 0.43)) == []


def test_a_test_loss_that_wavers_about_its_minimum_is_not_overfitting() -> None:
    run = Run(AlertWatch(GuardsConfig(plateau_evaluations=0)))
    assert run.overfit((0.4, 0.4), (0.403, 0.3), (0.402, 0.2), (0.403, 0.1), (0.401, 0.09)) == []
    assert run.overfit((0.5, 0.08), (0.45, 0.07), (0.44, 0.06)) == []  # above it, and on the way down


def test_back_at_its_minimum_the_next_overfitting_is_said_again() -> None:
    run = Run()
    assert run.overfit((0.4, 0.4), (0.5, 0.3), (0.55, 0.2), (0.6, 0.1)) == ["overfit"]
    assert run.overfit((0.39, 0.1), (0.45, 0.09), (0.5, 0.08)) == []
    assert run.overfit((0.55, 0.07)) == ["overfit"]


def test_without_a_training_loss_nothing_is_called_overfitting() -> None:
    run = Run(AlertWatch(GuardsConfig(plateau_evaluations=0)))
    assert run.evaluate(0.4, 0.5, 0.6, 0.7, 0.8) == []


@pytest.mark.parametrize("name", ["plateau_evaluations", "overfit_evaluations"])
def test_zero_switches_an_alert_off(name: str) -> None:
    run = Run(AlertWatch(GuardsConfig(**{name: 0})))
    run.overfit(*((0.4 + 0.02 * epoch, 0.5 - 0.02 * epoch) for epoch in range(12)))
    assert run.kinds == (["overfit"] if name == "plateau_evaluations" else ["plateau"])


# -- divergence ---------------------------------------------------------------------------------------------


def test_a_training_loss_that_stays_at_twice_its_minimum_has_diverged() -> None:
    run = Run()
    run.train(150, loss=0.3)
    assert run.train(45, loss=2.3) == []
    (alert,) = run.train(15, loss=2.3)
    assert alert.kind == "divergence"
    assert "up from 0.3 at step" in alert.message
    assert "now 0.01" in alert.message
    assert run.train(100, loss=2.3) == []


def test_a_burst_of_high_losses_is_no_divergence() -> None:
    run = Run()
    run.train(150, loss=0.3)
    run.train(10, loss=2.3)
    assert run.train(200, loss=0.3) == []


def test_what_comes_back_and_diverges_again_is_said_again() -> None:
    run = Run()
    run.train(150, loss=0.3)
    run.train(150, loss=2.3)
    run.train(400, loss=0.3)
    run.train(150, loss=2.3)
    assert run.kinds == ["divergence", "divergence"]


def test_a_small_loss_may_double() -> None:
    run = Run()
    run.train(150, loss=0.005)
    assert run.train(300, loss=0.05) == []


def test_after_a_change_the_training_loss_has_a_thousand_steps_to_come_down() -> None:
    run = Run()
    run.train(150, loss=0.3)
    run.watch.changed()
    assert run.train(100, loss=2.0) == []
    assert run.train(200, loss=0.3) == []
    run.train(30, loss=2.0)
    run.watch.changed()  # nor do the steps before it count
    assert run.train(145, loss=2.0) == []  # 1 000 steps, and nearly 500 more
    assert [alert.kind for alert in run.train(20, loss=2.0)] == ["divergence"]


def test_a_hard_stretch_now_and_then_is_no_divergence() -> None:
    run = Run()
    for _ in range(20):
        run.train(60, loss=0.3)
        run.train(60, loss=0.9)
    assert run.alerts == []


@pytest.mark.parametrize("seed", range(5))
def test_the_noise_of_small_batches_is_no_divergence(seed: int) -> None:
    """Losses of single images: most are next to nothing and some are large, for 60 000 steps."""
    noise = random.Random(seed)
    watch = AlertWatch(GuardsConfig())
    for step in range(1, 60_001):
        loss = noise.lognormvariate(-2.0, 2.0)  # mean 1, deviation 7
        assert watch.point(point(step, min(loss, 10.0), steps=1)) == []


def test_points_may_have_any_number_of_steps() -> None:
    """Points come by time, so that a slow and a fast machine make different ones of the same losses."""
    fine, coarse = AlertWatch(GuardsConfig()), AlertWatch(GuardsConfig())
    at: list[list[int]] = [[], []]
    for step in range(1, 4001):
        loss = 0.3 if step <= 1000 else 1.5
        at[0] += [alert.step for alert in fine.point(point(step, loss, steps=1))]
        if step % 100 == 0:
            at[1] += [alert.step for alert in coarse.point(point(step, loss, steps=100))]
    assert len(at[0]) == len(at[1]) == 1
    assert abs(at[0][0] - at[1][0]) <= 100


def test_a_loss_that_is_no_number_is_left_to_the_guard() -> None:
    run = Run()
    run.train(150, loss=0.3)
    assert run.train(100, loss=math.nan) == []
    assert run.train(100, loss=math.inf) == []
    assert run.evaluate(0.5, math.nan, 0.5, 0.5, 0.5, 0.5) == []
    json.dumps(run.watch.state_dict(), allow_nan=False)  # it has left nothing behind
    assert run.evaluate(0.5) == ["plateau"]
    assert [alert.kind for alert in run.train(100, loss=2.3)] == ["divergence"]


# -- unstable gradients -------------------------------------------------------------------------------------


def test_a_gradient_a_hundred_times_its_median_is_unstable_and_said_once() -> None:
    run = Run()
    run.train(100, norm=1.0)
    assert run.train(1, norm=99.0) == []
    (alert,) = run.train(1, norm=120.0)
    assert alert.kind == "unstable"
    assert "norm is 120, usually 1" in alert.message
    run.train(1, norm=1.0)
    assert run.train(1, norm=120.0) == []  # it has not calmed down in between
    run.train(50, norm=1.0)
    assert len(run.train(1, norm=120.0)) == 1


@pytest.mark.parametrize("norm", [math.inf, math.nan])
def test_a_gradient_that_is_no_number_is_unstable(norm: float) -> None:
    run = Run()
    run.train(30)
    assert [alert.kind for alert in run.train(1, norm=norm)] == ["unstable"]


def test_small_gradients_are_never_unstable() -> None:
    run = Run()
    run.train(30, norm=0.0001)
    assert run.train(1, norm=0.5) == []


def test_while_nothing_trains_no_median_is_made() -> None:
    run = Run()
    run.train(60, norm=0.0)
    assert run.train(30, norm=5.0) == []


def test_a_median_takes_twenty_points() -> None:
    run = Run()
    run.train(19, norm=1.0)
    assert run.train(1, norm=1000.0) == []


# -- resuming -----------------------------------------------------------------------------------------------


def _history(watch: AlertWatch, begin: int, end: int) -> list[tuple[int, str, str]]:
    """Feed the epochs `begin` to `end` of a run that goes wrong in every way; return what was said."""
    noise = random.Random(0)
    found: list[Alert] = []
    for epoch in range(1, 41):
        points = [(noise.uniform(0.9, 1.1), noise.uniform(0.5, 1.5)) for _ in range(20)]
        if not begin <= epoch <= end:
            continue
        if epoch in (12, 26):
            watch.changed()
        for index, (loss, norm) in enumerate(points, start=1):
            level = 0.5 / epoch if epoch < 20 else 2.0
            spike = 1000.0 if (epoch, index) in ((5, 3), (5, 9), (7, 20), (33, 7)) else 1.0
            found += watch.point(point((epoch - 1) * 200 + index * 10, loss * level, norm * spike))
        test = 0.6 - 0.04 * epoch if epoch < 8 else 0.3 + 0.01 * epoch
        found += watch.evaluated(evaluated(epoch, test), 1.0 / epoch)
    return [(alert.step, alert.kind, alert.message) for alert in found]


@pytest.mark.parametrize("cut", [1, 4, 5, 9, 11, 12, 13, 21, 22, 26, 30, 33, 36])
def test_a_resumed_run_raises_what_an_uninterrupted_one_does(cut: int) -> None:
    whole = _history(AlertWatch(GuardsConfig()), 1, 40)
    assert {kind for _, kind, _ in whole} == {"overfit", "divergence", "unstable"}
    first, second = AlertWatch(GuardsConfig()), AlertWatch(GuardsConfig())
    before = _history(first, 1, cut)
    state = json.loads(json.dumps(first.state_dict(), allow_nan=False))  # plain and finite
    second.load_state_dict(state)
    assert before + _history(second, cut + 1, 40) == whole


def test_what_is_remembered_does_not_grow() -> None:
    run = Run()
    for epoch in range(300):
        run.train(20, loss=1 / (epoch + 1))
        run.evaluate(1 / (epoch + 1), train=1 / (epoch + 1))
    assert run.alerts == []
    assert len(json.dumps(run.watch.state_dict())) < 3000
