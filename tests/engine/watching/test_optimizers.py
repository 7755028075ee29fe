"""Optimizers and networks that the loop replaces, copies, or lets fail."""

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from own_loop import OwnNet, images_and_labels
from torch.nn import functional as F

import finetui


class OwnError(Exception):
    pass


def test_another_optimizer_and_more_groups_are_seen(tmp_path: Path) -> None:
    net = OwnNet()
    first = torch.optim.SGD(net.head.parameters(), lr=0.5)
    images, labels = images_and_labels()
    with finetui.watch(net, first, runs_dir=tmp_path, name="own") as run:
        optimizers = run._loop.optimizers

        def step(optimizer: torch.optim.Optimizer) -> float:
            F.cross_entropy(net(images), labels).backward()
            before = net.head.bias.detach().clone()
            optimizer.step()
            moved = before - net.head.bias.detach()
            rate = float(moved @ net.head.bias.grad / (net.head.bias.grad @ net.head.bias.grad))
            optimizer.zero_grad()
            return rate

        optimizers.factor = 0.1
        assert step(first) == pytest.approx(0.05, rel=1e-3)
        first.add_param_group({"params": net.block2.parameters(), "lr": 0.7})
        assert optimizers.rate() == 0.7
        second = torch.optim.SGD(net.parameters(), lr=0.2)
        assert step(second) == pytest.approx(0.02, rel=1e-3)
        assert optimizers.there == [second]
        stranger = torch.optim.SGD(OwnNet().parameters(), lr=9.0)
        stranger.step()
        assert optimizers.rate() == 0.2
    assert step(second) == pytest.approx(0.2, rel=1e-3)


def test_an_update_that_raises_leaves_the_rate_as_it_was(tmp_path: Path) -> None:
    net = OwnNet()

    class Fails(torch.optim.SGD):
        def step(self, closure: Any = None) -> None:
            raise OwnError

    optimizer = Fails(net.parameters(), lr=0.5)
    with finetui.watch(net, optimizer, runs_dir=tmp_path, name="own") as run:
        run._loop.optimizers.factor = 0.1
        for _ in run.steps(range(2)):
            with pytest.raises(OwnError):
                optimizer.step()
        assert optimizer.param_groups[0]["lr"] == 0.5


def test_the_network_can_be_copied_and_kept_while_a_part_of_it_is_frozen(tmp_path: Path) -> None:
    net = OwnNet()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    images, _ = images_and_labels()
    with finetui.watch(net, optimizer, runs_dir=tmp_path, name="own") as run:
        for _ in run.steps(range(1)):
            run._loop.layers.set(frozenset({"block1.0", "block1.1"}), frozen=True)
            net.train()
            net(images)
            assert not net.block1[1].training
            for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
                other.train()
                other(images)
                assert other.block1[1].training
                assert net.state_dict().keys() == other.state_dict().keys()
    assert not net._forward_pre_hooks
