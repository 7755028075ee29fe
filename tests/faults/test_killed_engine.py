"""An engine that is killed without a warning, again and again: the run ends as one that never was."""

import os
import random
import stat
import time
from pathlib import Path

import msgspec
import pytest
from forked import ForkedSession
from steered import at

from finetui.engine.checkpoints import checkpoint
from finetui.engine.protocol.config import CheckpointsConfig, RunConfig
from finetui.engine.protocol.events import Evaluated, Rewound
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.journal import JournalReader
from finetui.engine.runs.lineage import effective
from finetui.engine.runs.lock import holder_of
from finetui.engine.session.session import Session


def often(config: RunConfig, steps: int = 3) -> RunConfig:
    return msgspec.structs.replace(config, checkpoints=CheckpointsConfig(every_steps=steps, every_minutes=0))


def kill_at_random(config: RunConfig, kills: int, seed: int, longest: float) -> RunFolder:
    """Start the run, and kill whatever trains it `kills` times, after up to `longest` seconds; then let it end."""
    chooser = random.Random(seed)
    folder = RunFolder(Path(config.run.runs_dir) / config.run.name)
    for _ in range(kills):
        known = folder.last.is_file()
        session = ForkedSession(config, resume=folder if known else None, step_seconds=0.1)
        assert session.until_running(), "it could not go on"
        time.sleep(chooser.uniform(0, longest))
        session.kill()
        session.wait()
        assert holder_of(folder) is None
    assert ForkedSession(config, resume=folder).wait() == 0
    return folder


def assert_as_if_nothing_had_been(folder: RunFolder, whole: RunFolder) -> None:
    (_, weights, training), (_, expected, wanted) = (checkpoint.load(f.last) for f in (folder, whole))
    assert checkpoint.digest(weights) == checkpoint.digest(expected)
    assert training["step"] == wanted["step"]
    accuracies = [
        [event.accuracy for event in effective(JournalReader(f.journal).read()) if isinstance(event, Evaluated)]
        for f in (folder, whole)
    ]
    assert accuracies[0] == accuracies[1]
    assert list(folder.path.glob(".*.tmp")) == []


@pytest.mark.parametrize(("kills", "epochs"), [(5, 2), pytest.param(100, 40, marks=pytest.mark.slow)])
@pytest.mark.timeout(600)
def test_a_run_that_is_killed_again_and_again_ends_with_the_same_weights(make_config, kills: int, epochs: int) -> None:
    """Row 15: killed at random moments, also while a checkpoint or the journal is written."""
    whole = Session(make_config(epochs=epochs, name="whole")).run().folder
    assert whole is not None
    config = often(make_config(epochs=epochs, name="killed"), steps=1)
    folder = kill_at_random(config, kills, seed=15, longest=0.25)
    assert_as_if_nothing_had_been(folder, whole)
    rewound = [event for event in JournalReader(folder.journal).read() if isinstance(event, Rewound)]
    assert len(rewound) == kills


def test_a_save_that_is_killed_in_the_middle_leaves_the_checkpoint_before_it(make_config, tmp_path: Path) -> None:
    """Row 15: killed between the writing of the new file and its renaming, with the temporary file left behind."""
    config = often(make_config(epochs=1, name="killed"))
    writes = {"n": 0}
    sync = os.fsync

    def stall() -> None:
        def fsync(descriptor: int) -> None:
            sync(descriptor)
            if stat.S_ISREG(os.fstat(descriptor).st_mode):  # folders are synced as well
                writes["n"] += 1
                if writes["n"] >= 6:
                    os.kill(os.getpid(), 9)

        os.fsync = fsync

    assert ForkedSession(config, before=stall).wait() == -9
    folder = RunFolder(Path(config.run.runs_dir) / "killed")
    left = list(folder.path.glob(".*.tmp"))
    assert checkpoint.load(folder.last)[2]["step"] > 0
    whole = Session(make_config(epochs=1, name="whole")).run().folder
    assert whole is not None
    Session(config, resume=folder, script=at()).run()
    assert_as_if_nothing_had_been(folder, whole)
    assert left, "the test was meant to leave a temporary file"
