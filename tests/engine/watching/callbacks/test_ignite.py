"""Ignite's engines with the handler: steered through the real socket, in one process and in two."""

import threading
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from digits import DigitNet, Digits, moved, trained, weights
from faults_within import trained_with_a_fault
from forked_ranks import on_ranks
from person import Person, check_steered, journal, states, steers_everything
from torch.nn import functional as F

import finetui
from finetui.engine.distributed.ranks import Ranks
from finetui.engine.protocol import events

pytestmark = pytest.mark.peers
ignite = pytest.importorskip("ignite")


def outputs(_images: Any, labels: Any, scores: Any, loss: Any) -> dict[str, Any]:
    return {"loss": loss, "accuracy": (scores.argmax(1) == labels).float().mean()}


class Training:
    """What Ignite's own examples look like."""

    def __init__(self, folder: Path, ranks: Ranks, watched: bool = True) -> None:
        import ignite.distributed as idist
        from ignite.engine import Events, create_supervised_evaluator, create_supervised_trainer
        from ignite.metrics import Accuracy

        if ranks.world > 1:
            dist.init_process_group("gloo")
        torch.manual_seed(0)
        self.net = DigitNet()
        self.rates: list[float] = []
        model = idist.auto_model(self.net)
        optimizer = idist.auto_optim(torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9))
        optimizer.register_step_pre_hook(lambda opt, *_: self.rates.append(opt.param_groups[0]["lr"]))
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.999**step)
        self.loader = idist.auto_dataloader(Digits("train", 400), batch_size=20 * ranks.world, shuffle=True)
        val_loader = idist.auto_dataloader(Digits("t10k", 101), batch_size=20 * ranks.world)
        self.trainer = create_supervised_trainer(model, optimizer, F.cross_entropy, output_transform=outputs)
        self.evaluator = create_supervised_evaluator(model, metrics={"val_acc": Accuracy()})
        self.trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: self.scheduler.step())
        self.trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: self.evaluator.run(val_loader))
        if not watched:
            return
        self.handler = finetui.IgniteHandler(
            model, optimizer, evaluator=self.evaluator, val_loader=val_loader, runs_dir=folder / "runs", name="ignite"
        ).attach(self.trainer)

    def run(self, epochs: int = 1000) -> None:
        self.trainer.run(self.loader, max_epochs=epochs)


def steered(folder: Path, ranks: Ranks) -> dict[str, Any]:
    training, seen = Training(folder, ranks), {}
    person = Person(
        folder / "runs", lambda person: steers_everything(person, seen, training.net, training.rates, "conv")
    )
    with person if ranks.is_first else nullcontext():
        training.run()
    (rate,) = training.scheduler.get_last_lr()
    steps = training.trainer.state.iteration
    return seen | {"steps taken": steps, "weights": trained(training.net), "last rate": rate}


@pytest.mark.parametrize("world", [1, 2])
def test_a_person_steers_it(world: int, tmp_path: Path) -> None:
    found = on_ranks(world, lambda ranks: steered(tmp_path, ranks), tmp_path)
    told = journal(tmp_path / "runs")
    check_steered(found, told, "conv", 101)
    evaluation = [event for event in told if isinstance(event, events.Evaluated)][-1]
    if world == 1:
        assert evaluation.others["val_acc"] == pytest.approx(evaluation.accuracy)


@pytest.mark.parametrize("handled", [False, True])
def test_exceptions_go_where_they_would(handled: bool, tmp_path: Path) -> None:
    from ignite.engine import Events

    def work(ranks: Ranks) -> tuple[int, list[str]]:
        training, caught = Training(tmp_path, ranks), []

        def failing(engine: Any) -> None:
            if engine.state.iteration == 6:
                raise ValueError("no such thing")

        training.trainer.add_event_handler(Events.ITERATION_STARTED, failing)
        threads = threading.active_count()
        if handled:
            training.trainer.add_event_handler(Events.EXCEPTION_RAISED, lambda _, error: caught.append(str(error)))
            training.run(2)
        else:
            with pytest.raises(ValueError, match="^no such thing$"):
                training.run(2)
        return threading.active_count() - threads, caught

    ((threads, caught),) = on_ranks(1, work, tmp_path)
    assert threads == 0
    last = journal(tmp_path / "runs")[-1]
    if handled:  # the epoch ends there, and the trainer goes on
        assert caught == ["no such thing"]
        assert last.state == "finished"
    else:
        assert (last.state, last.step) == ("crashed", 5)
        assert "no such thing" in last.reason


