"""Every link behaves the same: the same tests run through a thread and through a process of its own."""

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from watching import PATIENCE, Watcher, told, until

from finetui.engine.link.base import Link
from finetui.engine.link.journal_link import CheckpointLink, JournalLink
from finetui.engine.link.no_link import NoLink
from finetui.engine.link.process_link import ProcessLink
from finetui.engine.predictions.file import load_predictions
from finetui.engine.protocol.commands import (
    DescribeModel,
    Evaluate,
    FetchImages,
    FinetunePlan,
    Pause,
    Resume,
    SetFrozen,
    Start,
    StartFinetune,
    Stop,
)
from finetui.engine.protocol.events import (
    CommandAccepted,
    CommandRefused,
    Evaluated,
    Images,
    LayersChanged,
    Phase,
    RunPrepared,
    RunStarted,
    StateChanged,
    TrainPoint,
)
from finetui.engine.protocol.requests import Inspection
from finetui.engine.runs.folder import RunFolder, find_run
from finetui.engine.runs.journal import JournalReader
from finetui.engine.runs.lock import is_live
from finetui.engine.runs.summaries import summarise_run
from finetui.engine.session.local_link import LocalLink
from finetui.engine.session.session import Session


@pytest.fixture(params=[LocalLink, ProcessLink], ids=["thread", "process"])
def watch(request: pytest.FixtureRequest, watch: Callable[[Link], Watcher]) -> Callable[..., Watcher]:
    return lambda config, **options: watch(request.param(config, **options))


def test_every_link_has_all_that_a_dashboard_needs(make_config, tmp_path: Path) -> None:
    config = make_config()
    links = LocalLink(config), ProcessLink(config), JournalLink(RunFolder(tmp_path)), NoLink()
    wanted = {*Link.__annotations__, *(name for name in vars(Link) if not name.startswith("_"))}
    for link in links:
        assert [name for name in wanted if not hasattr(link, name)] == []
        assert link.capabilities is None or link.capabilities.why_no_others
        assert not link.over


def test_an_engine_in_a_thread_that_has_failed_refuses_commands(make_config) -> None:
    link = LocalLink(make_config(device="cuda:99"))
    thread = threading.Thread(target=link.run)
    thread.start()
    try:
        until(lambda: link.over)
        link.send(Pause())
        *_, refused = link.events.drain()
        assert isinstance(refused, CommandRefused)
        assert refused.reason == "the engine has ended"
    finally:
        link.close()
        thread.join()


def test_an_engine_in_a_thread_that_fails_refuses_what_it_has_not_taken(make_config) -> None:
    link = LocalLink(make_config(device="cuda:99"))
    link.send(Evaluate())
    thread = threading.Thread(target=link.run)
    thread.start()
    try:
        until(lambda: link.over)
        heard: list[object] = []
        until(lambda: heard.extend(link.events.drain()) or any(isinstance(one, CommandRefused) for one in heard))
    finally:
        link.close()
        thread.join()


def test_start_steer_and_finish(watch, make_config) -> None:
    watcher = watch(make_config(epochs=2, batch_size=50))
    watcher.until_state("ready")
    freeze = SetFrozen(groups=("conv1",), frozen=True)
    watcher.link.send(freeze)
    changed = watcher.until_kind(LayersChanged)
    assert [layer.name for layer in changed.layers if layer.frozen] == ["conv1"]
    answer = watcher.until_kind(CommandAccepted)
    assert answer.command.id == freeze.id
    watcher.link.send(Start())
    watcher.link.send(Pause())
    watcher.until_state("paused")
    watcher.link.send(Evaluate())
    assert watcher.until_kind(Evaluated).n == 1000
    watcher.link.send(Resume())
    watcher.until_kind(TrainPoint)
    watcher.until_state("finished")
    # A finished run stays open for as long as somebody looks at it.
    watcher.link.send(Pause())
    refused = watcher.until_kind(CommandRefused)
    assert refused.reason == "all epochs are done"


