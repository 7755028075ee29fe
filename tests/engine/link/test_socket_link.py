"""Dashboards that come to an engine that is there already: history first, and in step with the others."""

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fork_server import FORKED
from long_journal import long_journal
from peers import Engine
from watching import PATIENCE, Watcher, told, until

from finetui.engine.errors import BadInput
from finetui.engine.link import socket_link
from finetui.engine.link.attach_link import AttachLink
from finetui.engine.link.base import Link
from finetui.engine.link.process_link import ProcessLink
from finetui.engine.link.socket_link import own_name
from finetui.engine.protocol.commands import FetchImages, Pause, Resume, SetFrozen, SetLearningRate, Stop
from finetui.engine.protocol.config import RunConfig
from finetui.engine.protocol.events import (
    Audience,
    CommandAccepted,
    CommandRefused,
    Images,
    LayersChanged,
    LearningRateChanged,
    RunPrepared,
    StateChanged,
    TrainPoint,
)
from finetui.engine.runs.folder import create_run
from finetui.engine.runs.lock import RunLock, holder_of
from finetui.engine.session.session import Session

Watch = Callable[[Link], Watcher]


@pytest.fixture
def training(watch: Watch, make_config: Callable[..., RunConfig]) -> Watcher:
    """A run named `shared` that an engine process trains, and its first dashboard."""
    watcher = watch(ProcessLink(make_config(epochs=1000, name="shared"), autostart=True))
    watcher.until_kind(TrainPoint)
    return watcher


def wait_until_it_leaves(link: ProcessLink) -> None:
    """Wait for the engine that `link` started to end; fail after a minute, a tenth of what one lingers by default."""
    until(lambda: link.status is not None)


# -- history, and staying in step ---------------------------------------------------------------------


def test_whoever_comes_later_gets_every_event_once_and_in_order(training: Watcher, watch: Watch) -> None:
    for _ in range(5):
        training.until_kind(TrainPoint)
    second = watch(AttachLink(training.folder))
    training.link.send(Stop())
    second.until_state("stopped")
    seqs = [event.seq for event in second.seen if event.seq >= 0]
    assert seqs == list(range(len(seqs)))
    assert [event for event in second.seen if event.seq >= 0] == told(training.folder.journal)[: len(seqs)]


def test_two_dashboards_stay_in_step_and_know_who_did_what(training: Watcher, watch: Watch) -> None:
    ann = watch(AttachLink(training.folder, name="ann pts/1"))
    bob = watch(AttachLink(training.folder, name="bob pts/2"))
    for dashboard in (ann, bob):
        dashboard.until(lambda event: isinstance(event, Audience) and event.names[1:] == ("ann pts/1", "bob pts/2"))
    for sender, name, command in (
        (ann, "ann pts/1", SetLearningRate(value=0.0123)),
        (bob, "bob pts/2", SetFrozen(groups=("conv1",), frozen=True)),
        (bob, "bob pts/2", Pause()),
        (ann, "ann pts/1", Resume()),
    ):
        sender.link.send(command)
        steps = set()
        for dashboard in (ann, bob, training):
            if isinstance(command, SetLearningRate):
                changed = dashboard.until_kind(LearningRateChanged)
                assert changed.learning_rate == 0.0123
            elif isinstance(command, SetFrozen):
                layers = dashboard.until_kind(LayersChanged).layers
                assert [layer.name for layer in layers if layer.frozen] == ["conv1"]
            else:
                dashboard.until_state("paused" if isinstance(command, Pause) else "running")
            accepted = dashboard.until_kind(CommandAccepted)
            assert (accepted.command.id, accepted.command.by) == (command.id, name)
            steps.add(accepted.step)
        assert len(steps) == 1
    journal = training.folder.journal.read_text()
    assert '"by":"ann pts/1"' in journal


def test_whoever_only_reads_may_look_at_images_and_not_touch_anything(training: Watcher, watch: Watch) -> None:
    reader = watch(AttachLink(training.folder, reading=True, name="r"))
    assert not reader.link.steers
    assert training.link.steers
    reader.until(lambda event: isinstance(event, Audience) and event.names[-1] == "r (reading)")
    pause = Pause()
    reader.link.send(pause)
    refused = reader.until_kind(CommandRefused)
    assert refused.command.id == pause.id
    question = FetchImages(indices=(0,))
    reader.link.send(question)
    assert reader.until_kind(Images).command == question
    training.until_kind(TrainPoint)
    assert "paused" not in training.folder.journal.read_text()


