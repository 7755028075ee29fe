"""Lightning's Trainer with the callback: steered through the real socket, in one process and in two."""

import os
import threading
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from digits import DigitNet, Digits, moved, trained, weights
from faults_within import called_by, trained_with_a_fault
from forked_ranks import on_ranks
from person import Person, check_steered, journal, states, steers_everything
from torch.nn import functional as F
from torch.utils.data import DataLoader

import finetui
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


def trainer(folder: Path, ranks: Ranks, *others: Any, **options: Any) -> Any:
    torch.manual_seed(0)
    if ranks.world > 1:
        os.environ |= {"LOCAL_RANK": str(ranks.rank), "NODE_RANK": "0"}
        options = {"strategy": "ddp", "devices": ranks.world} | options
    settings = {"max_epochs": 1000, "devices": 1, "logger": False, "enable_checkpointing": False} | options
    return L.Trainer(
        accelerator="cpu",
        callbacks=[finetui.LightningCallback(runs_dir=folder / "runs", name="lit"), *others],
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        **settings,
    )


def loaders() -> tuple[DataLoader, DataLoader]:
    return DataLoader(Digits("train", 400), batch_size=20, shuffle=True), DataLoader(Digits("t10k", 101), batch_size=20)


def steered(folder: Path, ranks: Ranks, **options: Any) -> dict[str, Any]:
    """Train until the person has stopped it; return what is to be looked at."""
    module, seen = LitDigits(), {}
    lit = trainer(folder, ranks, **options)
    person = Person(
        folder / "runs", lambda person: steers_everything(person, seen, module.net, module.rates, "net.conv")
    )
    with person if ranks.is_first else nullcontext():
        lit.fit(module, *loaders())
    (rate,) = module.scheduler.get_last_lr()
    return seen | {"steps taken": lit.global_step, "weights": trained(module.net), "last rate": rate}


@pytest.mark.parametrize(
    ("world", "options"), [(1, {}), (1, {"accumulate_grad_batches": 2, "precision": "bf16-mixed"}), (2, {})]
)
def test_a_person_steers_it(world: int, options: dict[str, Any], tmp_path: Path) -> None:
    found = on_ranks(world, lambda ranks: steered(tmp_path, ranks, **options), tmp_path)
    told = journal(tmp_path / "runs")
    check_steered(found, told, "conv", 101)
    prepared = next(event for event in told if isinstance(event, events.RunPrepared))
    assert prepared.steps_per_epoch == 20 // world // options.get("accumulate_grad_batches", 1)
    evaluation = [event for event in told if isinstance(event, events.Evaluated)][-1]
    if world == 1:
        assert evaluation.others["val_acc"] == pytest.approx(evaluation.accuracy)