def test_events_are_the_journals_in_order_and_once(watch, make_config) -> None:
    watcher = watch(make_config(), autostart=True)
    watcher.until_state("finished")
    started = next(event for event in watcher.seen if isinstance(event, RunStarted))
    journal = RunFolder(Path(started.path)).journal
    # In this process they are passed on as they are.
    wanted = told(journal) if isinstance(watcher.link, ProcessLink) else list(JournalReader(journal).read())
    assert [event for event in watcher.seen if event.seq >= 0] == wanted


def test_a_journal_link_shows_a_finished_run_and_refuses_commands(make_config) -> None:
    folder = Session(make_config()).run().folder
    assert folder is not None
    link = JournalLink(folder)
    link.run()
    heard = link.events.drain()
    began = next(event for event in heard if isinstance(event, RunPrepared))
    assert [msgspec.structs.replace(e, capabilities=None) if e is began else e for e in heard] == told(folder.journal)
    assert began.capabilities is not None
    assert began.capabilities.refusal(DescribeModel) is None
    link.send(Pause())
    (refused,) = link.events.drain()
    assert isinstance(refused, CommandRefused)
    assert refused.reason == began.capabilities.refusal(Pause)


def test_a_finetune_follows_on_the_same_link(watch, make_config) -> None:
    watcher = watch(make_config(name="base"), autostart=True)
    watcher.until_state("finished")
    watcher.link.send(StartFinetune(plan=FinetunePlan(recipe="linear-probe")))
    prepared = watcher.until_kind(RunPrepared)
    assert prepared.parent == "base"
    assert prepared.seq == 1
    watcher.until_state("finished")


def test_stop_saves(watch, make_config) -> None:
    watcher = watch(make_config(epochs=1000, name="long"), autostart=True)
    watcher.until_kind(TrainPoint)
    watcher.link.send(Stop())
    stopped = watcher.until_state("stopped")
    folder = find_run("long", Path(make_config().run.runs_dir))
    assert folder.last.is_file()
    assert stopped.step > 0


def test_bad_input_is_told_as_a_failure(watch, make_config) -> None:
    watcher = watch(make_config(batch_size=100_000), autostart=True)
    failed = watcher.until_state("failed")
    assert "--batch-size" in failed.reason
    assert "Traceback" not in failed.reason


def test_a_process_outlives_its_link_and_goes_on_to_the_end(make_config) -> None:
    config = make_config(epochs=3, name="left")
    link = ProcessLink(config, autostart=True)
    watcher = Watcher(link)
    watcher.until_kind(TrainPoint)
    watcher.close()
    folder = find_run("left", Path(config.run.runs_dir))
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and is_live(folder):
        time.sleep(0.05)
    summary = summarise_run(folder)
    assert summary is not None
    assert (summary.state, summary.epoch) == ("finished", 3)
    until(lambda: link.status is not None)
    assert link.status == 0


def test_an_engine_that_nobody_started_leaves_with_its_dashboard(make_config, tmp_path: Path) -> None:
    link = ProcessLink(make_config())
    watcher = Watcher(link)
    watcher.until_state("ready")
    watcher.close()
    until(lambda: link.status is not None)
    assert link.status == 0
    assert not (tmp_path / "runs").exists()


def test_a_killed_engine_is_reported_and_listed_as_crashed(make_config) -> None:
    config = make_config(epochs=1000, name="killed")
    link = ProcessLink(config, autostart=True)
    watcher = Watcher(link)
    watcher.until_kind(TrainPoint)
    assert link.pid is not None
    os.kill(link.pid, signal.SIGKILL)
    crashed = watcher.until_state("crashed")
    assert "signal 9" in crashed.reason
    summary = summarise_run(find_run("killed", Path(config.run.runs_dir)))
    assert summary is not None
    assert summary.state == "crashed"


def test_a_terminated_engine_saves_and_says_so(make_config) -> None:
    config = make_config(epochs=1000, name="terminated")
    link = ProcessLink(config, autostart=True)
    watcher = Watcher(link)
    watcher.until_kind(TrainPoint)
    assert link.pid is not None
    os.kill(link.pid, signal.SIGTERM)
    stopped = watcher.until_state("stopped")
    watcher.thread.join(60)
    assert link._process.returncode == 143
    assert find_run("terminated", Path(config.run.runs_dir)).last.is_file()
    assert stopped.step > 0


