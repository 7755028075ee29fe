"""Where the time of a training goes, by a clock that only what is done moves on."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image
from steered import Replies, state

from finetui.engine.data import load
from finetui.engine.data.streaming import StreamedSplit
from finetui.engine.protocol.commands import Evaluate, Pause, Resume, StepOnce
from finetui.engine.protocol.config import DataConfig, FinetuneConfig
from finetui.engine.protocol.events import Evaluated, FeaturesChanged, Log, TrainPoint
from finetui.engine.protocol.time_sum import TimeSum
from finetui.engine.protocol.values import TimeShares
from finetui.engine.runs.summaries import summarise_run
from finetui.engine.session.checkpointing import CheckpointManager
from finetui.engine.session.evaluator import Evaluator
from finetui.engine.session.session import Session
from finetui.engine.training.features.cache import FeatureCache
from finetui.engine.training.time_meter import TimeMeter
from finetui.engine.training.trainer import Trainer

PARENT = Path(__file__).parents[3] / "checkpoints" / "lenet-mnist" / "last.ckpt"


class Clock:
    """A clock that stands still but for what is added to it."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def slow(self, monkeypatch: pytest.MonkeyPatch, owner: type, name: str, seconds: float) -> None:
        """Let the method `name` of `owner` take so long besides."""
        original = getattr(owner, name)

        def method(*args: object, **options: object) -> object:
            self.now += seconds
            return original(*args, **options)

        monkeypatch.setattr(owner, name, method)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("finetui.engine.training.time_meter.perf_counter", clock)
    monkeypatch.setattr("time.perf_counter", clock)
    monkeypatch.setattr("time.monotonic", clock)
    return clock


class Data:
    """Of a split, what a meter looks at."""

    waited = copied = 0.0


def test_a_step_is_what_it_waits_and_copies_for_and_computes(clock: Clock) -> None:
    data = Data()
    data.waited = 50.0  # before the first step: somebody else's
    meter = TimeMeter(data)

    def work() -> str:
        data.waited += 3.0
        data.copied += 1.0
        clock.now += 6.0
        return "done"

    assert meter.step(work) == "done"
    data.waited += 9.0  # an evaluation of the same images
    clock.now += 10.0
    meter.evaluating += 9.0
    meter.saving += 0.5
    clock.now += 4.0
    shares = TimeShares(waiting=0.15, copying=0.05, computing=0.1, evaluating=0.45, saving=0.025, seconds=20.0)
    assert meter.take() == shares
    clock.now += 1.0
    assert meter.take() == TimeShares(seconds=1.0)


def test_shares_are_summed_by_their_seconds() -> None:
    total = TimeSum()
    assert total.shares() == TimeShares()
    total.add(TimeShares(waiting=0.5, computing=0.5, seconds=1.0))
    total.add(TimeShares(evaluating=1.0, seconds=3.0))
    assert total.shares() == TimeShares(waiting=0.125, computing=0.125, evaluating=0.75, seconds=4.0)


def test_images_that_are_read_when_they_are_wanted_are_waited_for(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part in ("train", "test"):
        for name in "ab":
            (tmp_path / part / name).mkdir(parents=True)
            for index in range(3):
                Image.fromarray(np.full((8, 8), index, np.uint8)).save(tmp_path / part / name / f"{index}.png")
    data = load(DataConfig(name=str(tmp_path), loader="stream"), torch.device("cpu"))
    source = data.train._source
    clock.slow(monkeypatch, type(source), "load", 2.0)
    clock.slow(monkeypatch, torch.Tensor, "to", 0.25)
    split = StreamedSplit(source, data.train._finish.transform, torch.device("cpu"), 0)
    for _ in split.batches(torch.arange(6), 3):
        clock.now += 1000.0  # what is done with a batch is no waiting
    assert split.waited == 12.0
    assert split.copied == 1.0  # images and labels, twice; the float32 of the transform is none of it


@pytest.fixture
def run(make_config, recorder, clock: Clock, monkeypatch: pytest.MonkeyPatch):
    """Return a function that trains an epoch of 40 steps, a second each, in which commands are given."""
    clock.slow(monkeypatch, Trainer, "train_step", 1.0)
    clock.slow(monkeypatch, Evaluator, "_keep", 30.0)
    clock.slow(monkeypatch, CheckpointManager, "_write", 10.0)

    def train(*lines: tuple, **settings: object) -> list[TrainPoint]:
        script = Replies(*lines)
        session = Session(
            make_config(**settings), commands=script.commands, sinks=[recorder, script],
            stay=lambda state: state == "paused",
        )  # fmt: skip
        outcome = session.run()
        assert outcome.state == "finished"
        train.folder = outcome.folder
        return recorder.of(TrainPoint)

    return train


def test_evaluating_and_saving_count_in_the_next_point(run, recorder) -> None:
    points = run(epochs=2)
    assert len(points) == 80
    of_epoch = TimeShares(computing=1.0, seconds=1.0)
    # The first checkpoint was written before the run began.
    assert [point.time_shares for point in points[:40]] == [of_epoch] * 40
    between = TimeShares(computing=0.0244, evaluating=0.7317, saving=0.2439, seconds=41.0)
    assert points[40].time_shares == between
    assert [point.time_shares for point in points[41:]] == [of_epoch] * 39
    (said,) = [log.message for log in recorder.of(Log) if log.message.startswith("where ")]
    assert said == "where 160 s of training went: 50 % computing, 38 % evaluating, 12 % saving".replace(" %", "%")
    summary = summarise_run(run.folder)
    assert summary is not None
    assert summary.time_shares == TimeShares(computing=0.6667, evaluating=0.25, saving=0.0833, seconds=120.0)


def test_a_pause_counts_in_nothing(run, recorder, clock: Clock) -> None:
    def long_after(test):
        def heard(event: object) -> bool:
            found = test(event)
            clock.now += 1000.0 * found
            return found

        return heard

    points = run(
        (lambda event: isinstance(event, TrainPoint), [Pause()]),
        (long_after(state("paused")), [StepOnce(), Evaluate()]),
        (long_after(lambda event: isinstance(event, Evaluated)), [Resume()]),
    )
    assert {point.time_shares for point in points} == {TimeShares(computing=1.0, seconds=1.0)}
    assert len(points) == 40


def test_filling_features_counts_as_computing(
    make_config, recorder, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock.slow(monkeypatch, Trainer, "train_step", 1.0)
    clock.slow(monkeypatch, FeatureCache, "fill", 50.0)
    config = msgspec.structs.replace(
        make_config(epochs=3), finetune=FinetuneConfig(parent=str(PARENT), recipe="linear-probe")
    )
    Session(config, sinks=[recorder]).run()
    assert [event.state for event in recorder.of(FeaturesChanged)] == ["filling", "held", "held"]
    first = recorder.of(TrainPoint)[0].time_shares
    assert first is not None and first.seconds > 50.0
    assert first.computing == 1.0