def test_a_dashboard_that_was_dropped_comes_back_and_misses_nothing(training: Watcher, watch: Watch) -> None:
    second = watch(AttachLink(training.folder, name="second"))
    connections = set()
    for _ in range(3):
        second.until_kind(TrainPoint)
        connections.add(second.link._connection)
        second.link._connection.shutdown(socket.SHUT_RDWR)
        lost = FetchImages(indices=(0,))
        second.link.send(lost)
        second.until(
            lambda event, lost=lost: isinstance(event, Images | CommandRefused) and event.command.id == lost.id
        )
    training.link.send(Stop())
    second.until_state("stopped")
    seqs = [event.seq for event in second.seen if event.seq >= 0]
    assert seqs == list(range(len(seqs)))
    assert not any(isinstance(event, StateChanged) and event.state == "crashed" for event in second.seen)
    assert len(connections) == 3


def test_a_question_that_was_lost_with_its_connection_is_given_up(engine: Engine, make_config, watch: Watch) -> None:
    folder = create_run(make_config(name="x"), "x")
    lock = RunLock(folder, str(engine.server.path))
    watcher = watch(AttachLink(folder))
    lost = FetchImages(indices=(0,))
    watcher.link.send(lost)
    assert engine.command() == lost  # it has arrived, and is not answered before the connection breaks
    (client,) = engine.server._clients
    client.connection.shutdown(socket.SHUT_RDWR)
    refused = watcher.until_kind(CommandRefused)
    assert refused.command == lost
    assert "lost before it was answered" in refused.reason
    later = FetchImages(indices=(1,))
    watcher.link.send(later)
    assert engine.command() == later
    lock.release()


def test_the_engine_is_greeted_at_once_and_what_it_leaves_unanswered_is_refused(
    engine: Engine, make_config, watch: Watch
) -> None:
    """A dashboard takes seconds to open on a busy machine, longer than the engine waits for a greeting."""
    folder = create_run(make_config(name="x"), "x")
    lock = RunLock(folder, str(engine.server.path))
    link = AttachLink(folder)
    until(engine.server.has_clients)
    asked, too_late = FetchImages(indices=(0,)), Pause()
    watcher = watch(link)
    link.send(asked)
    assert engine.command() == asked
    engine.say(StateChanged(state="finished"))
    engine.server.stop()
    lock.release()
    refused = watcher.until_kind(CommandRefused)
    watcher.thread.join(PATIENCE)
    link.send(too_late)
    later = watcher.until_kind(CommandRefused)
    assert [(event.command, event.reason) for event in (refused, later)] == [
        (asked, "the engine has ended"),
        (too_late, "the engine has ended"),
    ]


