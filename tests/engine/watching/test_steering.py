"""A loop of somebody's own, steered through the real socket."""

from pathlib import Path

import pytest
import torch
from own_loop import OwnLoop, images_and_labels, journal_of
from watching import Watcher, until

from finetui.engine.checkpoints import checkpoint
from finetui.engine.protocol import commands, events
from finetui.engine.protocol.events import CommandAccepted, CommandRefused


def attached(loop: OwnLoop) -> Watcher:
    watcher = loop.attach()
    watcher.until_state("running")
    return watcher


def paused(loop: OwnLoop) -> Watcher:
    watcher = attached(loop)
    assert isinstance(watcher.ask(commands.Pause()), CommandAccepted)
    return watcher


def test_pause_step_once_and_resume(tmp_path: Path) -> None:
    with OwnLoop(tmp_path) as loop:
        watcher = paused(loop)
        there = loop.steps
        for more in range(1, 4):
            assert isinstance(watcher.ask(commands.StepOnce()), CommandAccepted)
            point = watcher.until_kind(events.TrainPoint)
            assert point.step == loop.steps == there + more
            assert point.steps == 1
        assert isinstance(watcher.ask(commands.Pause()), CommandRefused)
        assert isinstance(watcher.ask(commands.Resume()), CommandAccepted)
        until(lambda: loop.steps > there + 20, "it never went on")
        assert loop.run.folder is not None
    assert [e.state for e in journal_of(loop.folder_kept) if isinstance(e, events.StateChanged)][-3:] == [
        "paused",
        "running",
        "finished",
    ]


def test_stop_ends_the_epoch_and_leaves_the_block(tmp_path: Path) -> None:
    loop = OwnLoop(tmp_path)
    with loop:
        watcher = attached(loop)
        assert isinstance(watcher.ask(commands.Stop()), CommandAccepted)
        loop.wait()
    assert loop.error is None
    assert loop.run.stopped
    assert not loop.ended_all  # what comes behind the epochs in the block is not reached
    states = [e.state for e in journal_of(loop.folder_kept) if isinstance(e, events.StateChanged)]
    assert states == ["preparing", "running", "stopped"]
    saved = checkpoint.read(loop.folder_kept.last)
    assert all(torch.equal(saved.model[name], value) for name, value in loop.net.state_dict().items())


def test_the_rate_is_a_factor_that_no_scheduler_sees(tmp_path: Path) -> None:
    used: list[float] = []

    def step(loop: OwnLoop, images: torch.Tensor, labels: torch.Tensor) -> None:
        before = loop.net.head.bias.detach().clone()
        loop.optimizer.state.clear()  # no momentum: the update is the rate times the gradient
        loop.step(images, labels)
        moved = loop.net.head.bias.detach() - before
        gradient = loop.net.head.bias.grad + 0.01 * before
        used.append(float(-(moved @ gradient) / (gradient @ gradient)))

    def decays(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        return torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.999)

    with OwnLoop(tmp_path, body=step, scheduler=decays) as loop:
        watcher = paused(loop)
        assert loop.scheduler is not None
        own = loop.optimizer.param_groups[0]["lr"]
        assert own == loop.scheduler.get_last_lr()[0]
        watcher.ask(commands.SetLearningRate(value=0.0, factor=0.5))
        changed = next(e for e in watcher.seen if isinstance(e, events.LearningRateChanged))
        assert changed.learning_rate == pytest.approx(own / 2)
        assert changed.factor == 0.5
        assert loop.optimizer.param_groups[0]["lr"] == own  # nobody sees it
        watcher.ask(commands.StepOnce())
        point = watcher.until_kind(events.TrainPoint)
        assert used[-1] == pytest.approx(own / 2, rel=1e-3)
        after = loop.optimizer.param_groups[0]["lr"]
        assert after == pytest.approx(own * 0.999)  # the scheduler goes on from its own
        assert point.learning_rate == pytest.approx(after / 2)
        watcher.ask(commands.SetLearningRate(value=0.02))
        watcher.ask(commands.StepOnce())
        watcher.until_kind(events.TrainPoint)
        assert used[-1] == pytest.approx(0.02, rel=1e-3)
        assert isinstance(watcher.ask(commands.SetLearningRate(value=-1.0)), CommandRefused)


