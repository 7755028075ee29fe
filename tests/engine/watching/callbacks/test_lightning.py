"""Lightning's Trainer with the callback: steered through the real socket, in one process and in two."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from digits import DigitNet, Digits, moved, weights
from forked_ranks import on_ranks
from person import Person, journal, states
from torch.nn import functional as F
from torch.utils.data import DataLoader

from finetui.engine.distributed.ranks import Ranks
from finetui.engine.protocol import commands, events

pytestmark = pytest.mark.peers
L = pytest.importorskip("lightning.pytorch")


class LitDigits(L.LightningModule):
    """What Lightning's own examples look like."""

    def __init__(self, lr: float = 0.01) -> None:
        super().__init__()
        self.net = DigitNet()
        self.lr = lr
        self.rates: list[float] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.net(images)

    def training_step(self, batch: Any, _index: int) -> torch.Tensor:
        images, labels = batch
        scores = self(images)
        self.log("train_acc", (scores.argmax(1) == labels).float().mean())
        return F.cross_entropy(scores, labels)

    def validation_step(self, batch: Any, _index: int) -> None:
        images, labels = batch
        scores = self.net(images)
        self.log("val_loss", F.cross_entropy(scores, labels))
        self.log("val_acc", (scores.argmax(1) == labels).float().mean())

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=self.lr, momentum=0.9, weight_decay=0.01)
        # Global hooks come first: this one sees the rate that is used.
        optimizer.register_step_pre_hook(lambda opt, *_: self.rates.append(opt.param_groups[0]["lr"]))
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.999**step)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": self.scheduler, "interval": "step"}}


def trainer(folder: Path, ranks: Ranks, **options: Any) -> Any:
    import finetui

    torch.manual_seed(0)
    if ranks.world > 1:
        os.environ |= {"LOCAL_RANK": str(ranks.rank), "NODE_RANK": "0"}
        options = {"strategy": "ddp", "devices": ranks.world} | options
    settings = {"max_epochs": 1000, "devices": 1, "logger": False, "enable_checkpointing": False} | options
    return L.Trainer(
        accelerator="cpu",
        callbacks=[finetui.LightningCallback(runs_dir=folder / "runs", name="lit")],
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        **settings,
    )


def loaders() -> tuple[DataLoader, DataLoader]:
    return DataLoader(Digits("train", 400), batch_size=20, shuffle=True), DataLoader(Digits("t10k", 101), batch_size=20)


def steered(folder: Path, ranks: Ranks) -> dict[str, Any]:
    """Train until the person has stopped it; return what is to be looked at."""
    module = LitDigits()
    seen: dict[str, Any] = {}

    def script(person: Person) -> None:
        at = person.does(commands.Pause())
        person.does(commands.StepOnce())
        assert person.watcher.until_kind(events.TrainPoint).step == at + 1
        evaluated = person.asks(commands.Evaluate())
        seen["evaluate"] = (type(evaluated).__name__, evaluated.step, person.last(events.Evaluated).step)
        person.does(commands.SetFrozen(groups=("net.conv", "net.norm"), frozen=True))
        before = weights(module.net)
        person.does(commands.Resume())
        person.waits_for_step(at + 30)
        person.does(commands.Pause())
        seen["moved"] = moved(before, weights(module.net))
        person.does(commands.SetFrozen(groups=("net.conv", "net.norm"), frozen=False))
        used = len(module.rates)
        person.does(commands.SetLearningRate(value=0.5))
        person.does(commands.SetLearningRate(value=0.0, factor=3.0))
        before = weights(module.net)
        person.does(commands.Resume())
        person.waits_for_step(at + 60)
        person.does(commands.Pause())
        seen["moved again"] = moved(before, weights(module.net))
        seen["factors"] = {round(rate / (module.lr * 0.999**step), 6) for step, rate in enumerate(module.rates)}
        seen["factors used"] = {
            round(rate / (module.lr * 0.999**step), 6) for step, rate in enumerate(module.rates[used:], used)
        }
        seen["stopped at"] = person.does(commands.Stop())

    lit = trainer(folder, ranks)
    if ranks.is_first:
        with Person(folder / "runs", script):
            lit.fit(module, *loaders())
    else:
        lit.fit(module, *loaders())
    return seen | {"steps": lit.global_step, "weights": weights(module.net), "last": module.scheduler.get_last_lr()}


@pytest.mark.parametrize("world", [1, 2])
def test_a_person_steers_it(world: int, tmp_path: Path) -> None:
    first, *others = on_ranks(world, lambda ranks: steered(tmp_path, ranks), tmp_path)
    assert first["evaluate"][0] == "CommandAccepted"
    assert first["evaluate"][1] == first["evaluate"][2]
    assert first["moved"] == {"hidden", "head"}
    assert first["moved again"] == {"conv", "norm", "hidden", "head"}
    assert first["factors"] == {1.0, 3.0}
    assert first["factors used"] == {3.0}
    assert first["last"] == [pytest.approx(0.01 * 0.999 ** first["steps"])]
    assert first["stopped at"] == first["steps"]
    for other in others:
        assert other["steps"] == first["steps"]
        assert not moved(
            {name: value for name, value in first["weights"].items() if "running" not in name}, other["weights"]
        )
    told = journal(tmp_path / "runs")
    assert states(told)[-1] == "stopped"
    prepared = next(event for event in told if isinstance(event, events.RunPrepared))
    assert prepared.data.classes == tuple(Digits.classes)
    assert prepared.world == world
    assert prepared.steps_per_epoch == 20 // world
    assert (prepared.data.channels, prepared.data.height, prepared.data.width) == (1, 28, 28)
    points = [event for event in told if isinstance(event, events.TrainPoint)]
    assert points[-1].step == first["steps"]
    assert sum(point.steps for point in points) == first["steps"]
    assert all(point.loss is not None for point in points)
    assert points[-1].accuracy is not None
    assert {point.epoch for point in points} == set(range(1, points[-1].epoch + 1))
    evaluations = [event for event in told if isinstance(event, events.Evaluated)]
    # The sanity check is none of them; each has seen all 101 images, and none twice.
    assert all(event.n == 101 and event.step > 0 and event.predictions for event in evaluations)
    assert evaluations[-1].others["val_acc"] == pytest.approx(evaluations[-1].accuracy, abs=0.05)
