"""The engine's side of the socket: who may say what, and what becomes of those who misbehave."""

import os
import select
import threading
from pathlib import Path

import pytest
from peers import Engine, Peer
from watching import until

from finetui.engine.link import server, sockets
from finetui.engine.link.frames import Goodbye, Hello, Welcome
from finetui.engine.link.poller import Wake
from finetui.engine.protocol.commands import FetchImages, Pause, SetFrozen, SetLearningRate
from finetui.engine.protocol.events import Audience, CommandAccepted, CommandRefused, Images, Log, Phase, StateChanged
from finetui.engine.runs.journal import Journal

# -- greetings and history ----------------------------------------------------------------------------


def test_a_client_is_welcomed_with_what_was_said_before_there_was_a_file(engine: Engine) -> None:
    for state in ("preparing", "ready"):
        engine.say(StateChanged(state=state))
    engine.server.publish(Phase(name="Reading"))
    peer = Peer(engine, Hello(name="ann"))
    assert peer.next(Welcome) == Welcome(journal="", next_seq=0)
    assert [peer.next(StateChanged).state for _ in range(2)] == ["preparing", "ready"]
    assert peer.next(Phase).name == "Reading"
    assert peer.next(Audience).names == ("ann",)
    engine.say(Log(level="info", message="live"))
    assert peer.next(Log).seq == 2


def test_nothing_is_encoded_while_nobody_listens(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[object] = []
    encode = server.encode_frame
    monkeypatch.setattr(server, "encode_frame", lambda frame: encoded.append(frame) or encode(frame))
    engine.say(StateChanged(state="ready"))
    until(lambda: not engine.server._inbox)
    peer = Peer(engine, Hello())
    peer.next(Welcome)
    assert [type(frame) for frame in encoded if not isinstance(frame, Audience)] == [StateChanged]  # the greeting's
    engine.say(StateChanged(state="running"))
    assert peer.next(StateChanged).state == "ready"
    assert peer.next(StateChanged).state == "running"


def test_a_later_client_is_sent_to_the_journal(engine: Engine, tmp_path: Path) -> None:
    early = Peer(engine, Hello())
    early.next(Welcome)
    engine.say(StateChanged(state="ready"))
    engine.journal.open(tmp_path / "journal.jsonl")
    engine.say(StateChanged(state="running"))
    late = Peer(engine, Hello())
    assert late.next(Welcome) == Welcome(journal=str(tmp_path / "journal.jsonl"), next_seq=2)
    engine.say(StateChanged(state="paused"))
    assert late.next(StateChanged).seq == 2
    assert [early.next(StateChanged).seq for _ in range(3)] == [0, 1, 2]


def test_an_event_that_is_history_when_it_is_published_is_told_once(engine: Engine) -> None:
    ready = engine.journal.append(StateChanged(state="ready"))
    peer = Peer(engine, Hello())
    assert peer.next(StateChanged) == ready
    engine.server.publish(ready)
    engine.say(Log(level="info", message="next"))
    assert isinstance(peer.next(StateChanged | Log), Log)


def test_a_run_that_is_resumed_is_told_to_those_who_were_there_before_its_journal(
    engine: Engine, tmp_path: Path
) -> None:
    before = Journal()
    before.open(tmp_path / "journal.jsonl")
    for _ in range(7):
        before.append(StateChanged(state="running"))
    before.close()
    peer = Peer(engine, Hello())
    assert peer.next(Welcome).journal == ""
    engine.journal = Journal()
    engine.journal.reopen(tmp_path / "journal.jsonl")
    engine.server.follow(engine.journal)
    engine.say(StateChanged(state="preparing"))
    assert peer.next(Welcome) == Welcome(journal=str(tmp_path / "journal.jsonl"), next_seq=8)
    engine.say(StateChanged(state="ready"))
    assert peer.next(StateChanged).seq == 8


def test_a_new_session_begins_anew(engine: Engine) -> None:
    peer = Peer(engine, Hello())
    peer.next(Welcome)
    for state in ("preparing", "ready", "stopped"):
        engine.say(StateChanged(state=state))
    engine.journal = Journal()
    engine.server.follow(engine.journal)
    engine.say(StateChanged(state="preparing"))
    assert [peer.next(StateChanged).seq for _ in range(4)] == [0, 1, 2, 0]


def test_a_command_without_a_greeting_is_taken_and_nameless(engine: Engine) -> None:
    peer = Peer(engine)
    peer.send(Pause())
    assert engine.command().by == ""
    assert peer.next(Audience).names == ("a client",)


# -- several clients ----------------------------------------------------------------------------------


def test_everybody_is_told_who_is_there_and_commands_carry_who_sent_them(engine: Engine) -> None:
    ann = Peer(engine, Hello(name="ann \x1b[31m pts/3"))
    assert ann.next(Audience).names == ("ann �[31m pts/3",)
    bob = Peer(engine, Hello(name="b" * 100, reading=True))
    for peer in (ann, bob):
        assert peer.next(Audience).names == ("ann �[31m pts/3", "b" * 59 + "… (reading)")
    ann.send(SetLearningRate(value=0.5, by="somebody else"))
    assert engine.command().by == "ann �[31m pts/3"
    bob.send(Goodbye())
    bob.socket.close()
    assert ann.next(Audience).names == ("ann �[31m pts/3",)


def test_those_who_read_may_ask_and_nothing_else(engine: Engine) -> None:
    reader, writer = Peer(engine, Hello(name="r", reading=True)), Peer(engine, Hello(name="w"))
    writer.next(Welcome)
    pause, question = Pause(), FetchImages(indices=(1,))
    reader.send(pause, question)
    refused = reader.next(CommandRefused)
    assert refused.command.id == pause.id
    assert "--read-only" in refused.reason
    assert engine.command() == question
    assert engine.commands.take() is None
    engine.server.publish(Log(level="info", message="end"))
    writer.next(Log)
    assert not any(isinstance(frame, CommandRefused) for frame in writer._frames)


def test_an_answer_goes_to_whoever_asked(engine: Engine) -> None:
    asker, other = Peer(engine, Hello()), Peer(engine, Hello())
    other.next(Welcome)
    question = FetchImages(indices=(1,))
    asker.send(question)
    assert engine.command() == question
    engine.say(Images(command=question, pictures=()))
    engine.say(CommandAccepted(command=Pause()))
    assert asker.next(Images).command == question
    assert isinstance(other.next(Images | CommandAccepted), CommandAccepted)


def test_how_the_last_one_left_is_known(engine: Engine) -> None:
    for says_goodbye, reading, missing in (
        (True, False, False),
        (False, False, True),
        (True, True, True),  # who only looked on speaks for nobody else
        (True, False, False),
        (True, True, False),
        (False, True, True),
    ):
        peer = Peer(engine, Hello(reading=reading))
        peer.next(Welcome)
        assert engine.server.has_clients()
        if says_goodbye:
            peer.send(Goodbye())
        peer.socket.close()
        until(lambda: not engine.server.has_clients())
        assert engine.server.missing == missing


def test_all_that_was_sent_before_leaving_is_heard_though_nothing_can_be_answered(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer = Peer(engine, Hello())
    peer.next(Welcome)
    is_held, goes_on = threading.Event(), threading.Event()
    select = engine.server._poller._selector.select

    def held(timeout: float) -> list:
        is_held.set()
        goes_on.wait(20)
        return select(timeout)

    monkeypatch.setattr(engine.server._poller._selector, "select", held)
    engine.say(StateChanged(state="ready"))
    assert is_held.wait(20)
    long = SetFrozen(layers=("x" * 50_000,), frozen=True)  # three of them are more than is read at a time
    peer.send(long, long, long, Pause(), Goodbye())
    peer.socket.close()
    engine.say(StateChanged(state="running"))  # which it cannot be told any more
    goes_on.set()
    assert [type(engine.command()) for _ in range(4)] == [SetFrozen, SetFrozen, SetFrozen, Pause]
    until(lambda: not engine.server.has_clients())
    assert not engine.server.missing


# -- the end, and the file ----------------------------------------------------------------------------


def test_the_engine_says_goodbye_after_the_last_event(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "r").mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "r"))
    engine = Engine(sockets.new_path())
    peer = Peer(engine, Hello())
    peer.next(Welcome)
    engine.say(StateChanged(state="finished"))
    engine.server.stop()
    assert [type(frame) for frame in peer.rest()[-2:]] == [StateChanged, Goodbye]


