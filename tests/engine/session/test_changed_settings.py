"""A run goes on by other settings: the same up to there, told by the journal, kept, and replayed."""

import msgspec
import pytest
import torch
from small_trainer import make_trainer
from steered import at

from finetui.engine.checkpoints import checkpoint
from finetui.engine.errors import BadInput
from finetui.engine.protocol.commands import ChangeTraining, RollBack, Save, Stop
from finetui.engine.protocol.config_file import load
from finetui.engine.protocol.events import Evaluated, StateChanged, TrainingChanged
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.journal import JournalReader
from finetui.engine.runs.resume import extended, resumable, with_changes
from finetui.engine.session.replay import replay_run
from finetui.engine.session.session import Session
from finetui.engine.training.recipes import Stage, stretched

STOPPED = 33  # in the middle of the first epoch, of 40 steps


def events_of(folder: RunFolder, kind: type) -> list:
    return [event for event in JournalReader(folder.journal).read() if isinstance(event, kind)]


def same_again(folder: RunFolder, name: str = "") -> None:
    found = replay_run(folder, name=name)
    assert found.complete
    assert found.different_at is None
    assert found.compared >= 2


def begun(make_config, *script, **settings) -> RunFolder:
    config = make_config(name="changed", epochs=2, **({"momentum": 0.8, "schedule": "one-cycle"} | settings))
    folder = Session(config, script=at(*(script or ((STOPPED, Stop()),)))).run().folder
    assert folder is not None
    return folder


CHANGES = {
    "rate": {"lr": 0.002},
    "schedule": {"schedule": "cosine"},
    "batch size": {"batch_size": 32},
    "larger batches": {"batch_size": 700},
    "optimizer": {"optimizer": "adamw", "lr": 0.001},
    "epochs": {"epochs": 3},
    "all": {"lr": 0.004, "schedule": "step", "batch_size": 64, "epochs": 3, "label_smoothing": 0.1},
}


@pytest.mark.parametrize("changes", CHANGES.values(), ids=CHANGES.keys())
def test_a_run_that_goes_on_by_other_settings_is_replayed(make_config, changes) -> None:
    folder = begun(make_config)
    overrides = {("training", name): value for name, value in changes.items()}
    config = with_changes(resumable(folder), overrides)
    outcome = Session(config, resume=folder).run()
    assert outcome.state == "finished"
    (changed,) = events_of(folder, TrainingChanged)
    assert changed.step == STOPPED
    assert all(getattr(changed.training, name) == value for name, value in changes.items())
    assert load(folder.config).training == changed.training
    assert len(events_of(folder, Evaluated)) == changes.get("epochs", 2)
    same_again(folder)


def test_a_later_resume_keeps_the_change_and_says_nothing(make_config) -> None:
    folder = begun(make_config)
    config = with_changes(resumable(folder), {("training", "batch_size"): 64})
    Session(config, resume=folder, script=at((50, Stop()))).run()
    assert Session(resumable(folder), resume=folder).run().state == "finished"
    assert len(events_of(folder, TrainingChanged)) == 1
    whole = RunFolder(folder.path.with_name("whole"))
    config = make_config(name="whole", epochs=2, momentum=0.8, schedule="one-cycle")
    change = ChangeTraining(training=msgspec.structs.replace(config.training, batch_size=64))
    Session(config, script=at((STOPPED, change))).run()
    digests = [checkpoint.digest(checkpoint.load(one.last)[1]) for one in (folder, whole)]
    assert digests[0] == digests[1]


def test_a_rollback_goes_on_by_the_settings_that_hold(make_config) -> None:
    folder = begun(make_config, (20, Save(name="mark")), (STOPPED, Stop()))
    config = with_changes(resumable(folder), {("training", "batch_size"): 64})
    Session(config, resume=folder, script=at((45, RollBack(checkpoint="mark")))).run()
    assert [event.step for event in events_of(folder, TrainingChanged)] == [STOPPED, 20]
    same_again(folder)


@pytest.mark.parametrize("position", [0, 3, 7])
@pytest.mark.parametrize("size", [3, 8, 12, 60])
def test_every_image_of_an_epoch_comes_once_whatever_the_batch_size_becomes(position: int, size: int) -> None:
    trainer = make_trainer(epochs=2)
    seen: list[int] = []
    batches = trainer._data.batches

    def noted(order, *rest):
        for start in range(0, len(order), trainer.training.batch_size):
            chunk = order[start : start + trainer.training.batch_size]
            for batch in batches(chunk, *rest):
                seen.extend(chunk.tolist())
                yield batch

    trainer._data.batches = noted
    for _ in range(position):
        trainer.train_step()
    trainer.change(msgspec.structs.replace(trainer.training, batch_size=size), ())
    assert trainer.progress <= 1
    while not trainer.epoch_complete:
        trainer.train_step()
    # Batch normalisation cannot train on a last image alone.
    missing = 1 if (64 - position * 8) % size == 1 else 0
    assert len(seen) == len(set(seen)) == 64 - missing
    trainer.end_epoch()
    assert trainer.progress == 1
    seen.clear()
    while not trainer.epoch_complete:
        trainer.train_step()
    assert len(set(seen)) == 64 - (64 % size == 1)


