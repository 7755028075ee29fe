"""How long an engine that has nothing to do waits, by a clock that the test turns."""

import pytest

from finetui.engine.process import linger as lingering
from finetui.engine.process.linger import Linger

MINUTES = 10.0


class Clock:
    """Seconds that pass when told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(lingering.time, "monotonic", lambda: self.now)


class Audience:
    """Who is there, and who vanished, as a server knows it."""

    def __init__(self, *, clients: int = 0, ever_connected: bool = True, missing: bool = False) -> None:
        self.clients, self.ever_connected, self.missing = clients, ever_connected, missing

    def has_clients(self) -> bool:
        return self.clients > 0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def seconds(clock: Clock, audience: Audience, state: str, *, detached: bool = False) -> float:
    """Return after how many seconds, in halves, an engine leaves that has just come to `state`."""
    linger = Linger(audience, MINUTES, detached=detached)
    linger.stay("preparing")
    began = clock.now
    while linger.stay(state):
        clock.now += 0.5
        if clock.now - began > 3600:
            return float("inf")
    return clock.now - began


@pytest.mark.parametrize(
    ("audience", "state", "lasts"),
    [
        (Audience(clients=1), "finished", float("inf")),
        (Audience(clients=1), "paused", float("inf")),
        (Audience(), "finished", 0),  # left with a goodbye
        (Audience(), "stopped", 0),
        (Audience(), "ready", 0),
        (Audience(), "paused", 600),
        (Audience(missing=True), "finished", 600),
        (Audience(missing=True), "stopped", 600),
        (Audience(missing=True), "ready", 0),  # never started: there is nothing to come back to
        (Audience(missing=True), "paused", 600),
        (Audience(ever_connected=False), "ready", 60),  # whoever started it is about to come
        (Audience(ever_connected=False), "finished", 60),
    ],
)
def test_how_long_it_stays(clock: Clock, audience: Audience, state: str, lasts: float) -> None:
    assert seconds(clock, audience, state) == lasts


def test_a_detached_one_waits_for_nobody_who_was_never_there(clock: Clock) -> None:
    assert seconds(clock, Audience(ever_connected=False), "finished", detached=True) == 0
    assert seconds(clock, Audience(missing=True), "finished", detached=True) == 600


def test_the_wait_begins_when_the_last_one_has_gone_and_there_is_nothing_to_do(clock: Clock) -> None:
    audience = Audience(clients=1)
    linger = Linger(audience, MINUTES)
    assert linger.stay("finished")
    clock.now += 5000  # watched all the time
    assert linger.stay("finished")
    audience.clients, audience.missing = 0, True
    clock.now += 599
    assert linger.stay("finished")
    audience.clients = 1  # somebody is back, and vanishes again
    assert linger.stay("finished")
    audience.clients = 0
    clock.now += 599
    assert linger.stay("finished")
    clock.now += 2
    assert not linger.stay("finished")
    # It had trained alone for hours: the time counts from its end.
    linger = Linger(audience, MINUTES)
    clock.now += 20_000
    assert linger.stay("finished")
