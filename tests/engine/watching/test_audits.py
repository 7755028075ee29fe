"""The freeze audit of watched loops: the tutorial's fc4, and a healthy loop that is frozen from a dashboard."""

import time
from contextlib import closing
from pathlib import Path

import torch
from own_loop import OwnLoop, journal_of
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset
from watching import Watcher

import finetui
from benchmarks.loops.net import Net
from finetui.engine.link.attach_link import AttachLink
from finetui.engine.protocol import commands, events
from finetui.engine.protocol.audit import Audit
from finetui.engine.runs.folder import RunFolder


def audited(watcher: Watcher, steps: int = 5) -> Audit:
    reply = watcher.ask(commands.AuditParameters(steps=steps))
    assert isinstance(reply, events.ParametersAudited), reply
    return reply.audit


def test_the_finetuning_of_the_tutorial_with_three_lines_added(tmp_path: Path) -> None:
    net = Net()
    criterion = nn.CrossEntropyLoss()
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(256, 1, 28, 28, generator=generator)
    train_loader = DataLoader(TensorDataset(images, torch.arange(256) % 10), batch_size=64, shuffle=True)
    for param in net.conv1.parameters():
        param.requires_grad = False
    for param in net.conv2.parameters():
        param.requires_grad = False
    net.fc4 = nn.Linear(16 * 4 * 4, 10)
    optimizer = optim.SGD(net.fc4.parameters(), lr=0.001, momentum=0.9)
    found: list[events.AnyEvent] = []
    with (
        finetui.watch(net, optimizer, runs_dir=tmp_path, name="tutorial") as run,
        closing(Watcher(AttachLink(RunFolder(run.folder)))) as watcher,
    ):
        watcher.until_kind(events.Audience)
        for epoch in range(400):
            for inputs, labels in run.steps(train_loader):
                optimizer.zero_grad()
                outputs = net(inputs)
                loss = criterion(outputs, labels)
                loss.backward()
                optimizer.step()
                run.log(loss=loss)
            if epoch == 0:
                watcher.link.send(commands.AuditParameters(steps=5))
            found = [e for e in watcher.link.events.drain() if isinstance(e, events.ParametersAudited)]
            if found:
                break
    (answer,) = found
    wrong = {finding.name: finding.reason for finding in answer.audit.wrong}
    why = "in the optimizer, receives no gradient: forward never calls fc4"
    assert {name: reason for name, reason in wrong.items() if name.startswith("fc4")} == {
        "fc4.weight": why,
        "fc4.bias": why,
    }
    assert wrong["fc1.weight"] == "requires a gradient, but no optimizer has it"
    assert not any(name.startswith("conv") for name in wrong)
    assert {tensor.name for tensor in answer.audit.tensors if tensor.frozen} == {
        "conv1.weight", "conv1.bias", "conv2.weight", "conv2.bias"
    }  # fmt: skip
    assert not any(tensor.moved for tensor in answer.audit.tensors)


def test_a_healthy_loop_is_clean_whatever_is_frozen_from_a_dashboard(tmp_path: Path) -> None:
    with OwnLoop(tmp_path) as loop:
        watcher = loop.attach()
        watcher.until_state("running")
        assert audited(watcher).wrong == ()
        watcher.ask(commands.SetFrozen(groups=("block1",), frozen=True))
        audit = audited(watcher)
        assert audit.wrong == ()
        assert {tensor.name for tensor in audit.tensors if tensor.frozen} == {
            f"block1.{name}" for name in loop.net.block1.state_dict()
        }
        watcher.ask(commands.SetFrozen(layers=("block2.0",), frozen=True))
        assert audited(watcher).wrong == ()
        watcher.ask(commands.SetFrozenNorm(trains=True))
        audit = audited(watcher)
        assert audit.wrong == ()
        assert any(tensor.name == "block1.1.running_mean" and tensor.moved for tensor in audit.tensors)
        watcher.ask(commands.SetLearningRate(value=0.01, factor=0.5))
        rates = {tensor.rate for tensor in audited(watcher).tensors if not tensor.frozen and not tensor.buffer}
        assert rates == {0.025}


def test_what_the_loop_froze_itself_and_left_in_train_mode_drifts(tmp_path: Path) -> None:
    loop = OwnLoop(tmp_path)
    loop.net.block1.requires_grad_(False)
    with loop:
        watcher = loop.attach()
        watcher.until_state("running")
        wrong = {finding.name: finding.reason for finding in audited(watcher).wrong}
    assert set(wrong) == {f"block1.1.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")}
    assert all("drift" in reason for reason in wrong.values())


def test_a_pause_ends_it_with_the_steps_that_there_were(tmp_path: Path) -> None:
    with OwnLoop(tmp_path) as loop:
        watcher = loop.attach()
        watcher.until_state("running")
        long = commands.AuditParameters(steps=100_000)
        watcher.link.send(long)
        watcher.until_kind(events.TrainPoint)
        watcher.until_kind(events.TrainPoint)
        watcher.link.send(commands.Pause())
        answer = watcher.until_kind(events.ParametersAudited)
        assert 0 < answer.audit.steps < 100_000
        assert answer.audit.wrong == ()
        refused = watcher.ask(commands.AuditParameters())
        assert isinstance(refused, events.CommandRefused)
        assert "paused" in refused.reason
        assert isinstance(watcher.ask(commands.AuditParameters(steps=0)), events.CommandRefused)


def test_points_go_on_while_one_audit_follows_the_other(tmp_path: Path) -> None:
    def step(loop: OwnLoop, images: torch.Tensor, labels: torch.Tensor) -> None:
        OwnLoop.step(loop, images, labels)
        time.sleep(0.05)

    with OwnLoop(tmp_path, body=step) as loop:
        watcher = loop.attach()
        watcher.until_kind(events.TrainPoint)
        first = watcher.until_kind(events.TrainPoint).step
        for _ in range(8):
            last = audited(watcher, 1)
        points = [event for event in journal_of(loop.folder) if isinstance(event, events.TrainPoint)]
    assert last.steps == 1
    assert any(first < point.step for point in points)
    assert all(point.samples_per_second < 8 / 0.05 for point in points)
