"""The Hugging Face Trainer with the callback: steered through the real socket, in one process and in two."""

import math
import os
import threading
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from digits import Digits, moved, trained, weights
from faults_within import called_by, trained_with_a_fault
from forked_ranks import on_ranks
from person import Person, check_steered, journal, states, steers_everything
from torch.utils.data import Dataset

import finetui
from finetui.engine.distributed.ranks import Ranks
from finetui.engine.protocol import commands, events

pytestmark = pytest.mark.peers
hf = pytest.importorskip("transformers")
pytest.importorskip("accelerate")


class Pictures(Dataset):
    """The digits as the Trainer takes them."""

    def __init__(self, part: str, count: int) -> None:
        self._digits = Digits(part, count)

    def __len__(self) -> int:
        return len(self._digits)

    def __getitem__(self, index: int) -> dict[str, Any]:
        image, label = self._digits[index]
        return {"pixel_values": image, "labels": label}


def network() -> Any:
    torch.manual_seed(0)
    config = hf.ResNetConfig(
        num_channels=1, embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], layer_type="basic",
        id2label=dict(enumerate(Digits.classes)), label2id={name: place for place, name in enumerate(Digits.classes)},
    )  # fmt: skip
    config.image_size = 28
    return hf.ResNetForImageClassification(config)


def made_trainer(folder: Path, ranks: Ranks, model: Any, rates: list[float], **options: Any) -> tuple[Any, Any]:
    if ranks.world > 1:
        os.environ["LOCAL_RANK"] = str(ranks.rank)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    # Global hooks come first: this one sees the rate that is used.
    optimizer.register_step_pre_hook(lambda opt, *_: rates.append(opt.param_groups[0]["lr"]))
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.999**step)
    settings = {"num_train_epochs": 1000, "eval_strategy": "epoch", "save_strategy": "no"} | options
    arguments = hf.TrainingArguments(
        output_dir=str(folder / "hf"),
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
        per_device_train_batch_size=20,
        per_device_eval_batch_size=16,
        dataloader_pin_memory=False,
        **settings,
    )
    trainer = hf.Trainer(
        model=model,
        args=arguments,
        train_dataset=Pictures("train", 400),
        eval_dataset=Pictures("t10k", 101),
        optimizers=(optimizer, scheduler),
        callbacks=[finetui.TransformersCallback(runs_dir=folder / "runs", name="hf")],
    )
    return trainer, scheduler


def steered(folder: Path, ranks: Ranks, **options: Any) -> dict[str, Any]:
    model, seen, rates = network(), {}, []
    trainer, scheduler = made_trainer(folder, ranks, model, rates, **options)
    person = Person(folder / "runs", lambda person: steers_everything(person, seen, model, rates, "resnet.embedder"))
    with person if ranks.is_first else nullcontext():
        trainer.train()
    (rate,) = scheduler.get_last_lr()
    return seen | {"steps taken": trainer.state.global_step, "weights": trained(model), "last rate": rate}


@pytest.mark.parametrize(("world", "options"), [(1, {}), (1, {"gradient_accumulation_steps": 2}), (2, {})])
def test_a_person_steers_it(world: int, options: dict[str, Any], tmp_path: Path) -> None:
    found = on_ranks(world, lambda ranks: steered(tmp_path, ranks, **options), tmp_path)
    told = journal(tmp_path / "runs")
    check_steered(found, told, "resnet.embedder", 101)
    prepared = next(event for event in told if isinstance(event, events.RunPrepared))
    assert prepared.steps_per_epoch == 20 // world // options.get("gradient_accumulation_steps", 1)
    evaluation = [event for event in told if isinstance(event, events.Evaluated)][-1]
    if world == 1:  # the Trainer's own figure of two processes is the sum of both
        assert evaluation.others["eval_loss"] == pytest.approx(evaluation.loss, rel=0.05)
    point = next(event for event in told if isinstance(event, events.TrainPoint))
    assert point.loss == pytest.approx(math.log(10), abs=0.6)  # of a network that knows nothing yet


def test_an_exception_passes_through(tmp_path: Path) -> None:
    def work(ranks: Ranks) -> int:
        model = network()
        trainer, _ = made_trainer(tmp_path, ranks, model, [])
        compute, calls = trainer.compute_loss, []

        def failing(*args: Any, **kwargs: Any) -> Any:
            calls.append(1)
            if len(calls) == 6:
                raise ValueError("no such thing")
            return compute(*args, **kwargs)

        trainer.compute_loss = failing
        threads = threading.active_count()
        with pytest.raises(ValueError, match="^no such thing$"):
            trainer.train()
        assert not model._forward_hooks
        return threading.active_count() - threads

    assert on_ranks(1, work, tmp_path) == [0]
    last = journal(tmp_path / "runs")[-1]
    assert (last.state, last.step) == ("crashed", 5)
    assert "no such thing" in last.reason


