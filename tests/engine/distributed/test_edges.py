"""What happens seldom to a run of several ranks: unreadable files, stages of a recipe, questions, a long pause."""

import os
import threading
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from forked_ranks import on_ranks
from normed_network import NormedNetwork
from PIL import Image
from ranked_runs import RankedRuns
from steered import at

from finetui.engine.checkpoints import checkpoint
from finetui.engine.distributed.ranks import Ranks
from finetui.engine.protocol.commands import ExplainImage, FinetunePlan, Pause, Resume, StartFinetune
from finetui.engine.protocol.config import DataConfig, RunConfig
from finetui.engine.protocol.events import AnyEvent, Explained, Log, RunPrepared, StageStarted, StateChanged
from finetui.engine.protocol.queues import CommandQueue
from finetui.engine.runs.folder import RunFolder
from finetui.engine.session.session import Session

pytestmark = pytest.mark.fault

WORLD = 2
TORN = ("train/a/02.png", "train/a/03.png", "train/b/05.png")


def write_pictures(root: Path) -> None:
    """Write 30 images to train on, in two classes, and 8 to evaluate."""
    chance = np.random.default_rng(0)
    for part, count in (("train", 15), ("test", 4)):
        for name in ("a", "b"):
            (root / part / name).mkdir(parents=True)
            for index in range(count):
                pixels = chance.integers(0, 256, (12, 12, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{index:02}.png")


def model() -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12 * 12 * 3, 2))


@pytest.fixture(scope="module", autouse=True)
def torn(runs: RankedRuns) -> None:
    """By one device and by two, in batches of 2: in some of them all images of a rank, or of both, prove unreadable."""

    def work(ranks: Ranks) -> None:
        root = runs.path / f"pictures-{ranks.world}"
        config = runs.config(f"torn-{ranks.world}", epochs=3, batch_size=2)
        config = msgspec.structs.replace(config, data=DataConfig(name=str(root), loader="stream", workers=1))

        def tear(event: AnyEvent) -> None:
            if isinstance(event, RunPrepared):
                for name in TORN:
                    os.truncate(root / name, 60)

        Session(config, ranks=ranks, model=model(), sinks=[tear]).run()

    for world in (1, WORLD):
        write_pictures(runs.path / f"pictures-{world}")
        on_ranks(world, work, runs.path)


def test_images_that_prove_unreadable_are_left_out_as_one_device_does(runs: RankedRuns) -> None:
    alone, together = runs.weights("torn-1"), runs.weights(f"torn-{WORLD}")
    for name in alone:
        torch.testing.assert_close(together[name], alone[name], rtol=1e-5, atol=1e-5)
    for world in (1, WORLD):
        told = [event.message for event in runs.told(f"torn-{world}", Log)]
        for name in TORN:
            assert sum(name in message for message in told) == 1, (world, told)


class Answered:
    """A sink that answers an event of a kind, once, with a command, at once or after some seconds."""

    def __init__(self, *answers: tuple[Any, float, Any]) -> None:
        self.heard: list[AnyEvent] = []
        self.commands = CommandQueue()
        self._answers = list(answers)

    def __call__(self, event: AnyEvent) -> None:
        self.heard.append(event)
        if self._answers and self._answers[0][0](event):
            _, seconds, command = self._answers.pop(0)
            threading.Timer(seconds, self.commands.put, [command]).start()


def in_state(state: str) -> Any:
    return lambda event: isinstance(event, StateChanged) and event.state == state