def test_what_is_frozen_stays_the_same_bit_for_bit_and_thaws(tmp_path: Path) -> None:
    with OwnLoop(tmp_path) as loop:
        watcher = paused(loop)
        watcher.ask(commands.SetFrozen(groups=("block1",), frozen=True))
        table = next(e for e in watcher.seen if isinstance(e, events.LayersChanged)).layers
        assert [group.frozen for group in table] == [True, False, False]
        net, state = loop.net, {name: v.clone() for name, v in loop.net.state_dict().items()}
        assert all(p.grad is None and not loop.optimizer.state.get(p) for p in net.block1.parameters())
        watcher.ask(commands.Resume())
        until(lambda: loop.steps > 60, "it never went on")  # `net.train()` is called for several epochs
        watcher.ask(commands.Pause())
        after = net.state_dict()
        assert all(torch.equal(after[name], state[name]) for name in state if name.startswith("block1"))
        assert not any(torch.equal(after[name], state[name]) for name in ("block2.0.weight", "block2.1.running_mean"))
        assert not net.block1[1].training
        assert net.block2[1].training
        watcher.ask(commands.SetFrozen(groups=("block1",), frozen=False))
        assert net.block1[1].training
        watcher.ask(commands.StepOnce())
        watcher.until_kind(events.TrainPoint)
        moved = net.state_dict()
        assert not any(torch.equal(moved[n], state[n]) for n in ("block1.0.weight", "block1.1.running_mean"))
    changes = [e for e in journal_of(loop.folder_kept) if isinstance(e, CommandAccepted)]
    assert sum(isinstance(e.command, commands.SetFrozen) for e in changes) == 2


def test_not_everything_can_be_frozen_nor_what_does_not_train(tmp_path: Path) -> None:
    with OwnLoop(tmp_path) as loop:
        watcher = paused(loop)
        reply = watcher.ask(commands.SetFrozen(groups=("block1", "block2", "head"), frozen=True))
        assert isinstance(reply, CommandRefused)
        assert reply.reason == "at least one layer with parameters must stay trainable"
        reply = watcher.ask(commands.SetFrozen(groups=("body",), frozen=True))
        assert isinstance(reply, CommandRefused)
        assert reply.reason == "there is no layer group or layer 'body'; the groups are: block1.0, block2.0, head"


def test_saving_by_finetui_and_by_the_persons_function(tmp_path: Path) -> None:
    with OwnLoop(tmp_path / "a") as loop:
        watcher = paused(loop)
        assert isinstance(watcher.ask(commands.Save(name="here")), CommandAccepted)
        saved = checkpoint.read(loop.folder.checkpoint("here"))
        assert torch.equal(saved.model["head.bias"], loop.net.head.bias)
        assert saved.training["step"] == loop.steps
        momentum = saved.training["optimizers"][0]["state"][0]["momentum_buffer"]
        assert torch.equal(momentum, loop.optimizer.state[loop.net.block1[0].weight]["momentum_buffer"])
        told = next(e for e in watcher.seen if isinstance(e, events.CheckpointSaved))
        assert told.file == "here.ckpt"
        assert [kept.name for kept in told.kept] == ["here"]
    with OwnLoop(tmp_path / "b", save=lambda path: torch.save({"mine": 1}, path)) as loop:
        watcher = paused(loop)
        assert isinstance(watcher.ask(commands.Save()), CommandAccepted)
        assert torch.load(loop.folder.path / "last.pt") == {"mine": 1}


def test_a_save_function_that_raises_is_a_refusal(tmp_path: Path) -> None:
    def save(_path: Path) -> None:
        raise OSError("no space")

    with OwnLoop(tmp_path, save=save) as loop:
        watcher = paused(loop)
        reply = watcher.ask(commands.Save())
        assert isinstance(reply, CommandRefused)
        assert reply.reason == "your save function failed: OSError: no space"
        assert isinstance(watcher.ask(commands.Resume()), CommandAccepted)
    assert loop.error is None


