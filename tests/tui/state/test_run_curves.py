"""The curves of a run, and its x axes: epochs, steps and seconds of training."""

import msgspec
import numpy as np
import pytest
from canned import evaluated, point, running

from finetui.engine.protocol.events import CheckpointSaved, KeptCheckpoint, Rewound, StateChanged
from finetui.tui.state.curves import Curve
from finetui.tui.state.plot_view import SMOOTHINGS, PlotView, grid
from finetui.tui.state.store import Store


def folded(*events: object) -> Store:
    store = Store()
    store.fold(running(*events))
    return store


def places(store: Store, unit: str, *x: float) -> list[float]:
    return store.curves.in_unit(unit, np.array(x)).tolist()


def test_every_number_that_a_run_has_is_a_curve() -> None:
    store = folded(point(10, grad_norm=3.0, lr=0.02))
    assert [metric.key for metric in store.curves.metrics] == ["loss", "accuracy", "lr", "grad_norm", "speed"]
    report = msgspec.structs.replace(evaluated(1, 0.9).per_class[0], label="macro avg", f1=0.85)
    told = msgspec.structs.replace(evaluated(1, 0.9), averages=(report, report), best_by="top5", figure=0.99)
    store.fold([told])
    assert [metric.key for metric in store.curves.metrics][5:] == ["macro-f1", "top5"]
    assert store.curves.train["lr"].points()[1].tolist() == [0.02]
    assert store.curves.train["grad_norm"].points()[1].tolist() == [3.0]
    assert store.curves.watched["macro-f1"].points()[1].tolist() == [0.85]
    assert store.curves.watched["top5"].points()[1].tolist() == [0.99]


def test_time_is_that_of_training_and_goes_on_after_a_pause() -> None:
    store = folded(
        StateChanged(state="running", time=100.0), point(50, time=110.0), point(100, time=130.0),
        StateChanged(state="paused", time=131.0), StateChanged(state="running", time=531.0), point(200, time=540.0),
    )  # fmt: skip
    assert places(store, "time", 0.5, 0.75, 1.0, 2.0) == [10.0, 20.0, 30.0, 40.0]
    assert places(store, "step", 0.5, 1.5) == [50.0, 150.0]
    assert store.curves.to_epochs("time", np.array([20.0])).tolist() == [0.75]
    assert places(store, "epoch", 0.5) == [0.5]


def test_what_is_undone_took_no_time_and_was_not_the_best() -> None:
    kept = KeptCheckpoint(name="last", file="last.pt", at=7, step=100, epoch=1)
    saved = CheckpointSaved(file="last.pt", at=7, step=100, time=130.0, kept=(kept,))
    back = Rewound(
        cause="rollback", file="last.pt", at=7, step=100, epoch=1, undone=100, learning_rate=0.1,
        layers=(), time=231.0, kept=(kept,),
    )  # fmt: skip
    for snapshot in (saved, msgspec.structs.replace(saved, at=99)):  # known, or cut by the step
        store = folded(
            StateChanged(state="running", time=100.0), point(100, time=130.0), evaluated(1, 0.9), snapshot,
            point(200, time=230.0), evaluated(2, 0.95), back, point(150, time=240.0), point(200, time=250.0),
        )  # fmt: skip
        assert store.curves.best == [1.0]
        assert places(store, "time", 1.0, 2.0) == [30.0, 49.0]


def test_smoothing_is_a_moving_average_of_points_whatever_the_buckets() -> None:
    curve = Curve()
    values = np.random.default_rng(0).normal(size=500)
    for x, value in enumerate(values):
        curve.add(x, value)
    average, total, wanted = 0.0, 0.0, []
    for value in values:
        average, total = 0.9 * average + 0.1 * value, 0.9 * total + 0.1
        wanted.append(average / total)
    assert np.allclose(curve.smoothed(0.9)[1], wanted)
    assert np.array_equal(curve.smoothed(0.0)[1], values)
    thinned = Curve()  # each of these stands for 4 points
    for x in range(0, 500, 4):
        thinned.add(x + 3, values[x : x + 4].mean(), weight=4.0)
    assert np.abs(thinned.smoothed(0.99)[1] - curve.smoothed(0.99)[1][3::4]).max() < 0.02


def test_zoom_keeps_the_cursor_in_its_place_and_pan_stays_within_the_run() -> None:
    view = PlotView()
    assert view.zoomed(8.0, 1).window == (4.0, None)  # without a cursor the newest is looked at
    assert view.zoomed(8.0, 1).zoomed(8.0, -1).window is None
    assert view.zoomed(8.0, 1, 2.0).window == (1.0, 5.0)
    assert PlotView(cursor=2.0).zoomed(8.0, 1).window == (1.0, 5.0)
    part = PlotView(window=(1.0, 5.0))
    assert part.panned(8.0, 0.5).window == (3.0, 7.0)
    assert part.panned(8.0, 5.0).window == (4.0, None)
    assert part.panned(8.0, -5.0).window == (0.0, 4.0)
    assert PlotView().panned(8.0, 1.0).window is None
    closest = view
    for _ in range(50):
        closest = closest.zoomed(8.0, 1)
    assert closest.window is not None and 8.0 - closest.window[0] > 1e-3
    assert view.zoomed(0.0, 1) == view


def test_smoothing_has_an_end_on_both_sides() -> None:
    view = PlotView()
    for by, end in ((-1, SMOOTHINGS[0]), (1, SMOOTHINGS[-1])):
        for _ in range(20):
            view = view.smoother(by)
        assert view.smoothing == end


@pytest.mark.parametrize(
    ("size", "count", "wanted"),
    [
        ((80, 9), 5, (1, 1)),
        ((80, 40), 5, (1, 1)),
        ((120, 15), 5, (3, 1)),
        ((120, 30), 4, (2, 2)),
        ((200, 28), 6, (3, 2)),
        ((200, 14), 2, (2, 1)),
        ((200, 8), 6, (1, 1)),
    ],
)
def test_the_grid_adapts(size: tuple[int, int], count: int, wanted: tuple[int, int]) -> None:
    assert grid(*size, count) == wanted
