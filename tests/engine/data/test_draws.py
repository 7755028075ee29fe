"""Own datasets that draw random numbers when an item is read."""

import random

import msgspec
import numpy as np
import pytest
import torch
from small_trainer import Small
from torch.utils.data import Dataset

from finetui.engine.checkpoints import checkpoint
from finetui.engine.data import ImageData, epoch_seeds, from_datasets
from finetui.engine.data.draws import preserved_generators
from finetui.engine.models import module_groups
from finetui.engine.protocol.commands import Stop
from finetui.engine.protocol.config import DataConfig, TrainingConfig
from finetui.engine.protocol.config_file import load as load_config
from finetui.engine.session.session import Session
from finetui.engine.training.trainer import Trainer

CPU = torch.device("cpu")
GENERATORS = {
    "torch": lambda: int(torch.randint(0, 1000, ())),
    "numpy": lambda: int(np.random.randint(1000)),
    "python": lambda: random.randrange(1000),
}
OWN = np.random.default_rng()


class Shifted(Dataset):
    """28 columns, of which one is lit: another one each time that it is read."""

    def __init__(self, count: int, draw: str = "torch") -> None:
        self.targets = [index % 3 for index in range(count)]
        self.draw = draw

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        drawn = int(OWN.integers(1000)) if self.draw == "own" else GENERATORS[self.draw]()
        return torch.roll(torch.eye(28)[None] * (index + 1), drawn % 28, 2), index % 3


class Fixed(Shifted):
    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.eye(28)[None] * (index + 1), index % 3


def made(train: Dataset, test: Dataset, loader: str = "auto", workers: int = 1) -> ImageData:
    return from_datasets(train, test, CPU, request=DataConfig(loader=loader, workers=workers))


def epoch(data: ImageData, number: int) -> torch.Tensor:
    order = torch.arange(len(data.train))
    return torch.cat([x for x, _ in data.train.batches(order, 4, seeds=epoch_seeds(len(order), 3, number))])


@pytest.mark.parametrize("draw", GENERATORS)
def test_every_epoch_has_draws_of_its_own_whoever_reads(draw: str) -> None:
    with preserved_generators():
        states = random.getstate(), np.random.get_state(), torch.get_rng_state()
        here = made(Shifted(12, draw), Fixed(4))
        first, second, again = epoch(here, 0), epoch(here, 1), epoch(here, 0)
        after = random.getstate(), np.random.get_state(), torch.get_rng_state()
    assert torch.equal(first, again)
    assert sum(not torch.equal(a, b) for a, b in zip(first, second, strict=True)) >= 10  # chance makes few alike
    assert torch.equal(states[2], after[2]) and states[0] == after[0]
    assert str(states[1]) == str(after[1])
    assert not here.train.in_memory and here.test.in_memory
    assert here.notices == (
        "the train set draws random numbers when it is read: every epoch reads it again, with random numbers from its "
        "seed (--loader stream: in other processes)",
    )
    streamed = made(Shifted(12, draw), Fixed(4), "stream", 2)
    try:
        assert torch.equal(epoch(streamed, 0), first)
        # Continued within an epoch.
        seeds = epoch_seeds(12, 3, 0)[8:]
        ((last, _),) = streamed.train.batches(torch.arange(8, 12), 4, seeds=seeds)
        assert torch.equal(last, first[8:])
    finally:
        streamed.train.close()


def test_what_does_not_draw_is_read_once() -> None:
    data = made(Fixed(12), Fixed(4))
    assert data.train.in_memory and data.notices == ()


def test_a_test_set_that_draws_is_the_same_at_every_evaluation() -> None:
    resident, streamed = made(Fixed(12), Shifted(8)), made(Fixed(12), Shifted(8), "stream")
    try:
        found = [
            torch.cat([x for x, _ in data.test.batches(torch.arange(8), 3)])
            for data in (resident, streamed, streamed, resident)
        ]
    finally:
        streamed.test.close()
    assert all(torch.equal(found[0], other) for other in found[1:])
    assert len({int(image[0, 0].argmax()) for image in found[0]}) > 2
    assert "the test set draws random numbers" in resident.notices[0]
    assert "scores depend on the draw" in resident.notices[0]


def test_a_generator_of_its_own_is_said() -> None:
    data = made(Shifted(12, "own"), Shifted(4, "own"))
    assert "cannot be seeded from outside" in data.notices[0] and "two runs differ" in data.notices[0]
    assert "scores vary from run to run" in data.notices[1]


def test_a_run_that_is_cut_and_resumed_draws_what_it_would_have_drawn(make_config) -> None:
    def run(name: str, seed: int = 0, stop: int = -1) -> str:
        config = make_config(epochs=3, batch_size=5, name=name, seed=seed)
        config = msgspec.structs.replace(config, model=msgspec.structs.replace(config.model, name="lenet"))

        def script(step: int) -> Stop | None:
            return Stop() if step == stop else None

        folder = Session(config, data=made(Shifted(20), Fixed(6)), script=script).run().folder
        if stop > 0:
            Session(load_config(folder.config), data=made(Shifted(20), Fixed(6)), resume=folder).run()
        return checkpoint.digest(checkpoint.load(folder.last)[1])

    whole = run("whole")
    assert run("cut", stop=6) == whole
    assert run("other", seed=1) != whole


def test_training_sees_another_draw_in_every_epoch_and_the_same_one_again() -> None:
    data = made(Shifted(12), Fixed(4))
    model = Small()
    trainer = Trainer(model, module_groups(model), data.train, TrainingConfig(batch_size=4))

    def seen(epoch: int, position: int = 0) -> dict[int, int]:
        images = torch.cat([x for x, _ in trainer.batches(epoch, position)])
        return {int(image.max()): int(image[0, 0].argmax()) for image in images}

    first, second = seen(0), seen(1)
    assert first.keys() == second.keys() and first != second
    assert seen(0) == first
    assert seen(0, 2).items() <= first.items()
