"""The engine's side of the socket: who may say what, and what becomes of those who misbehave."""

import os
import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from engine import sockets
from engine.commands import AnyCommand, FetchImages, Pause, SetLearningRate
from engine.events import (
    AnyEvent,
    Audience,
    CommandAccepted,
    CommandRefused,
    Images,
    Log,
    Phase,
    RunStarted,
    StateChanged,
    TrainPoint,
)
from engine.journal import Journal
from engine.queues import CommandQueue
from engine.server import MOST_CLIENTS, Server
from engine.values import Picture
from engine.wire import FrameReader, Goodbye, Hello, ServerFrame, Welcome, encode_frame

PATIENCE = 20.0


def point(step: int) -> TrainPoint:
    return TrainPoint(
        epoch=1, step_in_epoch=step, steps=1, loss=1.0, accuracy=0.5, learning_rate=0.1, grad_norm=1.0,
        samples_per_second=100.0, step=step,
    )  # fmt: skip


class Engine:
    """A server with a journal, and no training behind it."""

    def __init__(self, path: Path) -> None:
        self.commands = CommandQueue()
        self.moved: list[Path] = []
        self.server = Server(path, self.commands, on_moved=self.moved.append)
        self.journal = Journal()
        self.server.follow(self.journal)
        self.server.start()

    def say(self, event: AnyEvent) -> None:
        self.server.publish(self.journal.append(event))

    def command(self) -> AnyCommand:
        command = self.commands.take(PATIENCE)
        assert command is not None
        return command


class Peer:
    """A client that does what it is told, byte by byte."""

    def __init__(self, engine: Engine, hello: Hello | None = None) -> None:
        self.socket = sockets.connect(str(engine.server.path))
        self.socket.settimeout(PATIENCE)
        self._reader: FrameReader[ServerFrame] = FrameReader(msgspec.msgpack.Decoder(ServerFrame))
        self._frames: list[ServerFrame] = []
        if hello is not None:
            self.send(hello)

    def send(self, *frames: msgspec.Struct) -> None:
        self.socket.sendall(b"".join(map(encode_frame, frames)))

    def next(self, kind: type) -> ServerFrame:
        """Return the next frame of this kind; those before it are forgotten."""
        while True:
            while self._frames:
                frame = self._frames.pop(0)
                if isinstance(frame, kind):
                    return frame
            data = self.socket.recv(65536)
            assert data, f"the connection was closed before a {kind.__name__} came"
            self._frames += self._reader.feed(data)

    def rest(self) -> list[ServerFrame]:
        """Return all frames up to the end of the connection, for which the engine is waited for."""
        try:
            while data := self.socket.recv(65536):
                self._frames += self._reader.feed(data)
        except ConnectionResetError:
            pass  # dropped with our bytes unread: that, too, is being dropped
        return self._frames


def until(test: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not test():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.005)


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    (tmp_path / "r").mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "r"))
    made = Engine(sockets.new_path())
    yield made
    made.server.stop()
    assert not made.server.path.exists()


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


def test_a_command_sent_with_the_goodbye_arrives_though_nothing_was_read(engine: Engine) -> None:
    peer = Peer(engine, Hello())
    until(engine.server.has_clients)
    for step in range(200):
        engine.say(point(step))
    peer.send(Pause(), Goodbye())
    peer.socket.close()
    assert isinstance(engine.command(), Pause)
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


def test_a_socket_that_was_removed_is_opened_elsewhere(engine: Engine, tmp_path: Path, monkeypatch) -> None:
    """A user who logs out loses the runtime folder, and with it the socket of an engine that trains on."""
    before = Peer(engine, Hello())
    before.next(Welcome)
    gone = engine.server.path
    gone.unlink()
    gone.parent.rmdir()
    gone.parent.parent.rmdir()
    monkeypatch.setattr(sockets.tempfile, "gettempdir", lambda: str(tmp_path))
    until(lambda: bool(engine.moved))
    assert engine.moved == [engine.server.path]
    assert engine.server.path.parent == tmp_path / f"finetui-{os.getuid()}"
    Peer(engine, Hello()).next(Welcome)
    engine.say(Log(level="info", message="still here"))
    before.next(Log)


# -- those who misbehave ------------------------------------------------------------------------------