def test_an_engine_whose_socket_was_removed_is_found_again(
    make_config, watch: Watch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """Row 12: a user whose last login ends loses XDG_RUNTIME_DIR, and comes back to attach."""
    runtime = Path(tempfile.mkdtemp(prefix="login-", dir="/tmp"))  # pytest's own are too long for a socket
    request.addfinalizer(lambda: shutil.rmtree(runtime, ignore_errors=True))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    first = watch(ProcessLink(make_config(epochs=1000, name="long"), autostart=True))
    first.until_kind(TrainPoint)
    folder = first.folder
    before = holder_of(folder)
    assert before is not None
    assert before.socket.startswith(str(runtime))
    gone = runtime.with_name(f"{runtime.name}-gone")
    request.addfinalizer(lambda: shutil.rmtree(gone))
    runtime.rename(gone)
    until(lambda: holder_of(folder).socket != before.socket)
    second = watch(AttachLink(folder))
    second.until_kind(RunPrepared)
    second.link.send(Stop())
    second.until_state("stopped")
    first.until_state("stopped")


# -- who cannot attach --------------------------------------------------------------------------------


def test_a_run_that_nobody_has_says_what_can_be_done(make_config) -> None:
    folder = Session(make_config(name="done")).run().folder
    assert folder is not None
    shows = f"no engine is running it; `finetui open {folder.path}` shows it"
    with pytest.raises(BadInput, match=f"the run done is finished: {shows}$"):
        AttachLink(folder)
    lines = folder.journal.read_bytes().splitlines(keepends=True)
    folder.journal.write_bytes(b"".join(lines[:-1]))
    resumes = f"`finetui resume {folder.path}` goes on with it"
    with pytest.raises(BadInput, match=f"the run done is crashed: {shows}, {resumes}$"):
        AttachLink(folder)


@pytest.mark.parametrize(
    ("about", "says"),
    [
        ({"host": "elsewhere"}, r"the run x is on host elsewhere \(process 12\); attach there"),
        ({"socket": ""}, r"serves no dashboards; `finetui open .*/runs/x` follows its journal"),
        ({"socket": "/nowhere/x.sock"}, r"process 12 on host .*cannot be reached: No such file"),
    ],
)
def test_an_engine_that_cannot_be_reached_is_told_apart(make_config, about: dict[str, str], says: str) -> None:
    folder = create_run(make_config(name="x"), "x")
    lock = RunLock(folder, "/x.sock")
    folder.lock.write_text(json.dumps({"pid": 12, "host": socket.gethostname(), "socket": "/x.sock"} | about))
    with pytest.raises(BadInput, match=says):
        AttachLink(folder)
    lock.release()


def test_a_socket_of_another_user_is_refused(make_config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = create_run(make_config(name="x"), "x")
    path = tmp_path / "x.sock"
    lock = RunLock(folder, str(path))
    monkeypatch.setattr(socket_link.sockets, "peer_user", lambda _connection: os.geteuid() + 1)
    with socket_link.sockets.listen(path), pytest.raises(BadInput, match="belongs to user"):
        AttachLink(folder)
    lock.release()


# -- an engine that dies ------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["its own", "attached"])
def test_a_killed_engine_is_said_with_the_way_to_go_on(make_config, watch: Watch, how: str) -> None:
    """Row 10: whoever watches is told what happened and how the run goes on."""
    first = watch(ProcessLink(make_config(epochs=1000, name="killed"), autostart=True))
    first.until(lambda event: type(event).__name__ == "CheckpointSaved")
    watcher = first if how == "its own" else watch(AttachLink(first.folder))
    watcher.until_kind(TrainPoint)
    with first.folder.log.open("a") as log:
        log.write("terminate called: bus error in libdata\n")
    os.kill(first.link.pid, signal.SIGKILL)
    crashed = watcher.until_state("crashed")
    assert "the engine process ended unexpectedly" in crashed.reason
    assert ("signal 9" in crashed.reason) == (how == "its own")
    assert "terminate called: bus error in libdata" in crashed.reason
    assert f"`finetui resume {first.folder.path}` continues from its last checkpoint" in crashed.reason


def test_an_engine_that_ends_well_is_not_a_crash(training: Watcher, watch: Watch) -> None:
    second = watch(AttachLink(training.folder))
    second.until_kind(TrainPoint)
    training.link.send(Stop())
    training.until_state("stopped")
    training.close()
    second.until_state("stopped")
    second.close()
    wait_until_it_leaves(training.link)
    assert not any(isinstance(event, StateChanged) and event.state == "crashed" for event in second.seen)


# -- a long run ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_past_of_a_million_events_comes_soon(make_config, watch: Watch, tmp_path: Path) -> None:
    """Row 12: attach with the full history."""
    folder = create_run(make_config(name="huge"), "huge")
    long_journal(folder.journal, 1_000_000, spike=123_456)
    code = (
        "import sys, threading; from pathlib import Path; from finetui.engine.runs.journal import Journal;"
        "from finetui.engine.runs.folder import RunFolder; from finetui.engine.runs.lock import RunLock;"
        "from finetui.engine.link import sockets;"
        "from finetui.engine.protocol.queues import CommandQueue; from finetui.engine.link.server import Server;"
        "path = sockets.new_path(); server = Server(path, CommandQueue()); folder = RunFolder(Path(sys.argv[1]));"
        "lock = RunLock(folder, str(path)); journal = Journal(); journal.reopen(folder.journal);"
        "server.follow(journal); server.start(); print('up', flush=True); sys.stdin.read(); server.stop()"
    )
    engine = subprocess.Popen([*FORKED, code, str(folder.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert engine.stdout is not None
    assert engine.stdin is not None
    assert engine.stdout.readline() == b"up\n"
    started = time.monotonic()
    watcher = watch(AttachLink(folder))
    last = watcher.until(lambda event: isinstance(event, TrainPoint) and event.step == 1_000_000)
    seconds = time.monotonic() - started
    print(f"a million events after {seconds:.2f} s, as {len(watcher.seen)}")
    assert isinstance(last, TrainPoint)
    assert seconds < 20  # 2 are required: docs/reliability.md has what was measured
    assert watcher.link.events.dropped == 0
    assert any(isinstance(event, TrainPoint) and event.loss == 99.0 for event in watcher.seen)
    engine.stdin.close()
    engine.wait(20)


# -- names --------------------------------------------------------------------------------------------


def test_a_dashboard_is_named_after_who_sits_where(monkeypatch: pytest.MonkeyPatch) -> None:
    import getpass

    monkeypatch.setattr(socket_link.os, "ttyname", lambda _descriptor: "/dev/pts/3")
    monkeypatch.delenv("SSH_CONNECTION", raising=False)
    user = getpass.getuser()
    assert own_name() == f"{user} pts/3"
    monkeypatch.setenv("SSH_CONNECTION", "10.1.2.3 5555 10.1.2.4 22")
    assert own_name() == f"{user} pts/3 from 10.1.2.3"
    monkeypatch.setenv("SSH_CONNECTION", "\x1b[31m" + "x" * 100)
    assert len(own_name()) <= 60
    assert "\x1b" not in own_name()
