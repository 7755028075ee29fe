"""A run that was steered by hand is run again from its journal, and ends with the same weights."""

import re
import shutil

import msgspec
import odd_networks
import pytest
from steered import at

from finetui.engine.checkpoints import checkpoint
from finetui.engine.errors import BadInput
from finetui.engine.protocol.commands import (
    FinetunePlan,
    RollBack,
    Save,
    SetFrozen,
    SetFrozenNorm,
    SetLearningRate,
    StartFinetune,
    Stop,
)
from finetui.engine.protocol.config_file import load
from finetui.engine.protocol.events import CommandAccepted, LearningRateChanged
from finetui.engine.runs import kept_checkpoints
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.journal import JournalReader
from finetui.engine.session.replay import read_recording, replay_run
from finetui.engine.session.session import Session
from finetui.engine.training import freezing

STEERED = (
    (10, SetLearningRate(value=0.03, by="somebody")),
    (15, Save(name="mark")),
    (20, SetFrozen(groups=("conv1",), frozen=True)),
    (33, SetFrozen(groups=("conv1",), frozen=False)),
    (35, RollBack(checkpoint="mark", rate_factor=0.5)),
)


def steered(make_config, *more, **settings) -> RunFolder:
    config = make_config(name="steered", epochs=2, **({"schedule": "cosine", "momentum": 0.8} | settings))
    folder = Session(config, script=at(*STEERED, *more)).run().folder
    assert folder is not None
    return folder


def test_a_hand_steered_run_with_a_rollback_is_replayed_to_the_same_weights(make_config) -> None:
    folder = steered(make_config, (30, SetFrozen(groups=("fc1",), frozen=True)))
    found = replay_run(folder)
    assert found.complete
    assert found.different_at is None
    assert found.compared >= 3
    assert found.folder.name == "steered-replay"
    weights = [checkpoint.digest(checkpoint.load(f.last)[1]) for f in (folder, found.folder)]
    assert weights[0] == weights[1]
    # What was undone is not done again: neither is conv1 frozen nor the first rate there to the end.
    told = [event for event in JournalReader(found.folder.journal).read() if isinstance(event, CommandAccepted)]
    changes = [(event.step, type(event.command).__name__) for event in told if event.command.by == "replay"]
    assert changes == [(10, "SetLearningRate"), (15, "Save"), (15, "SetLearningRate"), (30, "SetFrozen")]


def test_a_rate_that_is_given_back_to_the_schedule_leaves_no_trace(make_config) -> None:
    config = make_config(name="plain", epochs=2, schedule="cosine")
    plain = Session(config).run().folder
    back = at((10, SetLearningRate(value=0.03)), (10, SetLearningRate(value=1.0, factor=1.0)))
    touched = Session(make_config(name="touched", epochs=2, schedule="cosine"), script=back).run().folder
    assert checkpoint.digest(checkpoint.load(plain.last)[1]) == checkpoint.digest(checkpoint.load(touched.last)[1])
    told = [event for event in JournalReader(touched.journal).read() if isinstance(event, LearningRateChanged)]
    assert [event.factor for event in told] == [pytest.approx(0.03 / told[1].learning_rate), 1.0]
    assert replay_run(touched).different_at is None


def test_a_stopped_and_resumed_run_is_replayed_to_where_it_was_stopped(make_config) -> None:
    folder = steered(make_config, (30, Stop()))
    Session(load(folder.config), resume=folder, script=at((50, SetLearningRate(value=0.001)), (61, Stop()))).run()
    found = replay_run(folder, name="again")
    assert (found.folder.name, found.recording.end) == ("again", 61)
    assert found.complete
    assert found.different_at is None


def test_a_difference_is_found_and_where_it_was_first_seen(make_config) -> None:
    folder = steered(make_config)
    lines = folder.journal.read_bytes().splitlines(keepends=True)
    told = rb'"learning_rate":0\.03,"factor":[0-9.]+'
    changed = [re.sub(told, b'"learning_rate":0.031,"factor":null', line) for line in lines]
    assert changed != lines
    folder.journal.write_bytes(b"".join(changed))
    found = replay_run(folder)
    assert found.different_at == 15  # the named checkpoint, the first one after the rate was changed


def test_a_finetune_with_frozen_normalisation_is_replayed(make_config) -> None:
    import msgspec

    from finetui.engine.protocol.config import FinetuneConfig

    parent = Session(make_config(name="parent")).run().folder
    assert parent is not None
    config = make_config(name="child", epochs=3)
    config = msgspec.structs.replace(config, finetune=FinetuneConfig(parent=str(parent.last), recipe="gradual"))
    changes = at((20, SetFrozenNorm(trains=True)), (50, SetFrozen(groups=("fc1",), frozen=True)))
    folder = Session(config, script=changes).run().folder
    assert folder is not None
    found = replay_run(folder)
    assert found.complete
    assert found.different_at is None


def test_a_finetune_is_replayed_also_when_its_parent_has_gone_on(make_config) -> None:
    plan = StartFinetune(plan=FinetunePlan(recipe="linear-probe", epochs=1))
    first = Session(make_config(name="parent", epochs=2), script=at((30, plan))).run()
    assert first.next is not None
    assert first.folder is not None
    child = Session(first.next).run().folder
    Session(load(first.folder.config), resume=first.folder).run()  # its last checkpoint is another one now
    assert child is not None
    found = replay_run(child)
    assert found.complete
    assert found.different_at is None


def test_a_checkpoint_that_a_finetune_begins_with_is_kept_where_a_later_one_would_take_its_place(make_config) -> None:
    folder = steered(make_config)
    start = kept_checkpoints.lasting(folder.best)
    assert start not in (folder.best, folder.last)
    assert start.samefile(folder.best)
    assert kept_checkpoints.lasting(start) == start
    assert kept_checkpoints.lasting(folder.checkpoint("mark")) == folder.checkpoint("mark")
    elsewhere = folder.path.parent / "last.ckpt"  # no run's
    shutil.copy(folder.last, elsewhere)
    assert kept_checkpoints.lasting(elsewhere) == elsewhere


def test_a_journal_without_a_beginning_cannot_be_replayed(make_config) -> None:
    folder = steered(make_config)
    lines = folder.journal.read_bytes().splitlines(keepends=True)
    folder.journal.write_bytes(b"".join(lines[10:]))
    with pytest.raises(BadInput, match="does not say how the run began"):
        read_recording(folder)


def test_a_run_that_trained_what_the_owner_froze_is_replayed_so(make_config, monkeypatch) -> None:
    """Earlier versions did, and their journals show those layers as training."""
    config = make_config()
    own = msgspec.structs.replace(config.model, name=f"{odd_networks.__file__}:Frozen")
    config = msgspec.structs.replace(config, model=own)
    with monkeypatch.context() as patch:
        patch.setattr(freezing, "frozen_by_owner", lambda _model, _groups: (frozenset(), frozenset()))
        outcome = Session(config).run()
    found = replay_run(outcome.folder)
    assert (found.different_at, found.complete) == (None, True)
    # And one that left it frozen, as runs do now.
    found = replay_run(Session(config).run().folder)
    assert (found.different_at, found.complete) == (None, True)