def test_a_training_ends_as_finished_and_the_trainers_own_plans_hold(tmp_path: Path) -> None:
    def work(ranks: Ranks) -> list[int]:
        trainer, _ = made_trainer(
            tmp_path, ranks, network(), [], num_train_epochs=2, eval_strategy="steps", eval_steps=10, logging_steps=10
        )
        trainer.train()
        return [entry["step"] for entry in trainer.state.log_history if "eval_loss" in entry]

    (evaluated,) = on_ranks(1, work, tmp_path)
    told = journal(tmp_path / "runs")
    assert states(told)[-1] == "finished"
    assert [event.step for event in told if isinstance(event, events.Evaluated)] == evaluated == [10, 20, 30, 40]


def test_an_evaluation_that_is_asked_for_takes_the_place_of_none_that_is_planned(tmp_path: Path) -> None:
    def work(ranks: Ranks) -> int:
        trainer, _ = made_trainer(tmp_path, ranks, network(), [], eval_strategy="steps", eval_steps=10)

        def script(person: Person) -> None:
            at = person.does(commands.Pause())
            while at % 10 or not at:
                person.does(commands.StepOnce())
                at = person.watcher.until_kind(events.TrainPoint).step
            person.does(commands.Evaluate())
            person.does(commands.Stop())

        with Person(tmp_path / "runs", script):
            trainer.train()
        return trainer.state.global_step

    (steps,) = on_ranks(1, work, tmp_path)
    assert steps % 10 == 0
    evaluated = [event.step for event in journal(tmp_path / "runs") if isinstance(event, events.Evaluated)]
    assert evaluated.count(steps) == 2


def short(folder: Path, ranks: Ranks, watched: bool = True) -> dict[str, torch.Tensor]:
    """Train for two short epochs; return the weights."""
    model = network()
    if watched:
        trainer, _ = made_trainer(folder, ranks, model, [], num_train_epochs=2, logging_steps=5)
    else:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(finetui, "TransformersCallback", lambda **_: hf.TrainerCallback())
            trainer, _ = made_trainer(folder, ranks, model, [], num_train_epochs=2, logging_steps=5)
    trainer.train()
    assert not any(one._forward_hooks for one in model.modules())
    return weights(model)


@pytest.mark.parametrize("name", [*called_by(hf.TrainerCallback, finetui.TransformersCallback), "_close", "_obey"])
def test_a_fault_of_finetuis_own_is_a_warning(name: str, tmp_path: Path) -> None:
    def work(ranks: Ranks) -> Any:
        plain = short(tmp_path / "plain", ranks, watched=False)
        method = getattr(finetui.TransformersCallback, name)
        found, said = trained_with_a_fault(lambda: short(tmp_path, ranks), method)
        return moved(plain, found), said

    ((changed, said),) = on_ranks(1, work, tmp_path)
    assert not changed
    assert len(said) == 1
    assert "Fault: of finetui's own" in said[0]


class Recording(hf.TrainerCallback):
    """Another callback: notes what it sees of evaluations."""

    def __init__(self) -> None:
        self.seen: list[int] = []
        self.batches = 0

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.seen.append(state.global_step)

    def on_prediction_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.batches += 1


def test_an_evaluation_that_is_asked_for_is_seen_by_nobody_else(tmp_path: Path) -> None:
    def work(ranks: Ranks) -> Any:
        recording, model = Recording(), network()
        early = hf.EarlyStoppingCallback(10**6, 100.0)  # none is better than the first
        trainer, _ = made_trainer(
            tmp_path, ranks, model, [], logging_steps=1, save_strategy="best", metric_for_best_model="eval_loss"
        )
        trainer.add_callback(recording)
        trainer.add_callback(early)
        told: dict[str, Any] = {}

        def state() -> list[Any]:
            told_of = [dict(vars(trainer.state)), dict(vars(trainer.control)), list(trainer.state.log_history)]
            return [*told_of, torch.get_rng_state().tolist(), [one.training for one in model.modules()]]

        def script(person: Person) -> None:
            told["at"], told["same"] = person.evaluates_three_times(state)

        with Person(tmp_path / "runs", script):
            trainer.train()
        history = [entry["step"] for entry in trainer.state.log_history if "eval_loss" in entry]
        return told, recording.seen, recording.batches, early.early_stopping_patience_counter, history

    ((told, seen, batches, waited, history),) = on_ranks(1, work, tmp_path)
    assert told["same"] == [True] * 5
    assert history == seen
    assert batches == 7 * len(seen)  # 101 images, 16 at a time
    assert waited == len(seen) - 1
    evaluated = [event.step for event in journal(tmp_path / "runs") if isinstance(event, events.Evaluated)]
    assert evaluated == sorted([*seen, *[told["at"]] * 3])
