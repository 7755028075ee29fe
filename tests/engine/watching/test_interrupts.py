"""A KeyboardInterrupt at any line of what a step goes through: it reaches the loop as it is, and breaks nothing."""

import itertools
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch
from own_loop import OwnNet, images_and_labels, journal_of, watched_in
from torch.nn import functional as F
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

import finetui.engine.watching
from finetui.engine.protocol import events
from finetui.engine.runs.folder import RunFolder
from finetui.engine.watching.loop_meter import ALWAYS

OURS = str(Path(finetui.engine.watching.__file__).parent)
RATE = 0.5
Prepare = Callable[[Any], None]


class Interrupts:
    """Raises `error` at the line of finetui's number `place`, once; `lines` are those that were gone through."""

    def __init__(self, place: int) -> None:
        self.error = KeyboardInterrupt()
        self.lines = 0
        self._place = place

    def __call__(self, frame: FrameType, kind: str, _argument: Any) -> Any:
        if not frame.f_code.co_filename.startswith(OURS):
            return None
        self.lines += kind == "line"
        if kind == "line" and self.lines == self._place:
            raise self.error
        return self


def as_ever(_loop: Any) -> None:
    pass


def at_another_rate(loop: Any) -> None:
    loop.optimizers.factor = 0.1  # as a dashboard sets it, which has every step looked at
    loop.meter.look_at = ALWAYS


def with_a_point(loop: Any) -> None:
    loop.optimizers.looks = loop.meter.look_ahead(anyway=True, point=True)


def test_it_passes_through_at_each_line_and_the_loop_can_go_on(tmp_path: Path) -> None:
    net = OwnNet()
    optimizer = torch.optim.SGD(net.parameters(), lr=RATE, momentum=0.9)
    images, labels = images_and_labels()

    def train(steps: Any, place: int, prepare: Prepare) -> Interrupts:
        interrupts = Interrupts(place)
        try:
            for number, (inputs, targets) in enumerate(steps):
                if number == 1:
                    prepare(run._loop)
                    sys.settrace(interrupts)
                optimizer.zero_grad()
                loss = F.cross_entropy(net(inputs), targets)
                loss.backward()
                optimizer.step()
                run.log(loss=loss)
        finally:
            sys.settrace(None)
        return interrupts

    with watched_in(tmp_path)(net, optimizer) as run:
        for prepare, fewest in ((as_ever, 30), (at_another_rate, 60), (with_a_point, 100)):
            for place in itertools.count(1):
                before = run._loop.step
                steps = iter(run.steps([(images[:8], labels[:8])] * 3))
                try:
                    interrupts = train(steps, place, prepare)
                except KeyboardInterrupt as error:
                    assert type(error) is KeyboardInterrupt
                    assert error.__cause__ is None
                else:
                    assert interrupts.lines < place, "it has been swallowed"
                    assert run._loop.step == before + 3
                    assert interrupts.lines > fewest
                    break
                assert run.active
                assert before + 1 <= run._loop.step <= before + 3
                run._loop.optimizers.restore()  # as the next step does
                assert optimizer.param_groups[0]["lr"] == RATE
                run._loop.optimizers.factor = 1.0
    assert not _global_optimizer_pre_hooks
    assert not _global_optimizer_post_hooks
    told = journal_of(RunFolder(tmp_path / "own"))
    points = [event for event in told if isinstance(event, events.TrainPoint)]
    assert 0 < sum(point.steps for point in points) <= told[-1].step  # an interrupted one is lost
    assert told[-1].state == "finished"
    assert not [event for event in told if isinstance(event, events.Log)]


@pytest.mark.parametrize("place", range(1, 40, 6))
def test_it_ends_the_run_as_stopped(tmp_path: Path, place: int) -> None:
    there = set(threading.enumerate())
    interrupts = Interrupts(place)
    with pytest.raises(KeyboardInterrupt) as raised, watched_in(tmp_path)() as run:
        try:
            for number in run.steps(range(5)):
                if number == 1:
                    sys.settrace(interrupts)
                run.log(loss=torch.tensor(1.0))
        finally:
            sys.settrace(None)
    assert raised.value is interrupts.error
    last = journal_of(RunFolder(tmp_path / "own"))[-1]
    assert (last.state, last.reason) == ("stopped", "interrupted from the keyboard")
    assert set(threading.enumerate()) == there
