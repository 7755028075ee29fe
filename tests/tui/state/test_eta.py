"""The time left: that one slow moment does not move it, and that a lasting change does within an epoch."""

from collections.abc import Callable, Iterator

import msgspec
import pytest
from canned import STEPS, evaluated, layers, point, prepared, running

from finetui.engine.protocol.config import RunConfig, TrainingConfig
from finetui.engine.protocol.events import AnyEvent, LayersChanged, Phase, StateChanged, TimeShares
from finetui.tui.state.store import Store

EPOCHS = 8
BATCH = 64
STEP = 0.1  # seconds: an epoch of `STEPS` takes 10


def begun() -> Store:
    training = TrainingConfig(epochs=EPOCHS, batch_size=BATCH)
    store = Store()
    store.fold([*running()])
    store.fold([prepared(config=RunConfig(training=training)), StateChanged(state="running", time=0.0)])
    return store


def trained(first: int, last: int, seconds: Callable[[int], float]) -> Iterator[AnyEvent]:
    """Yield a point for each step, which took `seconds` of it."""
    for step in range(first, last + 1):
        yield point(step, steps=1, samples_per_second=BATCH / seconds(step))


@pytest.mark.parametrize("longest", [1.0, 10.0], ids=["a-second", "ten-seconds"])
def test_a_hiccup_moves_the_time_left_by_less_than_a_tenth(longest: float) -> None:
    """Three seconds in which steps take 3 and 10 times as long, as when another program starts."""
    slow = STEP * (3 if longest == 1.0 else 10)
    hiccup = range(250, 250 + max(round(3.0 / slow), 1))
    store = begun()
    for event in trained(1, 400, lambda step: slow if step in hiccup else STEP):
        store.fold([event])
        if event.step >= 100:
            fair = (EPOCHS * STEPS - event.step) * STEP
            assert store.seconds_left == pytest.approx(fair, rel=0.1), event.step


@pytest.mark.parametrize("factor", [0.4, 3.0])
def test_a_lasting_change_has_been_taken_in_after_an_epoch(factor: float) -> None:
    store = begun()
    store.fold(trained(1, 250, lambda _step: STEP))
    store.fold(trained(251, 350, lambda _step: STEP * factor))
    assert store.eta.step_seconds == pytest.approx(STEP * factor, rel=0.02)


def test_long_epochs_are_not_waited_for() -> None:
    """Of steps that take a second, an epoch of 10,000 takes hours: two minutes tell."""
    store = begun()
    store.fold([prepared(config=store.view.config, steps_per_epoch=10_000)])
    store.fold(trained(1, 300, lambda _step: 1.0))
    store.fold(trained(301, 390, lambda _step: 2.0))
    assert store.eta.step_seconds == pytest.approx(2.0, rel=0.1)


def test_other_layers_that_train_count_from_the_next_step() -> None:
    store = begun()
    store.fold(trained(1, 250, lambda _step: STEP))
    store.fold([LayersChanged(layers=layers("conv1"), step=250)])
    assert store.eta.step_seconds == pytest.approx(STEP)  # the best guess, until there is a step
    store.fold(trained(251, 260, lambda _step: STEP / 2))
    assert store.eta.step_seconds == pytest.approx(STEP / 2)


def test_steps_that_are_slow_just_after_a_change_do_not_move_the_time_left() -> None:
    store = begun()
    store.fold(trained(1, 250, lambda _step: STEP))
    store.fold([LayersChanged(layers=layers("conv1"), step=250)])
    for event in trained(251, 300, lambda step: 10 * STEP if step <= 255 else STEP):
        store.fold([event])
        assert store.seconds_left == pytest.approx((EPOCHS * STEPS - event.step) * STEP, rel=0.1), event.step


def test_what_comes_between_epochs_counts_once_an_epoch() -> None:
    store = begun()
    store.fold(trained(1, STEPS, lambda _step: STEP))
    left = (EPOCHS - 1) * STEPS * STEP
    # Before there was an evaluation its images tell: 1,000 of them, each a third of a training image's time.
    assert store.seconds_left == pytest.approx(left + EPOCHS * 1000 / BATCH * STEP / 3)
    store.fold([Phase(name="Evaluating", done=250, total=1000, step=STEPS)])
    assert store.seconds_left == pytest.approx(left + (EPOCHS - 0.25) * 1000 / BATCH * STEP / 3)
    store.fold([msgspec.structs.replace(evaluated(1, 0.9), seconds=2.0)])
    assert store.seconds_left == pytest.approx(left + (EPOCHS - 1) * 2.0)
    # The next point says that saving took as long again, and the epoch after it that this was not for once.
    shares = TimeShares(evaluating=0.4, saving=0.5, seconds=5.0)
    store.fold([msgspec.structs.replace(next(trained(101, 101, lambda _step: STEP)), time_shares=shares)])
    assert store.seconds_left == pytest.approx(left - STEP + (EPOCHS - 1) * 4.5)
    assert store.eta.epoch_seconds(store.view) == pytest.approx(STEPS * STEP + 4.5)


def test_the_time_that_a_run_has_trained_leaves_pauses_out() -> None:
    store = Store()
    store.fold(running()[:-1])
    for state, time in (("running", 10.0), ("paused", 25.0), ("running", 100.0)):
        store.fold([StateChanged(state=state, time=time)])
    store.fold([point(10, time=103.5)])
    assert store.eta.clock.seconds == pytest.approx(18.5)
    # The run is resumed by another engine: what it had trained counts. Another run begins at nothing.
    store.fold([prepared(), StateChanged(state="running", time=200.0), point(20, time=201.0)])
    assert store.eta.clock.seconds == pytest.approx(19.5)
    other = [
        msgspec.structs.replace(event, path="/runs/other") if hasattr(event, "path") else event for event in running()
    ]
    store.fold(other)
    assert store.eta.clock.seconds == 0.0


def test_of_somebody_elses_loop_the_time_of_its_steps_counts() -> None:
    """How large its batches are is not told, so that images a second say nothing about steps."""
    training = TrainingConfig(epochs=EPOCHS, batch_size=1)
    store = begun()
    store.fold([prepared(config=RunConfig(training=training), hparams={"epochs": EPOCHS})])
    shares = TimeShares(computing=0.5, evaluating=0.5, seconds=2 * STEP)
    for step in range(1, STEPS + 1):
        store.fold([point(step, steps=1, samples_per_second=BATCH / STEP, time_shares=shares)])
    assert store.eta.step_seconds == pytest.approx(STEP)
