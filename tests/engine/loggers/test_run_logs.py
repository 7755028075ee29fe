"""Logs beside a training: what is slow, missing or broken there is said, and nothing waits for it."""

import io
import subprocess
import sys
import time
from pathlib import Path

import pytest
from logged_runs import logged, rows, run_steered, steps
from steered import at

from finetui.engine.errors import BadInput
from finetui.engine.loggers import run_logs, writer
from finetui.engine.loggers.base import About, RunLog
from finetui.engine.protocol.commands import Stop
from finetui.engine.protocol.config import RunConfig, RunSection
from finetui.engine.protocol.events import Log, StateChanged, TrainPoint
from finetui.engine.runs.journal import encode_line
from finetui.engine.session.replay import replay_run
from finetui.engine.session.session import Session

LIBRARY = "Error = ValueError\nclass Run: pass\nSettings = dict\ndef init(**_):"


@pytest.fixture
def fake_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Return what puts a library in the place of W&B's, for this process and those that it starts."""

    def put(code: str) -> None:
        folder = tmp_path / "libraries"
        folder.mkdir()
        (folder / "wandb.py").write_text(code)
        monkeypatch.syspath_prepend(str(folder))
        monkeypatch.setenv("PYTHONPATH", f"{folder}:{':'.join(filter(None, sys.path))}")

    return put


def warnings_of(recorder) -> list[str]:
    return [event.message for event in recorder.of(Log) if event.level == "warning"]


def test_a_library_that_raises_is_said_once_and_costs_the_training_nothing(make_config, recorder, fake_wandb) -> None:
    fake_wandb(f"print('hello from a library')\n{LIBRARY} raise RuntimeError('no runs today')")
    folder = run_steered(logged(make_config(), "wandb", "csv"), recorder)
    assert [line for line in warnings_of(recorder) if "wandb" in line] == [
        "the wandb log has ended: RuntimeError: no runs today"
    ]
    assert recorder.states()[-1] == "finished"
    assert steps(folder)[-1] == 40
    assert "hello from a library" in (folder.path / "wandb.log").read_text()


def test_a_library_that_hangs_is_left_behind(make_config, recorder, fake_wandb, monkeypatch) -> None:
    fake_wandb(f"import time\n{LIBRARY} time.sleep(1000)")
    monkeypatch.setattr(run_logs, "_END_SECONDS", 0.1)
    Session(logged(make_config(), "wandb"), sinks=[recorder]).run()
    assert recorder.states()[-1] == "finished"
    assert [line for line in warnings_of(recorder) if "wandb" in line] == [
        "the wandb log did not finish in time, and is incomplete"
    ]


def test_one_that_takes_long_is_left_to_itself_by_a_run_that_is_stopped(
    make_config, recorder, fake_wandb, monkeypatch, tmp_path: Path
) -> None:
    wait = f"while not os.path.exists('{tmp_path}/go'): time.sleep(0.01)"
    fake_wandb(f"import os, time\n{LIBRARY}\n {wait}\n open('{tmp_path}/came', 'w').close()")
    monkeypatch.setattr(run_logs, "_STOP_SECONDS", 3.0)
    outcome = Session(logged(make_config(), "wandb"), sinks=[recorder], script=at((5, Stop()))).run()
    assert outcome.state == "stopped"
    assert not [line for line in warnings_of(recorder) if "not complete" in line]
    assert not (tmp_path / "came").exists()
    (tmp_path / "go").touch()
    deadline = time.monotonic() + 60
    while not (tmp_path / "came").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert (tmp_path / "came").exists()


