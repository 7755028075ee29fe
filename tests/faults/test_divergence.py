"""Losses that are none any more: the run is stopped, paused or rolled back as configured, within a step."""

import dataclasses
import math
from typing import Any

import msgspec
import pytest
import torch
from steered import at

from finetui.engine.checkpoints import checkpoint
from finetui.engine.errors import FinetuiError
from finetui.engine.protocol.commands import Resume, SetLearningRate
from finetui.engine.protocol.config import CheckpointsConfig, RunConfig
from finetui.engine.protocol.events import CheckpointSaved, LearningRateChanged, Log, Rewound, StateChanged, TrainPoint
from finetui.engine.protocol.queues import CommandQueue
from finetui.engine.session.active_run import ActiveRun
from finetui.engine.session.replay import replay_run
from finetui.engine.session.session import Session
from finetui.engine.training.divergence import Diverged, LossGuard

POISONED = 31  # the step whose loss is none


def guarded(config: RunConfig, choice: str, **guards: Any) -> RunConfig:
    guards = {"on_divergence": choice, "explode_factor": 10.0} | guards
    return msgspec.structs.replace(
        config,
        guards=msgspec.structs.replace(config.guards, **guards),
        checkpoints=CheckpointsConfig(every_steps=10, every_minutes=0),
    )


class Poison:
    """Makes the weights NaN (or huge) once, after the step before `POISONED`: its loss is none."""

    def __init__(self, value: float) -> None:
        self.session: Session | None = None
        self._value = value

    def __call__(self, step: int, _loss: torch.Tensor) -> None:
        if step == POISONED - 1 and self.session is not None:
            session, self.session = self.session, None
            with torch.no_grad():
                session.active.trainer.model.fc3.weight.mul_(self._value)  # type: ignore[union-attr]


def poisoned(config: RunConfig, value: float, **options: Any) -> Session:
    poison = Poison(value)
    poison.session = Session(config, on_step=poison, **options)
    return poison.session


@pytest.mark.parametrize(
    # Weights that are no numbers are not written at step 30; those that are merely huge are numbers.
    ("value", "what", "intact"),
    [(math.nan, "became nan", 20), (math.inf, "became (nan|inf)", 20), (1e4, "exploded to", 30)],
)
def test_stopped_within_the_step_with_its_number_and_the_reason(
    make_config, recorder, value: float, what: str, intact: int
) -> None:
    """Row 24, stop: NaN, infinite, exploding; the checkpoints are those from before."""
    session = poisoned(guarded(make_config(epochs=2, name="bad"), "stop"), value, sinks=[recorder])
    with pytest.raises(FinetuiError, match=rf"{what}.* at step {POISONED}"):
        session.run()
    assert session.active.trainer.step == POISONED - 1
    last = recorder.of(StateChanged)[-1]
    assert last.state == "failed"
    assert f"the checkpoint of step {intact} is intact: finetui resume " in last.reason
    assert session.folder is not None
    for path in session.folder.path.glob("*.ckpt"):
        assert all(tensor.isfinite().all() for tensor in checkpoint.load(path)[1].values())


def test_a_learning_rate_of_a_million_ends_at_once(make_config, recorder) -> None:
    """Row 24: every step is looked at, so the first absurd one is the last."""
    session = Session(guarded(make_config(lr=1e6, name="hot"), "stop"), sinks=[recorder])
    with pytest.raises(FinetuiError, match=r"at step [2-4];"):
        session.run()


def test_a_loss_that_begins_high_and_comes_down_is_none_that_explodes() -> None:
    """Row 24: a new head on large features; what is ten times that is absurd all the same, also after a resume."""
    guard = LossGuard(10.0, classes=10)
    for step, loss in enumerate((867.5, 400.0, 30.0, 2.0), start=1):
        guard.check(loss, step)
    again = LossGuard(10.0, classes=10)
    again.load_state_dict(guard.state_dict())
    again.check(8000.0, 5)
    with pytest.raises(Diverged, match="exploded to 9000 at step 6"):
        again.check(9000.0, 6)
    off = LossGuard(0.0, classes=10)
    off.check(1.0, 1)
    off.check(1e30, 2)