def test_a_client_that_sends_garbage_is_dropped_and_nobody_else(make_config) -> None:
    import socket

    link = ProcessLink(make_config(epochs=1000), autostart=True)
    watcher = Watcher(link)
    watcher.until_kind(TrainPoint)
    with socket.socket(socket.AF_UNIX) as intruder:
        intruder.connect(str(link._socket_path))
        intruder.settimeout(10)
        intruder.sendall(b"GET / HTTP/1.1\r\n\r\n" * 100)
        try:
            while intruder.recv(65536):
                pass
        except ConnectionResetError:
            pass  # dropped with our bytes unread: that, too, is being dropped
    watcher.until_kind(TrainPoint)
    watcher.link.send(Stop())
    watcher.until_state("stopped")
    watcher.close()


def test_an_engine_that_is_left_before_there_is_contact_does_not_begin(make_config, tmp_path: Path) -> None:
    link = ProcessLink(make_config(epochs=1000), autostart=True)
    left, spawn = threading.Event(), link._spawn
    link._spawn = lambda: (left.wait(PATIENCE), spawn())[1]
    watcher = Watcher(link)
    link.close()
    left.set()
    watcher.close()
    until(lambda: link.status is not None)
    assert link.status in (0, 143, -signal.SIGTERM)
    assert not (tmp_path / "runs").exists()


def test_an_engine_that_is_stopped_and_left_while_it_prepares_does_not_begin(make_config, tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(
        "import time\nfrom pathlib import Path\nimport numpy\n"
        "def make():\n"
        f"    Path({str(tmp_path)!r}, 'reading').touch()\n"
        f"    while not Path({str(tmp_path)!r}, 'left').exists():\n"
        "        time.sleep(0.01)\n"
        "    images = [(numpy.zeros((28, 28), numpy.uint8), number % 2) for number in range(200)]\n"
        "    return images, images\n"
    )
    link = ProcessLink(make_config(epochs=1000, data=f"{tmp_path / 'slow.py'}:make"), autostart=True)
    watcher = Watcher(link)
    watcher.until_kind(Phase)
    until((tmp_path / "reading").exists)
    link.send(Stop())
    watcher.close()
    (tmp_path / "left").touch()
    until(lambda: link.status is not None)
    assert link.status == 1  # reading the data was cancelled
    assert not (tmp_path / "runs").exists()


def test_a_journal_without_an_end_is_shown_as_crashed(make_config) -> None:
    folder = Session(make_config()).run().folder
    assert folder is not None
    lines = folder.journal.read_bytes().splitlines(keepends=True)
    folder.journal.write_bytes(b"".join(lines[:-1]))
    link = JournalLink(folder)
    link.run()
    last = link.events.drain()[-1]
    assert isinstance(last, StateChanged)
    assert last.state == "crashed"
    assert f"`finetui resume {folder.path}`" in last.reason


def test_a_checkpoint_without_its_run_is_evaluated_and_then_asked_about(make_config, tmp_path: Path) -> None:
    outcome = Session(make_config(name="alone")).run()
    assert outcome.report is not None
    alone = Path(shutil.copy(RunFolder(tmp_path / "runs" / "alone").last, tmp_path / "alone.ckpt"))
    watcher = Watcher(CheckpointLink(Inspection(checkpoint=str(alone), device="cpu")))
    try:
        found = watcher.until_kind(Evaluated)
        assert isinstance(found, Evaluated)
        assert found.accuracy == outcome.report.accuracy
        kept = Path(found.predictions)
        assert int(load_predictions(kept).wrong.sum()) == round(found.n * (1 - found.accuracy))
        watcher.link.send(FetchImages(indices=(0, 3)))
        images = watcher.until_kind(Images)
        assert isinstance(images, Images)
        assert [picture.index for picture in images.pictures] == [0, 3]
        # Nothing here trains, so nothing can be steered.
        watcher.link.send(Pause())
        watcher.until_kind(CommandRefused)
    finally:
        watcher.close()
    assert not kept.exists()
    assert not list(tmp_path.glob("*.predictions"))
