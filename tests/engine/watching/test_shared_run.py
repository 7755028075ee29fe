"""A loop of several processes under DistributedDataParallel, of which the first one is told what all do."""

import time
import warnings
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from digits import DigitNet, Digits, moved, trained
from forked_ranks import on_ranks
from person import Person, journal, states
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler

from finetui.engine.distributed.ranks import Ranks
from finetui.engine.protocol import commands, events
from finetui.engine.watching.loop import Loop
from finetui.engine.watching.parallel import why_no_freezing
from finetui.engine.watching.shared_run import SharedRun, own_ranks, ranks_of

SHORT = 3.0  # seconds until the training's own messages time out


class OwnTraining:
    """A person's loop on two processes; the convolution is frozen before DistributedDataParallel is made."""

    def __init__(self, folder: Path, ranks: Ranks, **options: Any) -> None:
        if ranks.world > 1:
            dist.init_process_group("gloo", timeout=timedelta(seconds=SHORT))
        torch.manual_seed(0)
        self.net = DigitNet()
        self.net.conv.requires_grad_(False)
        self.model = DistributedDataParallel(self.net, **options) if ranks.world > 1 else self.net
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=0.01, momentum=0.9, weight_decay=0.01)
        data = Digits("train", 400)
        sampler = DistributedSampler(data, ranks.world, ranks.rank)
        self.loader = DataLoader(data, batch_size=20, sampler=sampler)
        self.ranks = own_ranks()
        self.run = SharedRun(self.ranks, self.model, [self.optimizer], name="own", runs_dir=folder / "runs")
        self.steps = 0

    def train(self) -> None:
        with self.run:
            for _ in range(1000):
                self.net.train()
                for images, labels in self.loader:
                    if not self.run.before_step():
                        return
                    self.optimizer.zero_grad()
                    loss = F.cross_entropy(self.model(images), labels)
                    loss.backward()
                    self.optimizer.step()
                    self.run.log(loss=loss)
                    self.run.after_step(len(images))
                    self.steps += 1


def steered(folder: Path, ranks: Ranks, script: Any, **options: Any) -> dict[str, Any]:
    training, seen = OwnTraining(folder, ranks, **options), {}
    person = Person(folder / "runs", lambda person: script(person, training, seen))
    with person if ranks.is_first else nullcontext():
        training.train()
    return seen | {"steps": training.steps, "weights": trained(training.net)}


def goes_on(person: Person, training: OwnTraining, steps: int = 10) -> set[str]:
    """Resume for some steps; return what has moved."""
    before = trained(training.net)
    at = person.does(commands.Resume())
    person.waits_for_step(at + steps)
    person.does(commands.Pause())
    return moved(before, trained(training.net))


def freezes(person: Person, training: OwnTraining, seen: dict[str, Any]) -> None:
    person.does(commands.Pause())
    seen["at first"] = goes_on(person, training)
    person.does(commands.SetFrozen(groups=("hidden",), frozen=True))
    person.does(commands.SetFrozen(layers=("conv",), frozen=False))
    seen["hidden frozen, conv thawed"] = goes_on(person, training)
    person.does(commands.SetFrozen(groups=("hidden",), frozen=False))
    person.does(commands.SetFrozen(groups=("head",), frozen=True))
    seen["head frozen, hidden thawed"] = goes_on(person, training)
    person.does(commands.Stop())


@pytest.mark.parametrize("options", [{}, {"gradient_as_bucket_view": True}, {"find_unused_parameters": True}])
def test_what_trains_under_ddp_is_averaged_and_what_is_frozen_stays(options: dict[str, Any], tmp_path: Path) -> None:
    first, second = on_ranks(2, lambda ranks: steered(tmp_path, ranks, freezes, **options), tmp_path)
    assert first["at first"] == {"norm", "hidden", "head"}
    assert first["hidden frozen, conv thawed"] == {"conv", "norm", "head"}
    assert first["head frozen, hidden thawed"] == {"conv", "norm", "hidden"}
    assert first["steps"] == second["steps"]
    assert not moved(first["weights"], second["weights"])
    assert states(journal(tmp_path / "runs"))[-1] == "stopped"


def test_a_static_graph_says_why_its_layers_stay(tmp_path: Path) -> None:
    def script(person: Person, training: OwnTraining, _seen: dict[str, Any]) -> None:
        at = person.does(commands.Pause())
        refused = person.asks(commands.SetFrozen(groups=("hidden",), frozen=True))
        assert isinstance(refused, events.CommandRefused)
        assert "static_graph" in refused.reason
        assert "hidden" in goes_on(person, training)
        assert training.run.folder is not None and at >= 0
        person.does(commands.Stop())

    first, second = on_ranks(2, lambda ranks: steered(tmp_path, ranks, script, static_graph=True), tmp_path)
    assert not moved(first["weights"], second["weights"])


def test_wrappers_that_keep_their_layers_say_why() -> None:
    assert not why_no_freezing(DigitNet())
    assert "torchrun" in why_no_freezing(torch.nn.DataParallel(DigitNet()))


