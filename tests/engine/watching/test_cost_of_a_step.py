"""What a step costs at which nobody wants anything, and when it is looked at: where a point is due, and only there."""

import sys
import time
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch
from own_loop import OwnNet, images_and_labels, journal_of, watched_in
from torch.nn import functional as F

import finetui.engine
from finetui.engine.distributed.ranks import SINGLE
from finetui.engine.protocol import commands, events
from finetui.engine.runs.folder import RunFolder
from finetui.engine.watching.shared_run import SharedRun

OURS = str(Path(finetui.engine.__file__).parent)
FEW = 10  # calls of Python: a microsecond each where nothing of them is in a cache


class Calls:
    """Counts the calls of finetui's functions, by their names."""

    def __init__(self) -> None:
        self.found: Counter[str] = Counter()

    def __call__(self, frame: FrameType, kind: str, _argument: Any) -> None:
        if kind == "call" and frame.f_code.co_filename.startswith(OURS):
            self.found[frame.f_code.co_qualname] += 1


def train(net: OwnNet, optimizer: torch.optim.Optimizer, run: Any) -> None:
    images, labels = images_and_labels()
    loss = F.cross_entropy(net(images[:8]), labels[:8])
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    run.log(loss=loss)


@pytest.fixture
def no_points(monkeypatch: pytest.MonkeyPatch) -> None:
    for time_between in ("POINT_INTERVAL", "_LONGEST"):
        monkeypatch.setattr(f"finetui.engine.watching.loop_meter.{time_between}", 1e9)


@pytest.mark.usefixtures("no_points")
def test_a_step_at_which_nobody_wants_anything_makes_few_calls(tmp_path: Path) -> None:
    net, calls = OwnNet(), Calls()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with watched_in(tmp_path)(net, optimizer) as run:
        for number, _ in enumerate(run.steps([images_and_labels()] * 14)):
            if number == 3:  # the first one is looked at
                sys.setprofile(calls)
            train(net, optimizer, run)
            if number == 12:
                sys.setprofile(None)
    assert sum(calls.found.values()) / 10 <= FEW, calls.found


@pytest.mark.usefixtures("no_points")
def test_so_it_is_for_callbacks(tmp_path: Path) -> None:
    net, calls = OwnNet(), Calls()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with SharedRun(SINGLE, net, [optimizer], runs_dir=tmp_path, name="own") as run:
        run.begin([], shape=(1, 12, 12))
        for number in range(13):
            if number == 3:
                sys.setprofile(calls)
            run.before_step()
            run.waited(0.001)
            train(net, optimizer, run)
            assert not run.point_due
            run.after_step(8)
        sys.setprofile(None)
    assert sum(calls.found.values()) / 10 <= FEW, calls.found


def points_of(folder: Path) -> list[events.TrainPoint]:
    return [event for event in journal_of(RunFolder(folder)) if isinstance(event, events.TrainPoint)]


@pytest.mark.usefixtures("no_points")
def test_a_step_of_a_paused_run_is_a_point_though_an_epoch_begins_with_it(tmp_path: Path) -> None:
    net = OwnNet()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with SharedRun(SINGLE, net, [optimizer], runs_dir=tmp_path, name="own") as run:
        run.begin([], shape=(1, 12, 12))
        for number in range(5):
            if number == 3:
                for command in (commands.Pause(), commands.StepOnce()):
                    run._loop.record.commands.put(command)
            run.before_step()
            run.epoch(number + 1)  # libraries do so after finetui was asked whether to go on
            train(net, optimizer, run)
            run.after_step(8)
            if number == 3:
                (*_, point) = points_of(tmp_path / "own")
                assert (point.step, point.epoch, point.steps) == (4, 4, 1)
                assert point.grad_norm
                run._loop.record.commands.put(commands.Resume())


def test_each_point_has_its_gradients_though_the_loop_forgets_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("finetui.engine.watching.loop_meter.POINT_INTERVAL", 0.02)
    monkeypatch.setattr("finetui.engine.watching.loop_meter._LONGEST", 0.02)
    net = OwnNet()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    looked = 0

    class Layers(finetui.engine.watching.loop.WatchedLayers):
        def saw_gradients(self) -> None:
            nonlocal looked
            looked += 1
            super().saw_gradients()

    monkeypatch.setattr("finetui.engine.watching.loop.WatchedLayers", Layers)
    with watched_in(tmp_path)(net, optimizer) as run:
        for _ in run.steps(range(300)):
            train(net, optimizer, run)
    *points, last = points_of(tmp_path / "own")  # the last one comes with the end
    assert len(points) > 2
    assert sum(point.steps for point in (*points, last)) == 300
    assert all(point.grad_norm and point.loss for point in points)
    assert len(points) <= looked <= len(points) + 2  # the first step is looked at as well
    assert looked < 150


def test_steps_that_take_long_are_a_point_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finetui.engine.watching.loop_meter.POINT_INTERVAL", 0.005)
    monkeypatch.setattr("finetui.engine.watching.loop_meter._LONGEST", 0.005)
    net = OwnNet()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with watched_in(tmp_path)(net, optimizer) as run:
        for _ in run.steps(range(8)):
            time.sleep(0.01)
            train(net, optimizer, run)
    points = points_of(tmp_path / "own")
    assert [point.steps for point in points] == [1] * 8
    assert all(point.grad_norm for point in points)