def _frame(body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + body


GARBAGE = {
    "text": b"GET / HTTP/1.1\r\n\r\n" * 100,
    "random": os.urandom(100_000),
    "too long": b"\x00\x10\x00\x01",
    "no MessagePack": _frame(b"\xc1"),
    "another type": _frame(msgspec.msgpack.encode({"type": "reboot"})),
    "no type": _frame(msgspec.msgpack.encode([1, 2, 3])),
    "text that is no UTF-8": _frame(b"\x82\xa4type\xa5pause\xa2by\xa2\xff\xfe"),
    "without end": _frame(b"\x82\xa4type\xa5pause\xa1x" + b"\x91" * 500_000),
    "more items than there are": _frame(b"\x82\xa4type\xacfetch_images\xa7indices\xdd\xff\xff\xff\xff"),
    "hello twice": encode_frame(Hello()) * 2,
}


@pytest.mark.parametrize("kind", GARBAGE)
def test_garbage_is_dropped_at_once_and_nobody_else(engine: Engine, kind: str) -> None:
    bystander, intruder = Peer(engine, Hello()), Peer(engine)
    bystander.next(Welcome)
    with suppress(BrokenPipeError, ConnectionResetError):  # dropped before all of it was sent
        intruder.socket.sendall(GARBAGE[kind])
    started = time.monotonic()
    intruder.rest()
    assert time.monotonic() - started < 2
    engine.say(Log(level="info", message="still here"))
    assert bystander.next(Log).message == "still here"
    Peer(engine, Hello()).next(Welcome)


@pytest.mark.parametrize("begins", [b"", encode_frame(Hello())[:7], encode_frame(Hello()) + encode_frame(Pause())[:9]])
def test_whoever_stops_half_way_is_dropped_within_5_seconds(engine: Engine, begins: bytes) -> None:
    bystander, silent = Peer(engine, Hello()), Peer(engine)
    bystander.next(Welcome)
    started = time.monotonic()
    silent.socket.sendall(begins)
    silent.rest()
    assert 2 < time.monotonic() - started < 5
    engine.say(Log(level="info", message="still here"))
    bystander.next(Log)


def test_a_client_that_has_said_hello_may_be_silent_for_ever(engine: Engine) -> None:
    peer, other = Peer(engine, Hello()), Peer(engine)
    other.rest()  # after the patience with those who do not
    engine.say(Log(level="info", message="still here"))
    peer.next(Log)


def test_whoever_does_not_read_is_dropped_within_5_seconds(engine: Engine) -> None:
    reading, deaf = Peer(engine, Hello(name="good")), Peer(engine, Hello(name="deaf"))
    until(lambda: reading.next(Audience).names == ("good", "deaf"))
    started = time.monotonic()
    big = "x" * 10_000
    seen: list[int] = []

    def read() -> None:
        while len(seen) < 100:
            seen.append(reading.next(Log).seq)

    thread = threading.Thread(target=read)
    thread.start()
    for _ in range(100):
        engine.say(Log(level="info", message=big))
    thread.join(PATIENCE)
    assert seen == list(range(100))
    assert reading.next(Audience).names == ("good",)
    assert 2 < time.monotonic() - started < 5
    deaf.rest()


def test_a_client_that_catches_up_is_kept(engine: Engine) -> None:
    late = Peer(engine, Hello(name="late"))
    late.next(Welcome)
    for _ in range(2):
        for _ in range(100):
            engine.say(Log(level="info", message="x" * 10_000))
        # It looks up in time: less than the patience with those who never do.
        client = engine.server._clients[0]
        until(lambda client=client: client._behind_since is not None)
        for _ in range(100):
            late.next(Log)
    engine.say(Log(level="info", message="still here"))
    assert late.next(Log).message == "still here"


def test_train_points_are_missed_before_anything_else(engine: Engine) -> None:
    slow = Peer(engine, Hello())
    slow.next(Welcome)
    for step in range(6000):
        engine.say(point(step))
        if step % 1000 == 0:
            engine.say(Log(level="info", message=str(step)))
    engine.say(StateChanged(state="finished"))
    seen: list[ServerFrame] = []
    while not seen or not isinstance(seen[-1], StateChanged):
        seen.append(slow.next(object))
    assert [frame.message for frame in seen if isinstance(frame, Log)] == [str(1000 * i) for i in range(6)]
    points = [frame.step for frame in seen if isinstance(frame, TrainPoint)]
    assert len(points) < 6000
    assert points[-1] == 5999
    assert points == sorted(points)


def test_commands_beyond_what_is_being_answered_are_not_even_read(engine: Engine) -> None:
    peer = Peer(engine, Hello())
    peer.next(Welcome)
    peer.socket.settimeout(2)
    sent = 0
    with pytest.raises(TimeoutError):
        while sent < 50_000:
            peer.socket.sendall(encode_frame(FetchImages(indices=(0,))))
            sent += 1
    taken = []
    while (command := engine.commands.take()) is not None:
        taken.append(command)
    assert len(taken) < 5000
    # Answers let more of them in.
    for command in taken:
        engine.server.publish(Images(command=command, pictures=()))
    assert isinstance(engine.command(), FetchImages)


def test_a_hundred_at_once_are_served_and_too_many_are_told(engine: Engine) -> None:
    peers = [Peer(engine, Hello(name=str(i))) for i in range(MOST_CLIENTS)]
    for peer in peers:
        peer.next(Welcome)
    engine.say(RunStarted(name="x", path="/x"))
    for peer in peers:
        assert peer.next(RunStarted).name == "x"
    until(lambda: len(peers[0].next(Audience).names) == MOST_CLIENTS)
    one_more = Peer(engine)
    (goodbye,) = one_more.rest()
    assert isinstance(goodbye, Goodbye)
    assert f"{MOST_CLIENTS} dashboards" in goodbye.reason
    for peer in peers:
        peer.socket.close()
    until(lambda: not engine.server.has_clients())


def test_a_loop_of_connections_is_slowed_down(engine: Engine) -> None:
    bystander = Peer(engine, Hello())
    bystander.next(Welcome)
    accepted = 0
    original = engine.server._allowance.use

    def count() -> None:
        nonlocal accepted
        accepted += 1
        original()

    engine.server._allowance.use = count
    stop = time.monotonic() + 3
    while time.monotonic() < stop:
        with socket.socket(socket.AF_UNIX) as intruder:
            intruder.settimeout(0.1)
            try:
                intruder.connect(str(engine.server.path))
                intruder.sendall(b"\xff" * 8)
            except (TimeoutError, BlockingIOError, BrokenPipeError, ConnectionResetError):
                continue
    assert accepted <= MOST_CLIENTS + 20 * 4
    engine.say(Log(level="info", message="still here"))
    bystander.next(Log)
    Peer(engine, Hello()).next(Welcome)


def test_another_user_is_refused(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "peer_user", lambda _connection: os.geteuid() + 1)
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.settimeout(PATIENCE)
        stranger.connect(str(engine.server.path))
        assert stranger.recv(100) == b""
    assert not engine.server.ever_connected


def test_the_server_sleeps_when_there_is_nothing_to_do(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    peers = [Peer(engine, Hello(name=str(i))) for i in range(3)]
    for peer in peers:
        until(lambda peer=peer: len(peer.next(Audience).names) == 3)
    peers.pop().socket.shutdown(socket.SHUT_RDWR)
    until(lambda: len(peers[0].next(Audience).names) == 2)
    turns = 0
    original = selectors.DefaultSelector.select

    def count(self, timeout=None):
        nonlocal turns
        turns += 1
        return original(self, timeout)

    monkeypatch.setattr(selectors.DefaultSelector, "select", count)
    until(lambda: turns >= 2)
    started, turns = time.monotonic(), 0
    until(lambda: turns >= 3)
    assert time.monotonic() - started > 0.4  # it looks four times a second


def test_a_big_answer_arrives(engine: Engine) -> None:
    peer = Peer(engine, Hello())
    question = FetchImages(indices=tuple(range(40)))
    peer.send(question)
    engine.command()
    pixels = os.urandom(224 * 224 * 3)
    pictures = tuple(Picture(index=i, width=224, height=224, channels=3, pixels=pixels) for i in range(40))
    engine.say(Images(command=question, pictures=pictures))
    assert peer.next(Images).pictures == pictures
