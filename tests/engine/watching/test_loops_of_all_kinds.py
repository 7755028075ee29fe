"""Loops that people write besides the plain one: nested and compiled optimizers, several networks, updates by hand."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from own_loop import CLASSES, OwnLoop, OwnNet, images_and_labels, own_loader
from torch import Tensor, nn
from torch.nn import functional as F

import finetui
from finetui.engine.errors import BadInput
from finetui.engine.models import module_groups
from finetui.engine.protocol.commands import AuditParameters


class Sharpness(torch.optim.Optimizer):
    """SAM as it is usually written: an optimizer around another one, whose groups it has."""

    def __init__(self, parameters: Any, **options: Any) -> None:
        super().__init__(parameters, {})
        self.base = torch.optim.SGD(self.param_groups, **options)
        self.param_groups = self.base.param_groups

    @torch.no_grad()
    def away(self) -> None:
        self.old = [(p, p.clone()) for group in self.param_groups for p in group["params"] if p.grad is not None]
        for parameter, _ in self.old:
            parameter.add_(parameter.grad, alpha=0.05)
        self.zero_grad()

    @torch.no_grad()
    def back(self) -> None:
        for parameter, old in self.old:
            parameter.copy_(old)
        self.base.step()
        self.zero_grad()

    def step(self, closure: Callable[[], Any]) -> None:
        self.away()
        with torch.enable_grad():
            closure()
        self.back()


def by_closure(loop: OwnLoop, images: Tensor, labels: Tensor) -> None:
    def closure() -> Tensor:
        loss = F.cross_entropy(loop.net(images), labels)
        loss.backward()
        return loss

    loop.run.log(loss=closure())
    loop.optimizer.step(closure)


def by_two_steps(loop: OwnLoop, images: Tensor, labels: Tensor) -> None:
    F.cross_entropy(loop.net(images), labels).backward()
    loop.optimizer.away()
    F.cross_entropy(loop.net(images), labels).backward()
    loop.optimizer.back()


@pytest.mark.parametrize("body", [by_closure, by_two_steps])
def test_an_optimizer_within_another_is_audited_and_has_one_rate(tmp_path: Path, body: Any) -> None:
    loop = OwnLoop(tmp_path, body=body)
    loop.optimizer = Sharpness(loop.net.parameters(), lr=0.05)
    with loop:
        loop.run._loop.optimizers.factor = 0.5
        audit = loop.attach().ask(AuditParameters(steps=5)).audit
        assert not audit.wrong, audit
        assert audit.steps == 5
        assert all(tensor.moved for tensor in audit.tensors if tensor.name.endswith("weight")), audit
        assert {tensor.rate for tensor in audit.tensors if not tensor.buffer} == {0.025}
    assert loop.error is None
    assert loop.optimizer.param_groups[0]["lr"] == 0.05


def test_two_networks_that_train_against_each_other_clear_their_gradients(tmp_path: Path) -> None:
    maker, judge = nn.Linear(8, 8), nn.Linear(8, 1)
    both = nn.ModuleDict({"maker": maker, "judge": judge})
    first, second = (torch.optim.SGD(net.parameters(), lr=0.1) for net in (judge, maker))

    def train() -> None:
        for _ in range(6):
            made = maker(torch.randn(4, 8))
            first.zero_grad()
            (F.softplus(judge(made.detach())) + F.softplus(-judge(torch.randn(4, 8)))).mean().backward()
            first.step()
            second.zero_grad()
            F.softplus(
                -judge(made)
            ).mean().backward()  # leaves gradients in the judge, which its own `zero_grad` clears
            second.step()

    with finetui.audit(both, [first, second], steps=5) as audit:
        train()
    assert not audit.result.wrong
    first.zero_grad = second.zero_grad = lambda: None
    with finetui.audit(both, [first, second], steps=5) as audit:
        train()
    assert any("gradients are not cleared" in finding.reason for finding in audit.result.findings)


def test_what_is_frozen_keeps_its_statistics_where_parts_are_called_alone(tmp_path: Path) -> None:
    parts = nn.ModuleDict({"body": nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)), "head": nn.Linear(4, CLASSES)})
    optimizer = torch.optim.SGD(parts.parameters(), lr=0.1)
    with finetui.watch(parts, optimizer, runs_dir=tmp_path, name="own") as run:
        for step, (images, labels) in enumerate(run.steps(own_loader())):
            if step == 1:
                run._loop.layers.set(frozenset({"body.0", "body.1"}), frozen=True)
                kept = {name: value.clone() for name, value in parts["body"].state_dict().items()}
            parts.train()
            optimizer.zero_grad()
            F.cross_entropy(parts["head"](parts["body"](images).mean((2, 3))), labels).backward()
            optimizer.step()
        assert all(torch.equal(kept[name], value) for name, value in parts["body"].state_dict().items())
        run._loop.layers.set(frozenset({"body.0", "body.1"}), frozen=False)
        parts["body"].train()
        parts["body"](images)
        assert not torch.equal(kept["1.running_mean"], parts["body"][1].running_mean)
        assert not parts["body"][1]._forward_pre_hooks


@pytest.mark.parametrize("compiled", ["network", "layer", "step"])
@pytest.mark.parametrize("affine", [True, False])
def test_what_is_frozen_stays_so_where_it_is_compiled(tmp_path: Path, compiled: str, affine: bool) -> None:
    torch.manual_seed(0)
    net = OwnNet()
    net.block1[1] = nn.BatchNorm2d(4, affine=affine)
    norm = net.block1[1]
    if compiled == "layer":
        net.block1[1] = torch.compile(norm, backend="eager")
    called = torch.compile(net, backend="eager", fullgraph=True) if compiled == "network" else net

    def loss_of(images: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(called(images), labels)

    computed = torch.compile(loss_of, backend="eager", fullgraph=True) if compiled == "step" else loss_of
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    with finetui.watch(called, optimizer, runs_dir=tmp_path, name="own") as run:
        layers = frozenset(layer.name for layer in run._loop.groups[0].layers)
        kept: dict[str, Tensor] = {}
        for step, (images, labels) in enumerate(run.steps(own_loader())):
            if step in (3, 6, 8):
                run._loop.layers.set(layers, frozen=step != 6)
                changed = [
                    name for name, value in net.block1.state_dict().items() if not torch.equal(kept[name], value)
                ]
                assert bool(changed) == (step != 6), changed
                run._loop.look_at_layers()
            if step in (0, 3, 6, 8):
                kept = {name: value.clone() for name, value in net.block1.state_dict().items()}
            called.train()
            optimizer.zero_grad()
            computed(images, labels).backward()
            optimizer.step()
        assert all(torch.equal(kept[name], value) for name, value in net.block1.state_dict().items())
        assert not norm.training


def test_a_layer_without_parameters_stays_frozen_until_it_is_thawed(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4, affine=False), nn.Flatten(), nn.Linear(400, CLASSES))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    with finetui.watch(net, optimizer, runs_dir=tmp_path, name="own") as run:
        layers = run._loop.layers
        for frozen in (True, False):
            layers.set(frozenset({"0", "1"}), frozen=frozen)
            run._loop.look_at_layers()
            assert layers.frozen == ({"0", "1"} if frozen else set())
            assert net.train()(torch.rand(2, 1, 12, 12)).shape == (2, CLASSES)
            assert net[1].training != frozen


def test_a_loop_that_is_paused_shows_what_is_frozen_in_evaluation_mode(tmp_path: Path) -> None:
    net = OwnNet()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with finetui.watch(net, optimizer, runs_dir=tmp_path, name="own") as run:
        run.before_step()
        run._loop.layers.set(frozenset({"block1.0", "block1.1"}), frozen=True)
        net.train()
        run._loop.before_step()  # somebody asks for something, before the next forward pass
        assert not net.block1[1].training
        assert net.block2[1].training


def test_each_of_several_networks_keeps_something_that_trains(tmp_path: Path) -> None:
    both = nn.ModuleDict({"maker": nn.Linear(8, 8), "judge": nn.Sequential(nn.Linear(8, 4), nn.Linear(4, 1))})
    optimizers = [torch.optim.SGD(network.parameters(), lr=0.1) for network in both.values()]
    with finetui.watch(both, optimizers, runs_dir=tmp_path, name="own") as run:
        for _ in run.steps(range(1)):
            layers = run._loop.layers
            with pytest.raises(BadInput, match="at least one layer of judge must stay trainable"):
                layers.set(frozenset({"judge.0", "judge.1"}), frozen=True)
            assert layers.set(frozenset({"judge.0"}), frozen=True) == {"judge.0"}
            F.softplus(both["judge"](torch.rand(2, 8))).mean().backward()


def test_a_loop_that_updates_by_hand_needs_each_gradient(tmp_path: Path) -> None:
    with finetui.watch(OwnNet(), runs_dir=tmp_path, name="own") as run:
        for _ in run.steps(range(2)):
            with pytest.raises(BadInput, match="no optimizer is known yet"):
                run._loop.layers.set(frozenset({"block1.0"}), frozen=True)


def test_a_step_that_is_compiled_has_its_rate_and_is_quiet(tmp_path: Path) -> None:
    torch._dynamo.reset()
    net = OwnNet().eval()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    step = torch.compile(optimizer.step, backend="eager")
    images, labels = images_and_labels()
    with (
        finetui.watch(net, optimizer, runs_dir=tmp_path, name="own") as run,
        warnings.catch_warnings(record=True) as told,
    ):
        warnings.simplefilter("always")
        with finetui.audit(net, optimizer, steps=2) as audit:
            for number, _ in enumerate(run.steps(range(3))):
                run._loop.optimizers.factor = 0.1**number
                before = net.head.bias.detach().clone()
                optimizer.zero_grad()
                F.cross_entropy(net(images), labels).backward()
                step()
                moved = (before - net.head.bias.detach()) / net.head.bias.grad
                assert moved.median().item() == pytest.approx(0.5 * 0.1**number, rel=1e-2)
    assert not audit.result.wrong
    assert not [one for one in told if "finetui" in str(one.message) or "Dynamo" in str(one.message)]


def test_a_parametrized_layer_is_one_with_its_weight() -> None:
    net = OwnNet()
    nn.utils.parametrizations.spectral_norm(net.block1[0])
    nn.utils.parametrizations.weight_norm(net.head)
    plain = {group.name: set() for group in module_groups(OwnNet())}
    for group in module_groups(net):
        plain[group.name] |= {name.split(".parametrizations")[0] for name in group.parameters}
    assert all(any(name.startswith("head") for name in names) == (group == "head") for group, names in plain.items())


def test_several_labels_an_image_are_no_classes(tmp_path: Path) -> None:
    scores = torch.rand(4, CLASSES)
    with finetui.watch(runs_dir=tmp_path, name="own") as run:
        with pytest.warns(RuntimeWarning, match=r"one label .* run.evaluated"):
            run.predictions(scores, torch.ones(4, CLASSES))
        with pytest.warns(RuntimeWarning, match=r"\[n, classes\].* run.evaluated"):
            run.predictions(torch.rand(4), torch.rand(4))  # a regression


def test_a_run_without_its_block_says_so(tmp_path: Path) -> None:
    run = finetui.watch(OwnNet(), runs_dir=tmp_path, name="own")
    with pytest.warns(RuntimeWarning, match="with finetui.watch"):
        assert len(list(run.steps(range(3)))) == 3
    assert run.folder is None


def test_a_run_that_is_over_has_its_folder_and_says_that_it_is(tmp_path: Path) -> None:
    with finetui.watch(OwnNet(), runs_dir=tmp_path, name="own") as run:
        list(run.steps(range(2)))
    assert run.folder == tmp_path / "own"
    with pytest.warns(RuntimeWarning, match="after the run ended"):
        run.predictions(torch.rand(4, CLASSES), torch.arange(4))
