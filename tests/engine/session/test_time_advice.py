"""What is said of time that does not go into computing: only what is true, once, and after enough of it."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image

from finetui.engine.data import ImageData, load
from finetui.engine.protocol.config import CheckpointsConfig, DataConfig, ModelConfig, RunConfig
from finetui.engine.protocol.events import TrainPoint
from finetui.engine.protocol.values import TimeShares
from finetui.engine.session import time_advice
from finetui.engine.session.time_advice import TimeAdvice

CPU = torch.device("cpu")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch):
    """Return a function that says how many processors and bytes there are."""

    def have(processors: int = 4, free: int = 9 * 10**9) -> None:
        monkeypatch.setattr(time_advice, "_processors", lambda: processors)
        monkeypatch.setattr(time_advice, "free_memory", lambda _device: free)

    have()
    return have


def folder(root: Path, train: int = 6, test: int = 2) -> str:
    for part, count in (("train", train), ("test", test)):
        for name in "ab":
            (root / part / name).mkdir(parents=True, exist_ok=True)
            for index in range(count):
                Image.fromarray(np.full((8, 8), index, np.uint8)).save(root / part / name / f"{index}.png")
    return str(root)


class Run:
    """A run of ten epochs whose points tell where their time went."""

    def __init__(self, images: ImageData, **sections: msgspec.Struct) -> None:
        self.advice = TimeAdvice(RunConfig(**sections), images, CPU)
        self.step = 0
        self.point(1, 0.1)  # with which the workers started

    def point(self, epoch: int, seconds: float, **shares: float) -> list[str]:
        self.step += 1
        point = TrainPoint(
            step=self.step, epoch=epoch, step_in_epoch=self.step, steps=1, loss=1.0, accuracy=0.5, learning_rate=0.1,
            grad_norm=1.0, samples_per_second=10.0, time_shares=TimeShares(seconds=seconds, **shares),
        )  # fmt: skip
        alerts = self.advice.after(point, 10, "mine")
        assert all(alert.kind == "speed" and alert.step == self.step for alert in alerts)
        return [alert.message for alert in alerts]

    def train(self, seconds: int, epoch: int = 1, **shares: float) -> list[str]:
        return [message for _ in range(seconds) for message in self.point(epoch, 1.0, **shares)]


@pytest.fixture
def streamed(tmp_path: Path, machine):
    """A run on a folder that one worker streams."""
    config = DataConfig(name=folder(tmp_path), loader="stream", workers=1)
    return Run(load(config, CPU), data=config)


BOTH = "stop, then finetui resume mine --workers 3, or --loader resident (fits: 1e-06 of 9 GB)"


def test_waiting_for_images_is_said_once_with_what_helps(streamed: Run) -> None:
    assert streamed.train(19, waiting=0.61) == []
    assert streamed.train(2, waiting=0.61) == [f"61% of the time is spent waiting for images; {BOTH}"]
    assert streamed.train(100, waiting=0.8) == []


def test_it_is_said_again_only_after_it_was_gone(streamed: Run) -> None:
    assert len(streamed.train(21, waiting=0.5)) == 1
    assert streamed.train(40, waiting=0.2) == []  # below the limit, and not gone
    assert streamed.train(40, waiting=0.5) == []
    assert streamed.train(40, waiting=0.1) == []
    assert len(streamed.train(40, waiting=0.5)) == 1


@pytest.mark.parametrize("share", [0.0, 0.1, 0.29])
def test_a_little_waiting_is_no_matter(streamed: Run, share: float) -> None:
    assert streamed.train(100, waiting=share, computing=1 - share) == []


def test_in_the_last_epoch_nothing_is_worth_the_break(streamed: Run) -> None:
    assert streamed.train(100, epoch=10, waiting=0.9) == []


def test_no_more_workers_than_processors_and_nothing_resident_that_does_not_fit(streamed: Run, machine) -> None:
    machine(processors=2)
    assert "--workers 2, or" in streamed.train(21, waiting=0.9)[0]
    streamed.train(40)
    machine(processors=1)
    (message,) = streamed.train(40, waiting=0.9)
    assert message.endswith("finetui resume mine --loader resident (fits: 1e-06 of 9 GB)")
    streamed.train(40)
    machine(processors=4, free=1000)
    (message,) = streamed.train(40, waiting=0.9)
    assert message.endswith("finetui resume mine --workers 4")
    streamed.train(40)
    machine(processors=1, free=1000)
    assert streamed.train(40, waiting=0.9) == []


def test_a_set_in_memory_is_not_told_to_be_read_otherwise(tmp_path: Path, machine) -> None:
    config = DataConfig(name=folder(tmp_path), loader="resident", workers=1)
    run = Run(load(config, CPU), data=config)
    assert run.advice._resident() == []
    assert run.train(40, copying=0.5) == []  # and on a CPU nothing is copied


def test_own_code_is_named_as_resume_wants_it(tmp_path: Path, machine) -> None:
    data = load(DataConfig(name=folder(tmp_path), loader="stream", workers=1), CPU)
    run = Run(data, data=DataConfig(name="my.py:images", workers=1), model=ModelConfig(name="my.py:net"))
    (message,) = run.train(21, waiting=0.61)
    assert "resume mine --model my.py:net --data my.py:images --workers 3, or" in message
    assert Run(data, data=DataConfig(name="own:data", workers=1)).train(40, waiting=0.61) == []


def epochs(run: Run, count: int, **between: float) -> list[str]:
    """Train epochs of 9 s, the first of which is under way; before each but that there is a second of `between`."""
    found = run.train(9)
    for epoch in range(2, count + 2):
        found += run.point(epoch, 1.0, **between) + run.train(8, epoch)
    return found


def test_saving_is_judged_by_whole_epochs_and_offered_to_be_rarer(tmp_path: Path, machine) -> None:
    config = DataConfig(name=folder(tmp_path), loader="resident")
    data = load(config, CPU)
    often = Run(data, data=config, checkpoints=CheckpointsConfig(every_steps=20))
    assert epochs(often, 8, saving=1.0) == [
        "11% of the time is spent saving checkpoints; stop, then finetui resume mine --save-steps 120"
    ]
    by_epochs = Run(data, data=config)
    assert epochs(by_epochs, 8, saving=1.0) == []  # there is no way to save less often


def test_a_long_evaluation_in_a_longer_epoch_is_in_line(tmp_path: Path, machine) -> None:
    config = DataConfig(name=folder(tmp_path, train=20, test=20), loader="resident")
    run = Run(load(config, CPU), data=config)
    found = run.train(50)
    for epoch in range(2, 6):
        found += run.point(epoch, 30.0, evaluating=1.0) + run.train(50, epoch)
    assert found == []
    for epoch in range(6, 8):
        found += run.point(epoch, 40.0, evaluating=1.0) + run.train(50, epoch)
    assert found == [
        "44% of the time is spent evaluating after each epoch; "
        "a new run with --val 0.1 holds out 4 images to evaluate on instead"
    ]


def test_of_a_streamed_set_evaluating_is_quicker_with_what_reads_it_quicker(streamed: Run) -> None:
    found = streamed.train(3)
    for epoch in range(2, 9):
        found += streamed.point(epoch, 7.0, evaluating=1.0) + streamed.train(3, epoch)
    assert found == [f"70% of the time is spent evaluating after each epoch; {BOTH.replace('3', '4')}"]


def test_the_numbers_are_short(machine) -> None:
    assert [time_advice._rounded_up(number) for number in (3.2, 57, 101, 1234, 99_999)] == [4, 57, 110, 1300, 100_000]
    assert [time_advice._gigabytes(int(number * 1e9)) for number in (0.52, 1.24, 9.04, 128.3)] == [
        "0.52", "1.2", "9", "128"
    ]  # fmt: skip


def test_points_of_earlier_versions_tell_nothing(tmp_path: Path, machine) -> None:
    config = DataConfig(name=folder(tmp_path), loader="stream", workers=1)
    advice = TimeAdvice(RunConfig(data=config), load(config, CPU), CPU)
    point = TrainPoint(
        epoch=1, step_in_epoch=1, steps=1, loss=1.0, accuracy=0.5, learning_rate=0.1, grad_norm=1.0,
        samples_per_second=10.0,
    )  # fmt: skip
    assert advice.after(point, 10, "mine") == []