def test_the_best_checkpoint_is_not_overwritten(make_config, recorder) -> None:
    """Row 24: diverged in the second epoch."""
    config = guarded(make_config(epochs=3, name="bad"), "stop")
    session = Session(config, sinks=[recorder], script=at((45, SetLearningRate(value=1e5))))
    with pytest.raises(FinetuiError):
        session.run()
    assert session.folder is not None
    _, weights, training = checkpoint.load(session.folder.best)
    assert training["step"] == 40
    saved = [event for event in recorder.of(CheckpointSaved) if event.file == "best.ckpt"]
    assert checkpoint.digest(weights) == saved[-1].weights


def test_paused_at_the_last_checkpoint(make_config, recorder) -> None:
    """Row 24, pause: the weights are good again, and a person decides."""
    commands = CommandQueue()

    def resume_when_paused(event: object) -> None:
        if isinstance(event, StateChanged) and event.state == "paused":
            commands.put(SetLearningRate(value=0.005))
            commands.put(Resume())

    session = poisoned(
        guarded(make_config(epochs=2, name="bad"), "pause"),
        math.nan,
        commands=commands,
        sinks=[recorder, resume_when_paused],
        stay=lambda state: state == "paused",
    )
    assert session.run().state == "finished"
    paused = next(event for event in recorder.of(StateChanged) if event.state == "paused")
    assert f"became nan at step {POISONED}" in paused.reason
    assert "lower the learning rate" in paused.reason
    (rewound,) = recorder.of(Rewound)
    assert (rewound.cause, rewound.step, rewound.undone) == ("rollback", 20, 10)
    assert recorder.of(TrainPoint)[-1].learning_rate == pytest.approx(0.005)


def test_rolled_back_with_a_smaller_rate_and_on(make_config, recorder) -> None:
    """Row 24, rollback: ends well, says what it did, and can be replayed."""
    session = poisoned(guarded(make_config(epochs=2, name="bad"), "rollback"), math.nan, sinks=[recorder])
    outcome = session.run()
    assert outcome.state == "finished"
    (rewound,) = recorder.of(Rewound)
    assert f"became nan at step {POISONED}" in rewound.reason
    assert [event.learning_rate for event in recorder.of(LearningRateChanged)] == [pytest.approx(0.001)]
    assert recorder.of(TrainPoint)[-1].learning_rate == pytest.approx(0.001)
    assert outcome.folder is not None
    found = replay_run(outcome.folder)
    assert found.complete
    assert found.different_at is None


def test_it_is_given_up_after_so_many_rollbacks(make_config, recorder) -> None:
    """Row 24, rollback: a network that cannot be trained does not go round in circles."""
    config = guarded(make_config(lr=1e9, name="hopeless"), "rollback", rollbacks=2, rollback_factor=0.5)
    with pytest.raises(FinetuiError, match=r"rolled back 2 times with 0.5 x the learning rate"):
        Session(config, sinks=[recorder]).run()
    assert [round(event.learning_rate / 1e9, 3) for event in recorder.of(LearningRateChanged)] == [0.5, 0.25]


def test_a_test_loss_that_is_none_is_treated_alike(make_config, recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 24: found by the evaluation, before anything is saved over a good checkpoint."""
    from finetui.engine.session import evaluator

    evaluate, calls = evaluator.evaluate, []

    def broken(*arguments: Any, **options: Any) -> Any:
        calls.append(1)
        report = evaluate(*arguments, **options)
        return dataclasses.replace(report, loss=math.nan) if len(calls) == 2 else report

    monkeypatch.setattr(evaluator, "evaluate", broken)
    outcome = Session(guarded(make_config(epochs=2, name="bad"), "rollback"), sinks=[recorder]).run()
    assert outcome.state == "finished"
    (rewound,) = recorder.of(Rewound)
    assert "the test loss became nan at step 80" in rewound.reason
    assert [event for event in recorder.of(Log) if event.level == "error"] == []


def test_on_a_device_that_must_be_waited_for_it_is_found_with_the_next_point(
    make_config, recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row 24: without a look at every step, as on a GPU, the poisoned weights never reach a checkpoint."""
    session = poisoned(guarded(make_config(epochs=2, name="bad"), "rollback"), math.nan, sinks=[recorder])
    check = ActiveRun.step

    def step(self: ActiveRun) -> None:
        self.trainer.device = torch.device("meta")  # only its kind is asked for
        check(self)

    monkeypatch.setattr(ActiveRun, "step", step)
    outcome = session.run()
    assert outcome.state == "finished"
    (rewound,) = recorder.of(Rewound)
    assert f"became nan at step {POISONED}" in rewound.reason
    assert all(t.isfinite().all() for t in checkpoint.load(outcome.folder.last)[1].values())