def test_the_stages_of_a_recipe_are_those_of_one_device(runs: RankedRuns) -> None:
    """First the head alone, then all: the network is wrapped anew, and the layers' own rates are the same."""

    def lenet(name: str) -> RunConfig:
        config = runs.config(name)
        return msgspec.structs.replace(config, data=DataConfig(name="mnist-sample"))

    def work(ranks: Ranks) -> int:
        plan = FinetunePlan(recipe="lp-ft", epochs=2, lr=0.01)
        config = msgspec.structs.replace(
            lenet(f"parent-{ranks.world}"), training=runs.config("", batch_size=400).training
        )
        outcome = Session(config, ranks=ranks, script=at((2, StartFinetune(plan=plan)))).run()
        assert outcome.next is not None
        section = msgspec.structs.replace(outcome.next.run, name=f"child-{ranks.world}")
        Session(msgspec.structs.replace(outcome.next, run=section), ranks=ranks).run()
        return ranks.rank

    for world in (1, WORLD):
        on_ranks(world, work, runs.path)
    alone, together = runs.weights("child-1"), runs.weights(f"child-{WORLD}")
    for name in alone:
        torch.testing.assert_close(together[name], alone[name], rtol=1e-4, atol=1e-5)
    stages = [[(e.step, e.name) for e in runs.told(f"child-{world}", StageStarted)] for world in (1, WORLD)]
    assert stages[0] == stages[1]
    assert len(stages[0]) == 2


def test_an_image_is_explained_once_and_nothing_changes(runs: RankedRuns) -> None:
    """Grad-CAM needs gradients, which the other ranks know nothing of."""

    def work(ranks: Ranks) -> list[tuple[int, int]]:
        explain = ExplainImage(index=3, method="grad-cam")
        asked = Answered((in_state("running"), 0, explain)) if ranks.is_first else Answered()
        for name, sinks in (("explained", [asked]), ("unexplained", [])):
            session = Session(
                runs.config(name), ranks=ranks, model=NormedNetwork(), data=runs.data(), sinks=sinks,
                commands=asked.commands,
            )  # fmt: skip
            session.run()
        return [(event.height, event.width) for event in asked.heard if isinstance(event, Explained)]

    found = on_ranks(WORLD, work, runs.path)
    assert found[0] == [(28, 28)]
    assert found[1] == []
    first, second = runs.weights("explained"), runs.weights("unexplained")
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_pause_may_be_longer_than_ranks_wait_for_one_another(runs: RankedRuns) -> None:
    timeout = 15.0

    def work(ranks: Ranks) -> str:
        told = Answered((in_state("running"), 0, Pause()), (in_state("paused"), timeout + 3, Resume()))
        answers = {"sinks": [told], "commands": told.commands} if ranks.is_first else {}
        session = Session(
            runs.config("paused"), ranks=ranks, model=NormedNetwork(), data=runs.data(),
            stay=lambda state: state == "paused", **answers,
        )  # fmt: skip
        return session.run().state

    assert on_ranks(WORLD, work, runs.path, timeout) == ["finished", "finished"]
    assert [event.state for event in runs.told("paused", StateChanged)][-3:] == ["paused", "running", "finished"]


@pytest.mark.parametrize("full", [True, False])
def test_a_full_disk_of_the_first_rank_stops_nobody(
    runs: RankedRuns, monkeypatch: pytest.MonkeyPatch, full: bool
) -> None:
    """No checkpoint can be written from step 3 on to step 12; each was due, and one is there in the end."""
    monkeypatch.setattr("finetui.engine.session.checkpointing._RETRY_SECONDS", 0.0)

    def work(ranks: Ranks) -> str:
        write = checkpoint.save

        def on_step(step: int, _loss: torch.Tensor) -> None:
            def fail(*_: Any, **__: Any) -> None:
                raise OSError(28, "No space left on device")

            checkpoint.save = fail if full and ranks.is_first and 3 <= step < 12 else write

        config = runs.config(f"full-{full}", epochs=2)
        kept = msgspec.structs.replace(config.checkpoints, every_steps=2, every_minutes=0)
        config = msgspec.structs.replace(config, checkpoints=kept)
        return Session(config, ranks=ranks, model=NormedNetwork(), data=runs.data(), on_step=on_step).run().state

    assert on_ranks(WORLD, work, runs.path) == ["finished", "finished"]
    told = [event.message for event in runs.told(f"full-{full}", Log)]
    assert any("No space left on device; training continues" in message for message in told) == full
    assert ("checkpoints can be written again" in told) == full
    assert checkpoint.load(RunFolder(runs.path / f"full-{full}").last)[2]["step"] == 14