def test_the_schedule_is_that_of_the_new_epochs_from_the_change_on() -> None:
    trainer, longer = (make_trainer(epochs=epochs, schedule="one-cycle") for epochs in (2, 5))
    for _ in range(11):
        trainer.train_step()
        if trainer.epoch_complete:
            trainer.end_epoch()
    trainer.change(longer.training, ())
    assert [trainer.rates.at(step) for step in range(11, 40)] == [longer.rates.at(step) for step in range(11, 40)]


def test_a_rate_that_was_set_by_hand_stays_until_another_one_is_asked_for() -> None:
    trainer = make_trainer()
    trainer.rates.set(0.3, 0)
    trainer.change(msgspec.structs.replace(trainer.training, label_smoothing=0.1), ())
    assert trainer.rates.at(0) == pytest.approx(0.3)
    trainer.change(msgspec.structs.replace(trainer.training, lr=0.01), ())
    assert trainer.rates.at(0) == pytest.approx(0.01)


def test_another_optimizer_begins_without_what_the_old_one_knew() -> None:
    trainer = make_trainer()
    trainer.set_frozen(["stem"], frozen=True)
    trainer.train_step()
    trainer.change(msgspec.structs.replace(trainer.training, optimizer="adamw", lr=0.001), ())
    assert not trainer.optimizer.state
    trainer.train_step()
    known = {name for name, p in trainer.model.named_parameters() if trainer.optimizer.state.get(p)}
    assert known
    assert not any(name.startswith("stem.") for name in known)
    assert isinstance(trainer.optimizer, torch.optim.AdamW)


def test_a_finished_run_is_extended_and_replayed(make_config) -> None:
    folder = begun(make_config, (10**6, Stop()))
    with pytest.raises(BadInput, match=r"finetui extend .* --epochs N"):
        resumable(folder)
    with pytest.raises(BadInput, match="has already trained 2 epochs; --epochs is the total"):
        extended(folder, 2)
    outcome = Session(extended(folder, 3), resume=folder).run()
    assert outcome.state == "finished"
    assert [event.epoch for event in events_of(folder, Evaluated)] == [1, 2, 3]
    assert [event.step for event in events_of(folder, TrainingChanged)] == [80]
    assert load(folder.config).training.epochs == 3
    # And once more, by other batches, so that its end is not where the first ones would have it.
    config = with_changes(resumable(folder, epochs=4), {("training", "epochs"): 4, ("training", "batch_size"): 64})
    Session(config, resume=folder).run()
    assert [event.step for event in events_of(folder, TrainingChanged)] == [80, 120]
    same_again(folder)


def test_a_recipe_is_extended_by_its_last_stage() -> None:
    plan = (Stage(name="head", epochs=2, frozen=("a",)), Stage(name="all", epochs=3))
    assert [stage.epochs for stage in stretched(plan, 9)] == [2, 7]
    assert [stage.epochs for stage in stretched(plan, 3)] == [2, 1]
    assert [stage.name for stage in stretched(plan, 1)] == ["head"]


def test_early_stopping_finishes_the_run_and_says_which_epoch_was_best(make_config) -> None:
    config = make_config(name="early", epochs=20, lr=1e-9)
    config = msgspec.structs.replace(config, guards=msgspec.structs.replace(config.guards, early_stop=2))
    outcome = Session(config).run()
    folder = outcome.folder
    assert folder is not None
    accuracies = [event.accuracy for event in events_of(folder, Evaluated)]
    assert len(accuracies) == 3  # at this rate nothing improves
    last = events_of(folder, StateChanged)[-1]
    assert last.state == "finished"
    assert last.reason == f"stopped early: no improvement for 2 epochs; best epoch 1 (accuracy {accuracies[0]:.2%})"
    same_again(folder)
    # It goes on where somebody wants it to, without stopping early; and that is replayed as well.
    Session(extended(folder, 5), resume=folder).run()
    assert [event.epoch for event in events_of(folder, Evaluated)] == [1, 2, 3, 4, 5]
    same_again(folder, "early-again")


def test_patience_survives_a_stop(make_config) -> None:
    config = make_config(name="early", epochs=20, lr=1e-9)
    config = msgspec.structs.replace(config, guards=msgspec.structs.replace(config.guards, early_stop=3))
    folder = Session(config, script=at((90, Stop()))).run().folder
    assert folder is not None
    assert Session(resumable(folder), resume=folder).run().state == "finished"
    assert [event.epoch for event in events_of(folder, Evaluated)] == [1, 2, 3, 4]


def test_the_best_checkpoint_is_chosen_by_the_figure_that_was_asked_for(make_config) -> None:
    for by in ("loss", "macro-f1", "balanced-accuracy", "top5"):
        config = make_config(name=by, epochs=3, lr=0.05, momentum=0.9)
        config = msgspec.structs.replace(config, checkpoints=msgspec.structs.replace(config.checkpoints, best_by=by))
        folder = Session(config).run().folder
        assert folder is not None
        found = events_of(folder, Evaluated)
        assert {event.best_by for event in found} == {by}
        figures = [-event.figure if by == "loss" else event.figure for event in found]
        assert [event.best for event in found] == [
            index == 0 or figure > max(figures[:index]) for index, figure in enumerate(figures)
        ]
        best = found[figures.index(max(figures))]
        assert checkpoint.load(folder.best)[2]["step"] == best.step
        if by == "loss":
            assert [event.figure for event in found] == [event.loss for event in found]