def test_an_evaluation_that_a_dashboard_wants_disturbs_nothing(tmp_path: Path) -> None:
    def evaluate() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        images, labels = images_and_labels()
        loop.net.eval()
        torch.rand(7)
        with torch.no_grad():
            return loop.net(images).softmax(1), labels, images

    with OwnLoop(tmp_path, evaluate=evaluate) as loop:
        watcher = paused(loop)
        state, modes = torch.get_rng_state(), [m.training for m in loop.net.modules()]
        assert isinstance(watcher.ask(commands.Evaluate()), CommandAccepted)
        told = next(e for e in watcher.seen if isinstance(e, events.Evaluated))
        assert told.n == 96
        assert told.predictions == "last.predictions"
        assert torch.equal(torch.get_rng_state(), state)
        assert [m.training for m in loop.net.modules()] == modes
        loop.run._loop.evaluate = lambda: {"accuracy": 0.25, "map": 0.5}
        watcher.ask(commands.Evaluate())
        assert [e for e in watcher.seen if isinstance(e, events.Evaluated)][-1].others == {"map": 0.5}
        loop.run._loop.evaluate = lambda: 1 / 0
        reply = watcher.ask(commands.Evaluate())
        assert isinstance(reply, CommandRefused)
        assert reply.reason == "your evaluate function failed: ZeroDivisionError: division by zero"


def test_what_is_not_obeyed_is_refused_with_the_reason(tmp_path: Path) -> None:
    with OwnLoop(tmp_path) as loop:
        watcher = paused(loop)
        prepared = next(e for e in watcher.seen if isinstance(e, events.RunPrepared))
        for command in (commands.RollBack(checkpoint="last"), commands.FindLearningRate(), commands.Evaluate()):
            reply = watcher.ask(command)
            assert isinstance(reply, CommandRefused)
            assert reply.reason == prepared.capabilities.refusal(type(command))
            assert reply.reason == "this is your own loop, which finetui only watches"


def test_questions_about_the_network(tmp_path: Path) -> None:
    with OwnLoop(tmp_path) as loop:
        watcher = attached(loop)
        described = watcher.ask(commands.DescribeModel())
        assert isinstance(described, events.ModelDescribed)
        assert described.input == (1, 12, 12)
        view = watcher.ask(commands.ViewLayer(layer="block1.0", view="filters"))
        assert isinstance(view, events.LayerView)
        assert view.total == 4
        assert isinstance(watcher.ask(commands.ViewLayer(layer="block1.0", view="feature-maps")), CommandRefused)
        measured = watcher.ask(commands.MeasureLayers())
        assert isinstance(measured, events.LayersMeasured)
        assert measured.updates["head"] > 0
        assert set(measured.gradients) == {"block1.0", "block1.1", "block2.0", "block2.1", "head"}


def test_a_step_whose_backward_pass_is_a_closure_is_measured_and_audited(tmp_path: Path) -> None:
    """As Lightning's automatic optimization takes its steps: the weights have moved before the gradients are seen."""

    def body(loop: OwnLoop, images: torch.Tensor, labels: torch.Tensor) -> None:
        def closure() -> torch.Tensor:
            loop.optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(loop.net(images), labels)
            loss.backward()
            return loss

        loop.optimizer.step(closure)
        loop.run.log(loss=0.0)
        loop.steps += 1

    with OwnLoop(tmp_path, body=body) as loop:
        watcher = attached(loop)
        measured = watcher.ask(commands.MeasureLayers())
        assert isinstance(measured, events.LayersMeasured)
        assert min(measured.updates.values()) > 0
        assert min(measured.gradients.values()) > 0
        assert isinstance(watcher.ask(commands.SetLearningRate(value=0.01)), CommandAccepted)
        audited = watcher.ask(commands.AuditParameters(steps=3))
        assert isinstance(audited, events.ParametersAudited)
        assert {tensor.rate for tensor in audited.audit.tensors if tensor.optimizer} == {0.01}
