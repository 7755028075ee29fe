import tracemalloc
from pathlib import Path

import numpy as np
from hypothesis import given, settings, strategies as st
from long_journal import long_journal

from finetui.engine.link.frames import Welcome
from finetui.engine.link.history import History
from finetui.engine.protocol.events import TrainPoint
from finetui.engine.runs.journal import JournalReader
from finetui.tui.state.curves import CAPACITY, Curve
from finetui.tui.state.store import Store


def test_few_points_are_kept_as_they_are() -> None:
    curve = Curve()
    for i in range(100):
        curve.add(i, i**2)
    x, y = curve.points()
    assert np.array_equal(x, np.arange(100))
    assert np.array_equal(y, np.arange(100.0) ** 2)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 20_000), st.integers(0, 2**32 - 1))
def test_memory_is_bounded_and_no_spike_is_lost(count: int, seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=count)
    curve = Curve()
    for i, value in enumerate(values):
        curve.add(i, value)
    x, y = curve.points()
    assert len(curve) <= CAPACITY
    assert y.max() == values.max()
    assert y.min() == values.min()
    assert abs(curve.mean() - values.mean()) < 1e-9
    assert x[-1] == count - 1
    assert np.all(np.diff(x) >= 0)


def test_a_curve_takes_no_more_room_than_its_points_need() -> None:
    tracemalloc.start()
    try:
        curves = [Curve() for _ in range(100)]
        for curve in curves:
            for i in range(20):
                curve.add(i, i)
            curve.smoothed(0.9)
        few, _ = tracemalloc.get_traced_memory()
        for i in range(100_000):
            curves[0].add(i, i)
        curves[0].smoothed(0.9)
        many = tracemalloc.get_traced_memory()[0] - few
    finally:
        tracemalloc.stop()
    assert few < 100 * 5_000
    assert many < 8 * CAPACITY * 8


@given(st.integers(0, 3 * CAPACITY), st.integers(1, 3 * CAPACITY))
@settings(max_examples=20, deadline=None)
def test_a_copy_goes_on_by_itself_as_the_curve_would(before: int, after: int) -> None:
    curve = Curve()
    for i in range(before):
        curve.add(i, i % 7)
    curve.smoothed(0.9)
    copy, past = curve.copy(), curve.buckets()
    for i in range(before, before + after):
        copy.add(i, i % 7)
    assert all(np.array_equal(now, then) for now, then in zip(curve.buckets(), past, strict=True))
    for i in range(before, before + after):
        curve.add(i, i % 7)
    assert all(np.array_equal(one, other) for one, other in zip(curve.buckets(), copy.buckets(), strict=True))
    assert np.array_equal(curve.smoothed(0.9), copy.smoothed(0.9))


def test_what_is_not_finite_is_left_out() -> None:
    curve = Curve()
    for value in (1.0, float("nan"), float("inf"), 2.0):
        curve.add(0, value)
    assert curve.points()[1].tolist() == [1.0, 2.0]


def test_a_thinned_past_keeps_extremes_and_means_of_loss_and_accuracy(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    long_journal(path, 120_000, spike=77_777)
    values = [(event.loss, event.accuracy) for event in JournalReader(path).read() if isinstance(event, TrainPoint)]
    store = Store()
    store.fold(History().expand(Welcome(journal=str(path), next_seq=120_004)))
    for curve, wanted in zip(
        (store.curves.train["loss"], store.curves.train["accuracy"]), zip(*values, strict=True), strict=True
    ):
        _, drawn = curve.points()
        assert (drawn.min(), drawn.max()) == (min(wanted), max(wanted))
        assert abs(curve.mean() - sum(wanted) / len(wanted)) < 1e-9
    # Also in a part of it: the mean of a bucket is that of its points, and not of its extremes.
    _, means = store.curves.train["loss"].means()
    assert 0.525 < sorted(means)[len(means) // 2] < 0.535