class ManualDigits(LitDigits):
    """Two optimizers that are stepped by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def configure_optimizers(self) -> Any:
        body = [*self.net.conv.parameters(), *self.net.norm.parameters(), *self.net.hidden.parameters()]
        return [torch.optim.SGD(body, lr=0.01), torch.optim.SGD(self.net.head.parameters(), lr=0.1)]

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        loss = super().training_step(batch, index)
        for optimizer in self.optimizers():
            optimizer.zero_grad()
        self.manual_backward(loss)
        for optimizer in self.optimizers():
            optimizer.step()
        return loss


def test_several_optimizers_of_a_batch_are_one_step(tmp_path: Path) -> None:
    def work(ranks: Ranks) -> dict[str, Any]:
        module, seen = ManualDigits(), {}

        def script(person: Person) -> None:
            at = person.does(commands.Pause())
            person.does(commands.SetFrozen(groups=("net.conv", "net.head"), frozen=True))
            before = weights(module.net)
            person.does(commands.StepOnce())
            assert person.watcher.until_kind(events.TrainPoint).step == at + 1
            seen["moved"] = moved(before, weights(module.net))
            person.does(commands.Stop())

        lit = trainer(tmp_path, ranks)
        with Person(tmp_path / "runs", script):
            lit.fit(module, *loaders())
        return seen | {"steps": lit.global_step}

    (found,) = on_ranks(1, work, tmp_path)
    assert found["moved"] == {"hidden"}  # the normalisation belongs to the group of its convolution
    points = [event for event in journal(tmp_path / "runs") if isinstance(event, events.TrainPoint)]
    assert points[-1].step * 2 == found["steps"]
    assert points[-1].learning_rate == pytest.approx(0.1)


class Failing(LitDigits):
    """Fails in its sixth step."""

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        if index == 5:
            raise ValueError("no such thing")
        return super().training_step(batch, index)


def test_an_exception_passes_through(tmp_path: Path) -> None:
    def work(ranks: Ranks) -> int:
        threads = threading.active_count()
        with pytest.raises(ValueError, match="^no such thing$"):
            trainer(tmp_path, ranks).fit(Failing(), *loaders())
        return threading.active_count() - threads

    assert on_ranks(1, work, tmp_path) == [0]
    last = journal(tmp_path / "runs")[-1]
    assert (last.state, last.step) == ("crashed", 5)
    assert "no such thing" in last.reason


def test_a_training_ends_as_finished(tmp_path: Path) -> None:
    def work(ranks: Ranks) -> None:
        trainer(tmp_path, ranks, max_epochs=2, num_sanity_val_steps=2).fit(LitDigits(), *loaders())

    on_ranks(1, work, tmp_path)
    told = journal(tmp_path / "runs")
    assert states(told)[-1] == "finished"
    assert [event.step for event in told if isinstance(event, events.Evaluated)] == [20, 40]


def short(folder: Path, ranks: Ranks, watched: bool = True) -> dict[str, torch.Tensor]:
    """Train for two short epochs; return the weights."""
    lit = trainer(folder, ranks, max_epochs=2, limit_train_batches=3, limit_val_batches=2)
    lit.callbacks = [one for one in lit.callbacks if watched or not isinstance(one, finetui.LightningCallback)]
    torch.manual_seed(1)
    module = LitDigits()
    lit.fit(module, *loaders())
    assert not any(one._forward_hooks for one in module.modules())
    return weights(module.net)


@pytest.mark.parametrize(
    "name", [*called_by(L.Callback, finetui.LightningCallback), "_close", "_obey", "_look_at", "_log"]
)
def test_a_fault_of_finetuis_own_is_a_warning(name: str, tmp_path: Path) -> None:
    def work(ranks: Ranks) -> Any:
        plain = short(tmp_path / "plain", ranks, watched=False)
        method = getattr(finetui.LightningCallback, name)
        found, said = trained_with_a_fault(lambda: short(tmp_path, ranks), method)
        return moved(plain, found), said

    ((changed, said),) = on_ranks(1, work, tmp_path)
    assert not changed
    assert len(said) == 1
    assert "Fault: of finetui's own" in said[0]


def test_a_fault_on_one_of_two_ranks_keeps_none_waiting(tmp_path: Path) -> None:
    def work(ranks: Ranks) -> Any:
        if not ranks.is_first:
            return short(tmp_path, ranks)
        return trained_with_a_fault(lambda: short(tmp_path, ranks), finetui.LightningCallback._look_at)

    (first, said), second = on_ranks(2, work, tmp_path)
    assert len(said) == 1
    layers = {name for name in first if "norm" not in name}  # each rank has its own running statistics
    assert all(torch.equal(first[name], second[name]) for name in layers)


class Recording(L.Callback):
    """Another callback, as ModelCheckpoint is one: notes what it sees of validations."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        self.seen.append(trainer.global_step)


def test_an_evaluation_that_is_asked_for_is_seen_by_nobody_else(tmp_path: Path) -> None:
    from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
    from lightning.pytorch.loggers import CSVLogger

    def work(ranks: Ranks) -> Any:
        recording, module = Recording(), LitDigits()
        best = ModelCheckpoint(tmp_path / "best", monitor="val_loss", save_top_k=-1, filename="{step}")
        early = EarlyStopping("val_loss", patience=10**6, min_delta=100.0)  # none is better than the first
        lit = trainer(
            tmp_path, ranks, recording, best, early, logger=CSVLogger(tmp_path, "csv"), log_every_n_steps=1,
            enable_checkpointing=True, num_sanity_val_steps=0,
        )  # fmt: skip
        told: dict[str, Any] = {}

        def state() -> list[Any]:
            metrics = [dict(lit.callback_metrics), dict(lit.logged_metrics), dict(lit.progress_bar_metrics)]
            return [*metrics, torch.get_rng_state().tolist(), [one.training for one in module.modules()]]

        def script(person: Person) -> None:
            told["at"], told["same"] = person.evaluates_three_times(state)

        with Person(tmp_path / "runs", script):
            lit.fit(module, *loaders())
        return told, recording.seen, early.wait_count

    ((told, seen, waited),) = on_ranks(1, work, tmp_path)
    assert all(told["same"])
    assert waited == len(seen) - 1
    assert {path.name for path in (tmp_path / "best").iterdir()} == {f"step={step}.ckpt" for step in seen}
    evaluated = [event.step for event in journal(tmp_path / "runs") if isinstance(event, events.Evaluated)]
    assert evaluated == sorted([*seen, *[told["at"]] * 3])
    logged = (tmp_path / "csv" / "version_0" / "metrics.csv").read_text().splitlines()
    place = logged[0].split(",").index("val_loss")
    assert sum(bool(line.split(",")[place]) for line in logged[1:]) == len(seen)