def test_points_that_a_slow_log_does_not_take_are_dropped_and_counted(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(run_logs._Log, "_feed", lambda self: None)  # it takes nothing
    log = run_logs._Log("csv", run_logs.RunFolder(tmp_path), b"", said := run_logs.deque())
    point = TrainPoint(
        epoch=1,
        step_in_epoch=1,
        steps=1,
        loss=1.0,
        accuracy=0.0,
        learning_rate=0.1,
        grad_norm=1.0,
        samples_per_second=1,
    )
    for _ in range(20_000):
        log.put(point)
    log.put(StateChanged(state="finished"))
    assert 9_000 <= log._queue.qsize() < 10_000
    log.end()
    log.wait(1.0)
    assert said == run_logs.deque(["the csv log was too slow: 10,999 events are missing from it"])


def test_a_log_that_cannot_be_tidied_up_has_ended_all_the_same(monkeypatch, tmp_path: Path) -> None:
    def fail(_log: object) -> None:
        raise OSError(13, "Permission denied")

    monkeypatch.setattr(run_logs._Log, "_tidy", fail)
    begun = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    start = lambda _log: subprocess.Popen(begun, stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # noqa: E731
    monkeypatch.setattr(run_logs._Log, "_start", start)
    log = run_logs._Log("csv", run_logs.RunFolder(tmp_path), b"", said := run_logs.deque())
    log.end()
    log._thread.join(60)
    assert not log._thread.is_alive()
    assert log._process.stdout.closed
    assert said == run_logs.deque(["the csv log has ended: Permission denied"])


def test_a_library_that_is_not_installed_is_said_before_anything_begins(make_config, monkeypatch, recorder) -> None:
    monkeypatch.setattr("finetui.engine.loggers.available.find_spec", lambda _name: None)
    with pytest.raises(
        BadInput, match=r"run.log \(--log\): trackio is not installed: pip install 'finetui\[trackio\]'"
    ):
        Session(logged(make_config(), "csv", "trackio"), sinks=[recorder]).run()
    assert recorder.states() == ["preparing", "failed"]


def test_a_log_that_is_none_is_refused() -> None:
    with pytest.raises(BadInput, match="there is no log 'tensorbord'.*tensorboard"):
        RunConfig(run=RunSection(log=("tensorbord",)))
    with pytest.raises(BadInput, match="no log twice"):
        RunConfig(run=RunSection(log=("csv", "csv")))


def test_a_replay_is_not_logged_again(make_config) -> None:
    folder = run_steered(logged(make_config(), "csv"))
    again = replay_run(folder)
    assert again.different_at is None
    assert not (again.folder.path / "csv").exists()


class _Moody(RunLog):
    """A log that cannot be written at first."""

    failures = 3
    taken: list[tuple[int, str]] = []

    def note(self, step: int, time: float, text: str) -> None:
        if _Moody.failures:
            _Moody.failures -= 1
            raise OSError(28, "No space left on device")
        self.taken.append((step, text))


def test_what_a_full_disk_does_not_take_is_written_once_there_is_room(monkeypatch) -> None:
    monkeypatch.setattr(writer, "_RETRY_SECONDS", 0.0)
    monkeypatch.setattr(writer._Writer, "_make", lambda _self, _about: _Moody())
    about = About(
        name="a", folder="/nowhere", id="1", config=RunConfig(), classes=(), groups=(), watched="test"
    )  # fmt: skip
    lines = [writer.msgspec.json.encode(writer.Beginning(about=about, layers=())) + b"\n"]
    lines += [encode_line(StateChanged(state="paused", step=step)) for step in range(6)]
    answers = io.BytesIO()
    source = io.BytesIO(b"".join(lines) + b'{"type":"state_ch')  # the engine was killed in the middle of a line
    assert writer._Writer("csv", source, answers).run() == 0
    assert _Moody.taken == [(step, "paused") for step in range(6)]
    assert answers.getvalue().decode().splitlines() == [
        "the csv log cannot be written: No space left on device; trying again",
        "the csv log can be written again",
    ]


def test_the_log_of_a_killed_engine_is_whole(make_config, tmp_path: Path) -> None:
    """The process that writes it lives on until all is there, and the next one waits for it."""
    folder = run_steered(logged(make_config(), "csv"))
    before = rows(folder, "train")
    logs = run_logs.RunLogs(("csv",), folder)
    logs(StateChanged(state="running", step=40))
    deadline = time.monotonic() + 60
    while rows(folder, "changes")[-1]["change"] != "running" and time.monotonic() < deadline:
        time.sleep(0.01)  # it has the lock from here on
    for step in range(41, 141):
        last = before[-1]
        logs(
            TrainPoint(
                step=step, epoch=2, step_in_epoch=1, steps=1, loss=float(last["loss"]), accuracy=0.5, learning_rate=0.1,
                grad_norm=1.0, samples_per_second=1.0,
            )
        )  # fmt: skip
    other = run_logs.RunLogs(("csv",), folder)  # as if the first engine were gone
    other(StateChanged(state="paused", step=140))
    logs.close()
    other.close()
    assert steps(folder)[len(before) :] == list(range(41, 141))
    assert rows(folder, "changes")[-1]["change"] == "paused"
    assert logs.take_message() is None
