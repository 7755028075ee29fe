"""What becomes of clients that misbehave, and of those beside them."""

import os
import selectors
import socket
import struct
import threading
import time
from contextlib import suppress

import msgspec
import pytest
from peers import PATIENCE, Engine, Peer, point
from watching import until

from finetui.engine.link import server, server_client, sockets
from finetui.engine.link.frames import Goodbye, Hello, ServerFrame, Welcome, encode_frame
from finetui.engine.link.poller import MOST_CLIENTS
from finetui.engine.link.server_client import Client
from finetui.engine.protocol.commands import FetchImages, Pause
from finetui.engine.protocol.events import Audience, Images, Log, RunStarted, StateChanged, TrainPoint
from finetui.engine.protocol.values import Picture


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
def test_garbage_is_dropped_at_once_and_nobody_else(
    engine: Engine, kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    bystander, intruder = Peer(engine, Hello()), Peer(engine)
    bystander.next(Welcome)
    with suppress(BrokenPipeError, ConnectionResetError):  # dropped before all of it was sent
        intruder.socket.sendall(GARBAGE[kind])
    intruder.rest()
    complaints = capfd.readouterr().err
    assert "was disconnected" in complaints
    assert not any(late in complaints for late in ("did not say what it wants", "stopped within a frame"))
    engine.say(Log(level="info", message="still here"))
    assert bystander.next(Log).message == "still here"
    Peer(engine, Hello()).next(Welcome)


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> float:
    """The seconds that a client has, of which there are fewer here."""
    assert server_client.PATIENCE_SECONDS + server._LOOK_SECONDS < 5
    monkeypatch.setattr(server_client, "PATIENCE_SECONDS", 1.0)
    return server_client.PATIENCE_SECONDS


@pytest.mark.parametrize("begins", [b"", encode_frame(Hello())[:7], encode_frame(Hello()) + encode_frame(Pause())[:9]])
def test_whoever_stops_half_way_is_dropped_within_5_seconds(engine: Engine, begins: bytes, patience: float) -> None:
    bystander, silent = Peer(engine, Hello()), Peer(engine)
    bystander.next(Welcome)
    started = time.monotonic()
    silent.socket.sendall(begins)
    silent.rest()
    assert time.monotonic() - started > 0.9 * patience
    engine.say(Log(level="info", message="still here"))
    bystander.next(Log)


def test_a_client_that_has_said_hello_may_be_silent_for_ever(engine: Engine, patience: float) -> None:
    peer, other = Peer(engine, Hello()), Peer(engine)
    other.rest()  # after the patience with those who do not
    engine.say(Log(level="info", message="still here"))
    peer.next(Log)


def test_whoever_does_not_read_is_dropped_within_5_seconds(engine: Engine, patience: float) -> None:
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
    assert time.monotonic() - started > 0.9 * patience
    deaf.rest()


def test_a_client_that_catches_up_is_kept() -> None:
    client = Client(socket.socket(), now=0.0)
    client.greet(Hello(), "late")
    for now, reads, dropped in (
        (0.0, False, False),
        (3.0, False, False),
        (3.2, True, False),
        (3.4, False, False),  # behind again, and not for long
        (6.8, False, False),
        (7.0, False, True),
    ):
        if reads:
            client.outbox.clear()
        else:
            client.outbox.put(bytes(100_000))
        assert (client.fault(now) is not None) == dropped, now


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
    peer.socket.settimeout(0.5)
    sent = 0
    with pytest.raises(TimeoutError):
        while sent < 50_000:
            peer.socket.sendall(encode_frame(FetchImages(indices=(0,))))
            sent += 1
    peer.socket.settimeout(PATIENCE)
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
    original = engine.server._poller._allowance.use

    def count() -> None:
        nonlocal accepted
        accepted += 1
        original()

    engine.server._poller._allowance.use = count
    started = time.monotonic()
    while accepted <= MOST_CLIENTS or time.monotonic() - started < 1:
        with socket.socket(socket.AF_UNIX) as intruder:
            intruder.settimeout(0.1)
            try:
                intruder.connect(str(engine.server.path))
                intruder.sendall(b"\xff" * 8)
            except (TimeoutError, BlockingIOError, BrokenPipeError, ConnectionResetError):
                continue
    assert accepted <= MOST_CLIENTS + 20 * (time.monotonic() - started + 1)
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
