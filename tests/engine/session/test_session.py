"""A whole run on the bundled digits: what it says, in which order, and what it leaves on disk."""

import threading
from pathlib import Path

import pytest
import torch
from steered import Replies, state

from finetui.engine.checkpoints import checkpoint
from finetui.engine.errors import BadInput, FinetuiError
from finetui.engine.protocol import events
from finetui.engine.protocol.commands import (
    Evaluate,
    FinetunePlan,
    Pause,
    Resume,
    Save,
    SetFrozen,
    SetLearningRate,
    Start,
    StartFinetune,
    StepOnce,
    Stop,
)
from finetui.engine.protocol.queues import CommandQueue
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.journal import JournalReader
from finetui.engine.runs.summaries import summarise_run
from finetui.engine.session.serve import serve
from finetui.engine.session.session import Session


@pytest.fixture(scope="module")
def every() -> int:
    return 1  # all of the bundled digits


def test_a_run_from_start_to_finish(make_config, recorder) -> None:
    outcome = Session(make_config(epochs=2), sinks=[recorder]).run()
    assert outcome.state == "finished"
    assert recorder.states() == ["preparing", "ready", "running", "finished"]
    kinds = [type(event).__name__ for event in recorder.events if event.seq >= 0]
    order = [
        "StateChanged", "RunPrepared", "Log", "ProvenanceTold", "StateChanged", "RunStarted", "CheckpointSaved",
        "StateChanged",
    ]  # fmt: skip
    assert kinds[: len(order)] == order
    assert kinds[-3:] == ["Evaluated", "CheckpointSaved", "CheckpointSaved"] or kinds[-1] == "StateChanged"
    first, second = recorder.of(events.Evaluated)
    assert (first.epoch, second.epoch, first.n) == (1, 2, 1000)
    assert sum(report.support for report in second.per_class) == 1000
    assert second.accuracy > 0.5
    assert [event.seq for event in recorder.events if event.seq >= 0] == list(range(len(kinds)))


def test_what_a_run_leaves_on_disk(make_config, recorder) -> None:
    outcome = Session(make_config(), sinks=[recorder]).run()
    folder = outcome.folder
    assert folder is not None
    assert {path.name for path in folder.path.iterdir()} == {
        "config.toml", "journal.jsonl", "last.ckpt", "previous.ckpt", "best.ckpt", "last.predictions",
        "best.predictions", "engine.lock",
    }  # fmt: skip
    journaled = list(JournalReader(folder.journal).read())
    assert journaled == [event for event in recorder.events if event.seq >= 0]
    summary = summarise_run(folder)
    assert summary is not None
    assert (summary.state, summary.epoch, summary.step) == ("finished", 1, 40)
    assert summary.best_accuracy == recorder.of(events.Evaluated)[0].accuracy
    assert summary.parent is None