def test_divided_parameters_say_why_their_layers_stay(tmp_path: Path) -> None:
    def work(ranks: Ranks) -> str:
        from torch.distributed.fsdp import fully_shard

        dist.init_process_group("gloo")
        mesh = torch.distributed.device_mesh.init_device_mesh("cpu", (ranks.world,))
        return why_no_freezing(fully_shard(DigitNet(), mesh=mesh))

    assert all(why.startswith("fully_shard divides") for why in on_ranks(2, work, tmp_path))


def test_processes_that_torch_does_not_know_are_not_watched() -> None:
    with pytest.warns(RuntimeWarning, match="^finetui watches nothing: 4 processes train"):
        assert ranks_of(4) is None
    assert ranks_of(1) is not None


def test_a_pause_may_last_longer_than_the_process_group_waits(tmp_path: Path) -> None:
    def script(person: Person, training: OwnTraining, _seen: dict[str, Any]) -> None:
        person.does(commands.Pause())
        time.sleep(SHORT + 2)
        goes_on(person, training)
        person.does(commands.Stop())

    first, second = on_ranks(2, lambda ranks: steered(tmp_path, ranks, script), tmp_path)
    assert first["steps"] == second["steps"] >= 10


def test_others_go_on_where_the_first_gives_up(tmp_path: Path) -> None:
    def work(ranks: Ranks) -> int:
        training = OwnTraining(tmp_path, ranks)
        training.loader = list(training.loader)[:5] * 4
        if ranks.is_first:
            training.run.after_step = lambda samples: training.run._give_up(RuntimeError("of finetui's own"))  # type: ignore[method-assign]
        goes = iter(range(1000))
        training.train = lambda: None  # type: ignore[method-assign]
        with training.run:
            for images, labels in training.loader:
                assert training.run.before_step()
                training.optimizer.zero_grad()
                F.cross_entropy(training.model(images), labels).backward()
                training.optimizer.step()
                training.run.after_step(len(images))
                next(goes)
        return next(goes)

    assert on_ranks(2, work, tmp_path) == [20, 20]
    assert states(journal(tmp_path / "runs"))[-1] == "failed"


def test_a_rate_that_was_set_ends_on_all_ranks_where_the_first_gives_up(tmp_path: Path) -> None:
    def work(ranks: Ranks) -> dict[str, torch.Tensor]:
        training = OwnTraining(tmp_path, ranks)
        with warnings.catch_warnings(), training.run as run:
            warnings.simplefilter("ignore")
            for step, (images, labels) in enumerate(list(training.loader)[:9]):
                if ranks.is_first and step == 3:
                    run._loop.optimizers.factor = 3.0  # as a dashboard sets it
                if ranks.is_first and step == 6:
                    run._give_up(RuntimeError("of finetui's own"))
                assert run.before_step()
                training.optimizer.zero_grad()
                F.cross_entropy(training.model(images), labels).backward()
                training.optimizer.step()
                run.after_step(len(images))
        return trained(training.net)

    first, second = on_ranks(2, work, tmp_path)
    assert not moved(first, second)


def test_layers_that_the_loop_freezes_itself_stay_frozen_on_all_ranks(tmp_path: Path) -> None:
    def work(ranks: Ranks) -> bool:
        training = OwnTraining(tmp_path, ranks, find_unused_parameters=True)
        with training.run as run:
            for step in range(4):
                if step == 1:
                    training.net.hidden.requires_grad_(False)
                if step == 2 and ranks.is_first:
                    run._loop.optimizers.factor = 0.5  # as a dashboard sets it, before a point has seen the layers
                assert run.before_step()
        return any(parameter.requires_grad for parameter in training.net.hidden.parameters())

    assert on_ranks(2, work, tmp_path) == [False, False]


def test_a_rank_that_cannot_follow_goes_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def work(ranks: Ranks) -> int:
        if not ranks.is_first:
            monkeypatch.setattr("finetui.engine.watching.shared_run._Follower.__init__", lambda *_: 1 / 0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            training = OwnTraining(tmp_path, ranks)
        with training.run as run:
            if ranks.is_first:
                run._loop.optimizers.factor = 0.5
            return sum(run.before_step() for _ in range(4))

    assert on_ranks(2, work, tmp_path) == [4, 4]


def test_what_needs_all_ranks_is_not_offered_where_the_parameters_are_divided(tmp_path: Path) -> None:
    class FSDPModule(DigitNet):
        """Named as what torch makes of a divided network."""

    asked: dict[type, Any] = {}
    for kind in (DigitNet, FSDPModule):
        net = kind()
        arguments = {"epochs": None, "steps_per_epoch": None, "classes": None, "evaluate": None, "config": None}
        loop = Loop(net, [], name="own", runs_dir=str(tmp_path), save=None, world=2, **arguments)
        net.head.weight.grad = torch.ones_like(net.head.weight)
        asked[kind] = set(loop.steering.capabilities().commands), loop._take_norms() is not None
        loop.close(None, "")
    needs_all = {"DescribeModel", "ViewLayer", "MeasureLayers", "AuditParameters", "Save"}
    assert asked[DigitNet][0] - asked[FSDPModule][0] == needs_all
    assert (asked[DigitNet][1], asked[FSDPModule][1]) == (True, False)