def test_gradients_are_accumulated_within_a_step(tmp_path: Path) -> None:
    from ignite.engine import create_supervised_trainer

    def work(_ranks: Ranks) -> None:
        net = DigitNet()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
        trainer = create_supervised_trainer(net, optimizer, F.cross_entropy, gradient_accumulation_steps=4)
        finetui.IgniteHandler(net, optimizer, runs_dir=tmp_path / "runs").attach(trainer)
        trainer.run(torch.utils.data.DataLoader(Digits("train", 400), batch_size=20), max_epochs=2)

    on_ranks(1, work, tmp_path)
    told = journal(tmp_path / "runs")
    assert states(told)[-1] == "finished"
    assert told[-1].step == 10


def short(folder: Path, ranks: Ranks, watched: bool = True) -> dict[str, torch.Tensor]:
    """Train for two epochs; return the weights."""
    training = Training(folder, ranks, watched)
    training.run(2)
    return weights(training.net)


CALLED = (
    "_started _completed _epoch_started _iteration_started _iteration_completed _optimizer_stepped _validation_started "
    "_validated _validation_completed _close _obey _look_at _log _counts _begin"
)


@pytest.mark.parametrize("name", CALLED.split())
def test_a_fault_of_finetuis_own_is_a_warning(name: str, tmp_path: Path) -> None:
    def work(ranks: Ranks) -> Any:
        plain = short(tmp_path / "plain", ranks, watched=False)
        found, said = trained_with_a_fault(lambda: short(tmp_path, ranks), getattr(finetui.IgniteHandler, name))
        return moved(plain, found), said

    ((changed, said),) = on_ranks(1, work, tmp_path)
    assert not changed
    assert len(said) == 1
    assert "Fault: of finetui's own" in said[0]


def test_an_evaluation_that_is_asked_for_is_seen_by_nobody_else(tmp_path: Path) -> None:
    from ignite.engine import Events
    from ignite.handlers import EarlyStopping

    def work(ranks: Ranks) -> Any:
        training, seen, told = Training(tmp_path, ranks), list[int](), dict[str, Any]()
        evaluator, trainer = training.evaluator, training.trainer
        # An evaluation is worse than the one before it, whatever it comes to.
        stopper = EarlyStopping(10**6, lambda _: -float(len(seen)), trainer)
        evaluator.add_event_handler(Events.COMPLETED, stopper)
        evaluator.add_event_handler(Events.COMPLETED, lambda: seen.append(trainer.state.iteration))
        evaluator.add_event_handler(Events.ITERATION_COMPLETED(every=2), lambda: told.__setitem__("filtered", True))

        def state() -> list[Any]:
            known = {name: value for name, value in vars(evaluator.state).items() if name not in ("output", "batch")}
            known |= {"metrics": dict(evaluator.state.metrics), "times": dict(evaluator.state.times)}
            training_modes = [one.training for one in training.net.modules()]
            return [known, torch.get_rng_state().tolist(), training_modes, stopper.counter]

        def script(person: Person) -> None:
            told["at"], told["same"] = person.evaluates_three_times(state)

        with Person(tmp_path / "runs", script):
            training.run()
        return told, seen

    ((told, seen),) = on_ranks(1, work, tmp_path)
    assert told["same"] == [True] * 4
    evaluated = [event for event in journal(tmp_path / "runs") if isinstance(event, events.Evaluated)]
    assert [event.step for event in evaluated] == sorted([*seen, *[told["at"]] * 3])
    assert all("val_acc" in event.others for event in evaluated)