def test_the_same_seed_gives_the_same_weights(make_config) -> None:
    first, second = (Session(make_config()).run().folder for _ in range(2))
    other = Session(make_config(seed=1)).run().folder
    weights = [checkpoint.load(folder.last)[1]["fc3.weight"] for folder in (first, second, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_every_step_is_reported_to_a_callback_and_in_the_points(make_config, recorder) -> None:
    losses: list[float] = []
    Session(make_config(batch_size=30), sinks=[recorder], on_step=lambda _step, loss: losses.append(float(loss))).run()
    points = recorder.of(events.TrainPoint)
    assert sum(point.steps for point in points) == len(losses) == 134
    mean = sum(point.loss * point.steps for point in points) / 134
    assert mean == pytest.approx(sum(losses) / 134, rel=1e-6)
    (hundred,) = [hundred for point in points for hundred in point.hundreds]
    assert (hundred.epoch, hundred.step_in_epoch) == (1, 100)
    assert hundred.loss == pytest.approx(sum(losses[:100]) / 100, rel=1e-6)


def test_commands_take_effect_between_steps_and_are_journaled(make_config, recorder) -> None:
    script = Replies(
        (state("ready"), [SetFrozen(groups=("conv1",), frozen=True), Start()]),
        (state("running"), [Pause()]),
        (state("paused"), [StepOnce(), SetLearningRate(value=0.005), Evaluate(), Save(), Resume()]),
    )
    session = Session(
        make_config(), commands=script.commands, sinks=[recorder, script], autostart=False,
        stay=lambda state: state in ("ready", "paused"),
    )  # fmt: skip
    assert session.run().state == "finished"
    answers = recorder.of(events.CommandAccepted)
    assert [type(answer.command) for answer in answers] == [
        SetFrozen, Start, Pause, StepOnce, SetLearningRate, Evaluate, Save, Resume
    ]  # fmt: skip
    pause, step, *rest = (answer.step for answer in answers[2:])
    assert step == pause + 1
    assert set(rest) == {step}
    assert recorder.of(events.TrainPoint)[-1].learning_rate == pytest.approx(0.005)
    (layers,) = recorder.of(events.LayersChanged)
    assert [layer.frozen for layer in layers.layers] == [True, False, False, False, False]


def test_commands_that_make_no_sense_are_refused_with_a_reason(make_config, recorder) -> None:
    script = Replies(
        (state("ready"), [
            Pause(), StepOnce(), Stop(), Save(), StartFinetune(), SetLearningRate(value=-1.0),
            SetFrozen(groups=("nose",), frozen=True),
            SetFrozen(groups=("conv1", "conv2", "fc1", "fc2", "fc3"), frozen=True),
            Start(), Start(),
        ]),
    )  # fmt: skip
    Session(
        make_config(), commands=script.commands, sinks=[recorder, script], autostart=False,
        stay=lambda state: state == "ready",
    ).run()  # fmt: skip
    refused = recorder.of(events.CommandRefused)
    assert len(refused) == 9
    assert all(answer.reason for answer in refused)
    assert "no layer group or layer 'nose'" in refused[6].reason
    assert len(recorder.of(events.CommandAccepted)) == 1


def test_a_run_that_is_never_started_leaves_nothing(make_config, tmp_path: Path) -> None:
    outcome = Session(make_config(), autostart=False).run()
    assert outcome.state == "ready"
    assert outcome.folder is None
    assert not (tmp_path / "runs").exists()


def test_stop_saves_and_start_goes_on(make_config, recorder) -> None:
    script = Replies(
        (state("running"), [Stop()]),
        (state("stopped"), [Start()]),
    )
    session = Session(
        make_config(), commands=script.commands, sinks=[recorder, script], stay=lambda state: state == "stopped"
    )
    assert session.run().state == "finished"
    assert recorder.states() == ["preparing", "ready", "running", "stopped", "running", "finished"]
    assert recorder.of(events.TrainPoint)[-1].step == 40


def test_an_interrupted_trainer_goes_on_bit_for_bit(make_config) -> None:
    whole = Session(make_config()).run()
    half = Session(make_config())._prepare()
    for _ in range(17):
        half.trainer.train_step()
    saved = half.trainer.state_dict()
    weights = {name: tensor.clone() for name, tensor in half.trainer.model.state_dict().items()}
    again = Session(make_config())._prepare()
    again.trainer.model.load_state_dict(weights)
    again.trainer.load_state_dict(saved)
    for _ in range(23):
        again.trainer.train_step()
    expected = checkpoint.load(whole.folder.last)[1]
    assert all(torch.equal(tensor, expected[name]) for name, tensor in again.trainer.model.state_dict().items())


def test_a_finetune_is_a_new_run_that_trains_the_new_head_alone(make_config, recorder) -> None:
    script = Replies((state("finished"), [StartFinetune(plan=FinetunePlan(recipe="linear-probe", epochs=1, lr=0.02))]))
    outcome = serve(
        make_config(name="base"), script.commands, [recorder, script], autostart=True,
        stay=lambda state: script._lines != [] or (state == "finished" and not recorder.of(events.CommandAccepted)),
    )  # fmt: skip
    child = outcome.folder
    assert child is not None
    parent = RunFolder(child.path.parent / "base")
    assert "linear-probe" in child.name
    before, after = checkpoint.load(parent.last)[1], checkpoint.load(child.last)[1]
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert set(after) - set(before) == {"fc4.weight", "fc4.bias"}
    second = recorder.of(events.RunPrepared)[1]
    assert second.parent == "base"
    assert [(layer.name, layer.frozen, layer.in_use) for layer in second.layers][-2:] == [
        ("fc3", True, False), ("fc4", False, True)
    ]  # fmt: skip
    summary = summarise_run(child)
    assert summary is not None
    assert summary.parent == "base"
    start, end = recorder.of(events.TrainPoint)[-40:][0].loss, recorder.of(events.TrainPoint)[-1].loss
    assert end < start or recorder.of(events.Evaluated)[-1].accuracy > 0.8


def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_the_best(make_config, recorder) -> None:
    with pytest.raises(FinetuiError, match=r"(became (nan|inf)|exploded to \S+) at step \d+"):
        Session(make_config(lr=1e6, epochs=3), sinks=[recorder]).run()
    assert recorder.states()[-1] == "failed"
    last = recorder.of(events.StateChanged)[-1]
    assert "lower learning rate" in last.reason


def test_a_batch_larger_than_the_data_is_bad_input_and_leaves_nothing(make_config, tmp_path: Path, recorder) -> None:
    with pytest.raises(BadInput, match=r"--batch-size.*5000.*4000"):
        Session(make_config(batch_size=5000), sinks=[recorder]).run()
    assert recorder.states() == ["preparing", "failed"]
    assert not (tmp_path / "runs").exists()


def test_a_device_that_is_not_here_is_bad_input(make_config) -> None:
    missing = f"cuda:{torch.cuda.device_count() + 1}"
    with pytest.raises(BadInput, match="--device"):
        Session(make_config(device=missing)).run()


def test_an_unexpected_error_is_told_and_raised(make_config, recorder) -> None:
    def explode(step: int, _loss: torch.Tensor) -> None:
        if step == 5:
            raise ZeroDivisionError("boom")

    with pytest.raises(ZeroDivisionError):
        Session(make_config(), sinks=[recorder], on_step=explode).run()
    reason = recorder.of(events.StateChanged)[-1].reason
    assert reason.startswith("ZeroDivisionError: boom; the checkpoint of step 0 is intact: finetui resume ")


def test_a_stop_during_an_evaluation_ends_it(make_config, recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finetui.engine.inspection.evaluation.EVALUATION_BATCH", 10)
    script = Replies((lambda event: isinstance(event, events.Phase) and event.name == "Evaluating", [Stop()]))
    outcome = Session(make_config(epochs=3), commands=script.commands, sinks=[recorder, script]).run()
    assert outcome.state == "stopped"
    assert recorder.of(events.Evaluated) == []
    assert recorder.of(events.CheckpointSaved)


def test_at_most_ten_points_a_second(make_config, recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock by which each step takes 10 ms: it is asked once for each."""

    class Clock:
        now = 0.0

        def monotonic(self) -> float:
            self.now += 0.01
            return self.now

    monkeypatch.setattr("finetui.engine.training.metrics.time", Clock())
    Session(make_config(batch_size=8), sinks=[recorder]).run()
    points = recorder.of(events.TrainPoint)
    assert sum(point.steps for point in points) == 500
    assert 40 <= len(points) <= 60
    # The last point of an epoch comes when the epoch ends, whenever that is.
    assert {point.steps for point in points[:-1]} <= {9, 10, 11}


def test_a_session_in_a_thread_stops_when_told(make_config, recorder) -> None:
    commands = CommandQueue()
    running = threading.Event()
    session = Session(
        make_config(epochs=1000), commands=commands,
        sinks=[recorder, lambda event: running.set() if isinstance(event, events.TrainPoint) else None],
    )  # fmt: skip
    thread = threading.Thread(target=session.run)
    thread.start()
    assert running.wait(60)
    commands.put(Stop())
    thread.join(30)
    assert not thread.is_alive()
    assert session.active.state == "stopped"