def test_a_thread_that_ends_before_it_is_woken_is_no_fault(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """It looks by itself four times a second, and may so close its pipe before `stop` or a last event wakes it."""
    server = engine.server
    wake = server._poller.wake

    def wake_late() -> None:
        server._thread.join(20)
        wake()

    monkeypatch.setattr(server._poller, "wake", wake_late)
    server.stop()
    assert not server._thread.is_alive()
    engine.say(StateChanged(state="finished"))


def test_a_wake_up_during_another_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    wake = Wake()
    read, other = os.read, threading.Thread(target=wake.set)

    def read_late(descriptor: int, size: int) -> bytes:
        other.start()
        other.join(0.2)
        return read(descriptor, size)

    wake.set()
    monkeypatch.setattr("finetui.engine.link.poller.os.read", read_late)
    wake.clear()
    other.join(20)
    assert select.select([wake.reader], [], [], 0)[0]
    wake.close()


def test_a_socket_that_was_removed_is_opened_elsewhere(engine: Engine, tmp_path: Path, monkeypatch) -> None:
    """A user who logs out loses the runtime folder, and with it the socket of an engine that trains on."""
    before = Peer(engine, Hello())
    before.next(Welcome)
    monkeypatch.setattr(sockets.tempfile, "gettempdir", lambda: str(tmp_path))
    engine.server.path.parent.parent.rename(tmp_path / "gone")
    until(lambda: bool(engine.moved))
    assert engine.moved == [engine.server.path]
    assert engine.server.path.parent == tmp_path / f"finetui-{os.getuid()}"
    Peer(engine, Hello()).next(Welcome)
    engine.say(Log(level="info", message="still here"))
    before.next(Log)


def test_whoever_comes_late_to_an_engine_without_a_journal_learns_its_state(engine: Engine) -> None:
    engine.server.publish(StateChanged(state="preparing"))
    engine.server.publish(StateChanged(state="finished"))
    peer = Peer(engine, Hello())
    assert peer.next(StateChanged).state == "finished"
