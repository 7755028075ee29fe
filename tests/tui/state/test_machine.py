"""The machine's history in the store: in bounded memory, each moment once, and no part of what a run goes back to."""

import math

import pytest
from canned import point, prepared
from canned_machine import BEGAN, gpu, sample

from finetui.engine.protocol.events import StateChanged, TimeShares
from finetui.tui.state.machine import MachineHistory
from finetui.tui.state.store import Store


def test_samples_become_histories_over_the_time_that_was_watched() -> None:
    history = MachineHistory()
    for at, cpu in ((0.0, 0.1), (2.0, 0.2), (4.0, None), (6.0, 0.4)):
        history.hear(sample(at, (gpu(3, use=cpu),), cpu=cpu))
    x, y = history.of("cpu").points()
    assert x.tolist() == [0, 2, 6] and y.tolist() == pytest.approx([0.1, 0.2, 0.4])
    assert history.of("gpu 3").points(since=1.0)[0].tolist() == [2, 6]
    assert history.of("memory").points()[1].tolist() == pytest.approx([1.2 / 7.6] * 4)
    assert history.of("disk").points()[1][0] == 47 * 2**20
    assert history.now == 6.0 and history.latest is not None


def test_a_night_without_an_engine_takes_no_room() -> None:
    history = MachineHistory()
    history.hear(sample(0.0))
    history.hear(sample(50_000.0))
    assert history.now == 60.0
    history.hear(sample(50_600.0, seconds=600.0))
    assert history.now == 660.0, "in a long run a sample stands for ten minutes"


def test_a_sum_of_what_was_told_in_detail_counts_once() -> None:
    history = MachineHistory()
    for at in range(0, 12, 2):
        history.hear(sample(float(at), cpu=0.5))
    history.hear(sample(10.5, seconds=10.0, cpu=0.9))
    assert history.of("cpu").points()[1].max() == 0.5
    history.hear(sample(40.0, seconds=10.0, cpu=0.7))
    assert history.of("cpu").points()[1].max() == 0.7, "nobody told of this time before"


def test_a_clock_that_is_set_back_does_not_turn_the_history_around() -> None:
    history = MachineHistory()
    for at in (0.0, 2.0, -3600.0):
        history.hear(sample(at))
    assert history.now == 2.0


def test_memory_is_bounded_and_the_recent_past_is_whole() -> None:
    history = MachineHistory()
    for second in range(0, 40_000, 2):
        history.hear(sample(float(second), cpu=0.5 if second != 39_900 else 1.0))
    whole, recent = history.of("cpu").points()[0], history.of("cpu").points(since=history.now - 600)[0]
    assert len(whole) < 5000 and len(recent) == 301
    assert history.of("cpu").points()[1].max() == 1.0, "no peak is lost"


def test_the_shares_of_time_are_means_of_the_last_minutes() -> None:
    history = MachineHistory()
    history.hear_point(point(0, time=BEGAN))
    assert history.shares is None
    for second in range(600):
        waiting = 0.9 if second < 100 else 0.3
        shares = TimeShares(waiting=waiting, computing=0.1, seconds=1.0)
        history.hear_point(point(second, time=BEGAN + second, time_shares=shares))
    assert history.shares is not None
    assert history.shares.waiting == pytest.approx(0.3, abs=0.02)
    assert history.shares.computing == pytest.approx(0.1)
    history.hear_point(point(601, time=BEGAN + 601, time_shares=TimeShares(waiting=math.nan, seconds=1e5)))
    assert history.shares.waiting == 0.0


def test_the_shares_of_a_short_run_are_those_of_all_its_time() -> None:
    history = MachineHistory()
    history.hear_point(point(0, time=BEGAN, time_shares=TimeShares(waiting=0.9, seconds=0.5)))
    history.hear_point(point(1, time=BEGAN, time_shares=TimeShares(waiting=math.nan, seconds=0.0)))
    history.hear_point(point(1, time=BEGAN, time_shares=TimeShares(waiting=0.1, computing=0.8, seconds=2.0)))
    assert history.shares is not None
    assert history.shares.waiting == pytest.approx((0.9 * 0.5 + 0.1 * 2.0) / 2.5, abs=0.01)
    assert history.shares.computing == pytest.approx(0.8 * 2.0 / 2.5, abs=0.01)


def test_the_store_keeps_the_machine_apart_from_the_view() -> None:
    store = Store()
    store.fold([prepared(), StateChanged(state="running")])
    view = store.view
    store.fold([sample(0.0, (gpu(name="evil\x1b[2J"),))])
    assert store.view is view, "nothing else is drawn anew for it"
    assert store.machine.latest is not None
    assert store.machine.latest.machine.gpus[0].name.isprintable()
