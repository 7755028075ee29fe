"""A wall clock that jumps and a time zone that changes: order, speeds and the time left stay sane."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from steered import at

from finetui.engine.link.frames import Welcome
from finetui.engine.link.history import History
from finetui.engine.protocol.commands import Stop
from finetui.engine.protocol.config_file import load
from finetui.engine.protocol.events import StateChanged, TrainPoint
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.journal import JournalReader
from finetui.engine.runs.summaries import summarise_run
from finetui.engine.session.session import Session
from finetui.tui.state.store import Store

LIBRARIES = (
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
)
DAY = 86_400.0
# The library lets a C function fail by which Python sleeps, whatever the clock: nothing that this test is about.
SLEEP = "import select, time\n\ntime.sleep = lambda seconds: select.select([], [], [], seconds) and None\n"


def assert_sane(folder: RunFolder, steps: int) -> None:
    events = list(JournalReader(folder.journal).read())
    assert [event.seq for event in events] == list(range(len(events)))
    points = [event for event in events if isinstance(event, TrainPoint)]
    assert sum(point.steps for point in points) == steps
    assert all(0 < point.samples_per_second < 1e7 for point in points)
    store = Store()
    for event in events:
        store.fold([event])
        left = store.seconds_left
        assert left is None or 0 <= left < DAY
    assert store.view.state == "finished"
    x, _ = store.curves.train["loss"].points()
    assert x.tolist() == sorted(x.tolist())


def test_a_clock_that_jumps_while_it_trains(make_config, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 28: back by a year, and ahead by ten, from one step to the next."""
    now, steps = time.time, []

    def jumping() -> float:
        return now() + (-365 * DAY, 0.0, 3650 * DAY)[len(steps) // 7 % 3]

    monkeypatch.setattr(time, "time", jumping)
    config = make_config(epochs=2, batch_size=20, name="jumps")
    outcome = Session(config, on_step=lambda step, _loss: steps.append(step)).run()
    assert outcome.folder is not None
    times = [event.time for event in JournalReader(outcome.folder.journal).read()]
    assert times != sorted(times), "the clock was meant to jump"
    assert_sane(outcome.folder, 400)
    # Whoever attaches gets it in the order of what happened, not of the clock.
    told = list(History().expand(Welcome(journal=str(outcome.folder.journal), next_seq=10_000)))
    assert [event.seq for event in told] == list(range(len(told)))


def test_a_run_that_is_resumed_before_it_was_stopped(make_config, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 28: the machine came back from its repair with a clock of last year."""
    folder = Session(make_config(epochs=2, name="repaired"), script=at((30, Stop()))).run().folder
    assert folder is not None
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() - 365 * DAY)
    Session(load(folder.config), resume=folder).run()
    assert_sane(folder, 80)
    summary = summarise_run(folder)
    assert summary is not None
    assert (summary.state, summary.step) == ("finished", 80)


@pytest.mark.slow
@pytest.mark.skipif(not any(map(os.path.exists, LIBRARIES)), reason="needs libfaketime (Debian: apt install faketime)")
def test_a_whole_program_whose_clock_and_time_zone_jump(tmp_path: Path) -> None:
    """Row 28: the same with every clock of the C library but the monotonic one, as a person would run it."""
    library = next(path for path in LIBRARIES if Path(path).exists())
    clock = tmp_path / "clock"
    clock.write_text("+0")
    (tmp_path / "sitecustomize.py").write_text(SLEEP)
    environment = os.environ | {
        "LD_PRELOAD": library,
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "TZ": "Pacific/Kiritimati",
        "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep),
    }
    command = [sys.executable, "-m", "finetui", "train", "--data", "mnist-sample", "--device", "cpu", "--name", "jumps"]
    process = subprocess.Popen(
        [*command, "--epochs", "12", "--batch-size", "64"], cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL
    )
    folder = RunFolder(tmp_path / "checkpoints" / "jumps")
    jumps = ["-400d", "+3650d", "-2h", "+0"]
    told = 0
    while process.poll() is None:
        lines = folder.journal.read_bytes().count(b"\n") if folder.journal.exists() else 0
        # Two more, since the first of them may have got its time before the last jump.
        if jumps and lines >= told + 2:
            clock.write_text(jumps.pop(0))
            told = lines
        time.sleep(0.05)
    assert process.returncode == 0
    assert not jumps, "the training was over too soon"
    times = [event.time for event in JournalReader(folder.journal).read()]
    assert max(times) - min(times) > 3000 * DAY
    assert_sane(folder, 12 * 63)
    (end,) = [event for event in JournalReader(folder.journal).read() if isinstance(event, StateChanged)][-1:]
    assert end.state == "finished"
