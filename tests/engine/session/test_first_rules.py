"""A run that was trained by the first rules (tests/fixtures/first_rules) is replayed by them."""

import shutil
from pathlib import Path

import pytest

from finetui.engine.protocol.events import Evaluated, RunPrepared, TrainPoint
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.journal import JournalReader
from finetui.engine.session.replay import replay_run

FIXTURE = Path(__file__).parents[2] / "fixtures" / "first_rules"


def test_its_cycle_warm_up_and_thawed_layer_are_those_of_then(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "then")
    shutil.copytree(FIXTURE, folder.path)
    found = replay_run(folder)
    assert found.complete
    then, now = (list(JournalReader(one.journal).read()) for one in (folder, found.folder))
    assert {event.rules for event in then + now if isinstance(event, RunPrepared)} == {1}
    rates = [{e.step: e.learning_rate for e in events if isinstance(e, TrainPoint)} for events in (then, now)]
    common = rates[0].keys() & rates[1].keys()
    assert len(common) >= 3  # the ends of the epochs, at least
    assert [rates[1][step] for step in sorted(common)] == [rates[0][step] for step in sorted(common)]
    # Another processor may round otherwise.
    losses = [[event.loss for event in events if isinstance(event, Evaluated)] for events in (then, now)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-2)


def test_a_new_run_is_by_the_present_rules(make_config, recorder) -> None:
    from finetui.engine.checkpoints import checkpoint
    from finetui.engine.session.session import Session
    from finetui.engine.training.rules import CURRENT

    folder = Session(make_config(), sinks=[recorder]).run().folder
    assert folder is not None
    assert [event.rules for event in recorder.of(RunPrepared)] == [CURRENT]
    assert checkpoint.load(folder.last)[2]["rules"] == CURRENT
