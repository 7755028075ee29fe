"""The freeze audit of a plain loop: each fault is named, with its reason, and a healthy training has none."""

from collections.abc import Callable, Collection

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim import optimizer as optimizers

import finetui
from finetui.engine.errors import BadInput
from finetui.engine.protocol.audit import Audit, AuditedTensor

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": lambda params: torch.optim.SGD(params, lr=0.05),
    "momentum": lambda params: torch.optim.SGD(params, lr=0.05, momentum=0.9, weight_decay=0.01),
    "adam": lambda params: torch.optim.Adam(params, lr=0.01),
    "adamw": lambda params: torch.optim.AdamW(params, lr=0.01, weight_decay=0.1),
}


class Net(nn.Module):
    """A network with what can go wrong: batch norm, dropout, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5))
        self.body = nn.Sequential(nn.Conv2d(4, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU())
        self.head = nn.Linear(64, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(self.stem(x)).flatten(1))


def freeze(model: nn.Module, *names: str) -> None:
    """Freeze as it is to be done."""
    model.train()
    for name in names:
        model.get_submodule(name).requires_grad_(False).eval()


def audited(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    steps: int = 5,
    clear: Callable[[], object] | None = None,
    before_step: Callable[[int], object] = lambda _: None,
    frozen: Collection[str] = (),
) -> Audit:
    """Train `model` for `steps` steps and return their audit."""
    draw = torch.Generator().manual_seed(1)
    with finetui.audit(model, optimizer, steps=steps, frozen=frozen) as audit:
        for step in range(steps):
            (clear or optimizer.zero_grad)()
            images = torch.randn(8, 1, 8, 8, generator=draw)
            F.cross_entropy(model(images), torch.arange(8) % 3).backward()
            before_step(step)
            optimizer.step()
    return audit.result


def reasons(audit: Audit, *names: str) -> dict[str, str]:
    """Return the reasons of what is wrong, by name; all of `names` have one, and nothing else has."""
    found = {finding.name: finding.reason for finding in audit.wrong}
    assert set(found) == set(names), audit
    return found


def row(audit: Audit, name: str) -> AuditedTensor:
    return next(tensor for tensor in audit.tensors if tensor.name == name)


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return Net()


# -- healthy ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_healthy_training_is_clean(net: Net, kind: str) -> None:
    audit = audited(net, OPTIMIZERS[kind](net.parameters()))
    assert audit.findings == ()
    assert audit.steps == 5
    assert str(audit) == "14 tensors over 5 steps, 0 of them frozen: all as they claim"
    assert all(tensor.moved and not tensor.frozen for tensor in audit.tensors)


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_network_frozen_as_it_should_be_is_clean(net: Net, kind: str) -> None:
    optimizer = OPTIMIZERS[kind](net.parameters())
    audited(net, optimizer)  # it has moments by then
    freeze(net, "stem", "body")
    for module in (*net.stem, *net.body):
        module.eval()
    optimizer.zero_grad()
    audit = audited(net, optimizer)
    assert audit.findings == ()
    assert {tensor.name for tensor in audit.tensors if tensor.moved} == {"head.weight", "head.bias"}
    assert sum(tensor.frozen for tensor in audit.tensors) == 12  # six parameters, and six buffers


def test_a_step_with_a_closure_has_its_gradients_within(net: Net) -> None:
    """As LBFGS takes its steps, and Lightning's automatic optimization."""
    optimizer = OPTIMIZERS["sgd"](net.parameters())

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = net(torch.rand(4, 1, 8, 8)).square().sum()
        loss.backward()
        return loss

    with finetui.audit(net, optimizer, steps=1) as audit:
        optimizer.step(closure)
    assert audit.result.findings == ()
    assert all(tensor.moved for tensor in audit.result.tensors if tensor.name.startswith("head"))


def test_it_tells_what_is_known_of_each_tensor(net: Net) -> None:
    audit = audited(net, OPTIMIZERS["momentum"](net.parameters()))
    weight = row(audit, "stem.0.weight")
    assert (weight.module, weight.shape, weight.dtype, weight.optimizer) == ("stem.0", (4, 1, 3, 3), "float32", "SGD")
    assert (weight.rate, weight.momentum, weight.weight_decay) == (0.05, (0.9,), 0.01)
    assert (weight.moments, weight.gradient) == (("momentum_buffer",), "some")
    assert weight.largest is not None
    assert weight.largest > 0
    mean = row(audit, "stem.1.running_mean")
    assert (mean.buffer, mean.optimizer, mean.gradient, mean.rate) == (True, "", "", None)
    adam = row(audited(net, OPTIMIZERS["adamw"](net.parameters())), "head.bias")
    assert (adam.momentum, adam.moments, adam.weight_decay) == ((0.9, 0.999), ("exp_avg", "exp_avg_sq"), 0.1)


def test_the_training_is_the_same_bit_for_bit_and_nothing_stays_behind() -> None:
    ends, hooks = [], len(optimizers._global_optimizer_pre_hooks)
    for watched in (False, True):
        torch.manual_seed(0)
        model = Net()
        optimizer = OPTIMIZERS["momentum"](model.parameters())
        torch.manual_seed(1)
        for step in range(6):
            if watched and step == 1:
                audit = finetui.audit(model, optimizer, steps=3)
            optimizer.zero_grad()
            F.cross_entropy(model(torch.randn(8, 1, 8, 8)), torch.arange(8) % 3).backward()
            optimizer.step()
            if watched and step == 3:
                assert audit.done
                audit.finish()
                assert audit.result.steps == 3
        assert len(optimizers._global_optimizer_pre_hooks) == len(optimizers._global_optimizer_post_hooks) == hooks
        assert not any(module._forward_pre_hooks for module in model.modules())
        assert not any(p._backward_hooks or p._post_accumulate_grad_hooks for p in model.parameters())
        ends.append([*model.state_dict().values(), torch.get_rng_state()])
    assert all(torch.equal(one, other) for one, other in zip(*ends, strict=True))


# -- claims to train, and does not ------------------------------------------------------------------------


class WithSpare(Net):
    """One layer more, which `forward` never calls, or calls in vain."""

    calls = False

    def __init__(self) -> None:
        super().__init__()
        self.fc4 = nn.Linear(64, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.calls:
            self.fc4(torch.zeros(1, 64))
        return super().forward(x)


@pytest.mark.parametrize(("calls", "why"), [(False, "never calls fc4"), (True, "does not depend on it")])
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_layer_that_the_loss_does_not_depend_on(kind: str, calls: bool, why: str) -> None:
    torch.manual_seed(0)
    model = WithSpare()
    model.calls = calls
    found = reasons(audited(model, OPTIMIZERS[kind](model.parameters())), "fc4.weight", "fc4.bias")
    assert all(
        reason.startswith("in the optimizer, receives no gradient") and why in reason for reason in found.values()
    )
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_what_no_optimizer_has(net: Net) -> None:
    audit = audited(net, torch.optim.SGD(net.head.parameters(), lr=0.1), clear=net.zero_grad)
    found = reasons(audit, *(name for name, _ in net.named_parameters() if not name.startswith("head")))
    assert set(found.values()) == {"requires a gradient, but no optimizer has it"}
    assert row(audit, "body.0.weight").optimizer == ""


def test_a_parameter_that_was_replaced_after_the_optimizer_was_made(net: Net) -> None:
    optimizer = OPTIMIZERS["adam"](net.parameters())
    net.head = nn.Linear(64, 3)
    audit = audited(net, optimizer, clear=net.zero_grad)
    found = reasons(audit, "head.weight", "head.bias")
    assert all("the optimizer has another tensor" in reason for reason in found.values())
    assert [finding.reason for finding in audit.findings if not finding.wrong] == [
        "the optimizer has 2 tensors that are not in the network"
    ]


def test_a_learning_rate_of_0(net: Net) -> None:
    groups = [{"params": net.stem.parameters(), "lr": 0.0}, {"params": net.body.parameters()}]
    optimizer = torch.optim.SGD([*groups, {"params": net.head.parameters()}], lr=0.1)
    found = reasons(audited(net, optimizer), *(f"stem.{name}" for name, _ in net.stem.named_parameters()))
    assert set(found.values()) == {"its learning rate is 0"}


def test_a_rate_that_begins_with_0_is_none_of_0(net: Net) -> None:
    optimizer = torch.optim.SGD(net.parameters(), lr=0.0)

    def warm_up(step: int) -> None:
        optimizer.param_groups[0]["lr"] = 0.01 * step

    audit = audited(net, optimizer, before_step=warm_up)
    assert audit.findings == ()
    assert row(audit, "head.bias").rate == pytest.approx(0.04)


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_gradient_that_is_exactly_0(net: Net, kind: str) -> None:
    with torch.no_grad():
        net.body[1].weight.zero_()
        net.body[1].bias.fill_(-1.0)  # nothing gets through the ReLU behind it
    optimizer = OPTIMIZERS[kind](net.parameters())
    audit = audited(net, optimizer)
    dead = [name for name, p in net.named_parameters() if name.startswith(("stem", "body"))]
    found = reasons(audit, *dead, "head.weight")  # which is given zeros
    assert all(reason.startswith("its gradient is exactly zero in all 5 steps") for reason in found.values())
    decays = "weight_decay" in optimizer.defaults and optimizer.defaults["weight_decay"] > 0
    assert ("only what the optimizer adds" in found["body.0.weight"]) == decays
    assert row(audit, "body.0.weight").moved == decays


def test_one_step_with_a_gradient_of_0_is_no_fault_yet(net: Net) -> None:
    nn.init.zeros_(net.head.weight)  # nothing gets through it in the first step
    audit = audited(net, OPTIMIZERS["sgd"](net.parameters()), steps=1)
    assert audit.wrong == ()
    assert "stem.0.weight" in {finding.name for finding in audit.findings}
    assert audited(net, OPTIMIZERS["sgd"](net.parameters())).findings == ()


def test_values_and_gradients_that_are_not_finite(net: Net) -> None:
    with torch.no_grad():
        net.head.bias[0] = torch.nan
    audit = audited(net, OPTIMIZERS["sgd"](net.parameters()))
    found = {finding.name: finding.reason for finding in audit.wrong}
    assert found["stem.0.weight"] in ("it holds NaN or infinity", "its gradient is NaN or infinite")
    assert row(audit, "stem.0.weight").gradient == "not finite"
    with torch.no_grad():
        torch.manual_seed(0)
        other = Net()
        other.stem[1].running_mean[1] = torch.inf
    audit = audited(other, OPTIMIZERS["sgd"](other.parameters()))
    assert reasons(audit, "stem.1.running_mean") == {"stem.1.running_mean": "it holds NaN or infinity"}


def test_updates_that_a_dtype_cannot_hold(net: Net) -> None:
    net.bfloat16()
    images, optimizer = torch.randn(8, 1, 8, 8).bfloat16(), torch.optim.SGD(net.parameters(), lr=1e-9)
    with finetui.audit(net, optimizer, steps=2) as audit:
        for _ in range(2):
            optimizer.zero_grad()
            F.cross_entropy(net(images).float(), torch.arange(8) % 3).backward()
            optimizer.step()
    found = {finding.name: finding.reason for finding in audit.result.wrong}
    assert "are too small for bfloat16 beside its values" in found["stem.1.weight"]


def test_updates_that_vanish_at_the_end_of_a_schedule_are_no_fault(net: Net) -> None:
    audit = audited(net, torch.optim.SGD(net.parameters(), lr=1e-12))
    assert audit.wrong == ()
    assert "float32" in next(finding.reason for finding in audit.findings if finding.name == "stem.1.weight")


def test_a_bias_before_a_normalisation_is_no_fault(net: Net) -> None:
    net.body[0] = nn.Conv2d(4, 4, 3)
    net.body[0].bias.data.fill_(1.0)
    audit = audited(net, OPTIMIZERS["sgd"](net.parameters()))
    assert audit.wrong == ()
    (finding,) = audit.findings
    assert finding.name == "body.0.bias"
    assert "next to nothing" in finding.reason


def test_steps_that_are_undone(net: Net) -> None:
    kept = {name: p.detach().clone() for name, p in net.named_parameters()}
    optimizer = OPTIMIZERS["sgd"](net.parameters())
    with finetui.audit(net, optimizer, steps=9) as audit:
        for _ in range(3):
            optimizer.zero_grad()
            F.cross_entropy(net(torch.randn(8, 1, 8, 8)), torch.arange(8) % 3).backward()
            optimizer.step()
            net.load_state_dict(kept, strict=False)
    found = reasons(audit.result, *kept)
    assert audit.result.steps == 3
    assert all("steps are skipped, or it is put back" in reason for reason in found.values())


def test_an_optimizer_that_takes_no_step(net: Net) -> None:
    optimizer = OPTIMIZERS["sgd"](net.parameters())
    with finetui.audit(net, optimizer, steps=3) as audit:
        F.cross_entropy(net(torch.randn(8, 1, 8, 8)), torch.arange(8) % 3).backward()
    found = reasons(audit.result, "", *(name for name, _ in net.named_parameters()))
    assert found[""] == "no optimizer has taken a step"
    assert found["head.bias"] == "its optimizer takes no steps"


# -- claims to be frozen, and moves -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["momentum", "adam", "adamw"])
def test_what_the_optimizer_moves_though_it_is_frozen(net: Net, kind: str) -> None:
    optimizer = OPTIMIZERS[kind](net.parameters())
    audited(net, optimizer)
    freeze(net, "body.0")
    audit = audited(net, optimizer, clear=lambda: optimizer.zero_grad(set_to_none=False))
    found = reasons(audit, "body.0.weight")
    by = {"momentum": "momentum and weight decay", "adam": "momentum", "adamw": "momentum and weight decay"}[kind]
    for reason in found.values():
        assert reason == f"frozen, but moved by {by}: its gradient is zero and not None; set its grad to None"
    assert row(audit, "body.0.weight").frozen


def test_weight_decay_alone(net: Net) -> None:
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, weight_decay=0.1)
    audited(net, optimizer)
    freeze(net, "body.0")
    audit = audited(net, optimizer, clear=lambda: optimizer.zero_grad(set_to_none=False))
    assert all(
        reason.startswith("frozen, but moved by weight decay:") for reason in reasons(audit, "body.0.weight").values()
    )


def test_an_old_gradient_goes_on(net: Net) -> None:
    optimizer = OPTIMIZERS["sgd"](net.parameters())
    audited(net, optimizer)
    freeze(net, "body.0")
    others = [p for name, p in net.named_parameters() if not name.startswith("body.0")]

    def clear() -> None:
        for parameter in others:
            parameter.grad = None

    found = reasons(audited(net, optimizer, clear=clear), "body.0.weight")
    assert all("an old gradient is still there, and SGD goes on with it" in reason for reason in found.values())


def test_what_is_said_to_be_frozen_and_trains(net: Net) -> None:
    audit = audited(net, OPTIMIZERS["adam"](net.parameters()), frozen=["body.0", "head.bias"])
    found = reasons(audit, "body.0.weight", "head.bias")
    assert all("said to be frozen, but it requires a gradient" in reason for reason in found.values())
    assert all("Adam moves it" in reason for reason in found.values())


def test_what_something_else_writes_to(net: Net) -> None:
    freeze(net, "body.0")

    def write(_: int) -> None:
        with torch.no_grad():
            net.body[0].weight[0, 0, 0, 0] += 1e-3

    found = reasons(audited(net, OPTIMIZERS["sgd"](net.parameters()), before_step=write), "body.0.weight")
    assert "something other than an optimizer writes to it" in found["body.0.weight"]


def test_statistics_of_a_frozen_normalisation_that_drift(net: Net) -> None:
    net.stem.requires_grad_(False)  # and left in train mode
    net.stem[3].eval()
    drifting = [f"stem.1.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")]
    found = reasons(audited(net, OPTIMIZERS["sgd"](net.parameters())), *drifting)
    assert all("statistics drift" in reason for reason in found.values())


def test_a_normalisation_without_parameters_is_frozen_with_what_is_around_it() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Sequential(nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4, affine=False)), nn.Flatten(), nn.Linear(144, 3)
    )
    assert audited(model, OPTIMIZERS["sgd"](model.parameters())).findings == ()
    model[0].requires_grad_(False)
    audit = audited(model, OPTIMIZERS["sgd"](model.parameters()))
    reasons(audit, "0.1.running_mean", "0.1.running_var", "0.1.num_batches_tracked")


def test_dropout_of_a_frozen_layer(net: Net) -> None:
    freeze(net, "stem")
    for module in (net.stem, net.stem[0], net.stem[1]):
        module.eval()
    net.stem[3].train()
    found = reasons(audited(net, OPTIMIZERS["sgd"](net.parameters())), "stem.3")
    assert "drops other values at each step" in found["stem.3"]
    net.stem[3].eval()
    assert audited(net, OPTIMIZERS["sgd"](net.parameters())).findings == ()


# -- shared, in memory and by name ------------------------------------------------------------------------


class Tied(nn.Module):
    """Two layers with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other, self.head = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 3)
        self.other.weight = self.one.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.other(self.one(x.flatten(1)).relu()))


def test_tied_parameters_are_one_tensor() -> None:
    torch.manual_seed(0)
    model = Tied()
    audit = audited(model, OPTIMIZERS["momentum"](model.parameters()))
    assert audit.findings == ()
    assert row(audit, "one.weight").shared == ("other.weight",)
    assert [tensor.name for tensor in audit.tensors if "weight" in tensor.name] == ["one.weight", "head.weight"]
    audit = audited(model, OPTIMIZERS["momentum"](model.parameters()), frozen=["other"])
    found = reasons(audit, "one.weight", "other.bias")
    assert "it is the same tensor as other.weight" in found["one.weight"]


def test_a_frozen_tensor_that_shares_its_memory_with_one_that_trains() -> None:
    torch.manual_seed(0)
    model = Tied()
    model.other.weight = nn.Parameter(model.one.weight.data, requires_grad=False)
    found = reasons(audited(model, OPTIMIZERS["sgd"](model.parameters())), "other.weight")
    assert "it shares its memory with one.weight, which trains" in found["other.weight"]


# -- the loop as a whole ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_gradients_that_are_never_cleared(net: Net, kind: str) -> None:
    audit = audited(net, OPTIMIZERS[kind](net.parameters()), clear=lambda: None)
    assert reasons(audit, "")[""].startswith("gradients are not cleared between steps")
    assert str(audit).endswith("call zero_grad()")


@pytest.mark.parametrize("to_none", [True, False])
def test_gradients_of_several_batches_a_step_are_cleared(net: Net, to_none: bool) -> None:
    optimizer = OPTIMIZERS["sgd"](net.parameters())
    with finetui.audit(net, optimizer, steps=4) as audit:
        for _ in range(4):
            for _ in range(3):
                (F.cross_entropy(net(torch.randn(8, 1, 8, 8)), torch.arange(8) % 3) / 3).backward()
            nn.utils.clip_grad_norm_(net.parameters(), 0.1)
            optimizer.step()
            optimizer.zero_grad(set_to_none=to_none)
    assert audit.result.findings == ()


def test_two_optimizers_each_with_a_part(net: Net) -> None:
    trunk = torch.optim.SGD([*net.stem.parameters(), *net.body.parameters()], lr=0.1)
    head = torch.optim.Adam(net.head.parameters(), lr=0.01)
    with finetui.audit(net, [trunk, head], steps=3) as audit:
        for _ in range(3):
            for optimizer in (trunk, head):  # one after the other, each with gradients of its own
                net.zero_grad()
                F.cross_entropy(net(torch.randn(8, 1, 8, 8)), torch.arange(8) % 3).backward()
                optimizer.step()
                net.zero_grad()
    assert audit.result.findings == ()
    assert audit.result.steps == 3
    assert (row(audit.result, "stem.1.bias").optimizer, row(audit.result, "head.bias").optimizer) == ("SGD", "Adam")


def test_a_layer_frozen_on_the_way_is_audited_from_there_on(net: Net) -> None:
    optimizer = OPTIMIZERS["momentum"](net.parameters())

    def freeze_it(step: int) -> None:
        if step == 4:
            freeze(net, "body.0")
            for parameter in net.body[0].parameters():
                parameter.grad = None

    with finetui.audit(net, optimizer, steps=6) as audit:
        for step in range(20):
            freeze_it(step)
            optimizer.zero_grad()
            F.cross_entropy(net(torch.randn(8, 1, 8, 8)), torch.arange(8) % 3).backward()
            optimizer.step()
            if audit.done:
                break
    assert step == 9
    assert audit.result.findings == ()
    assert audit.result.steps == 6
    assert row(audit.result, "body.0.weight").frozen


def test_what_changes_at_every_step_does_not_hold_it_up_for_ever(net: Net) -> None:
    optimizer = OPTIMIZERS["sgd"](net.parameters())
    with finetui.audit(net, optimizer, steps=2) as audit:
        for step in range(100):
            net.body[0].requires_grad_(step % 2 == 0)
            optimizer.zero_grad()
            F.cross_entropy(net(torch.randn(8, 1, 8, 8)), torch.arange(8) % 3).backward()
            optimizer.step()
            if audit.done:
                break
    assert step == 15
    assert audit.result.steps == 1


def test_an_error_in_looking_on_is_not_the_loops(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ValueError("odd tensor")

    monkeypatch.setattr("finetui.engine.training.freeze_audit._drops", fail)
    optimizer = OPTIMIZERS["sgd"](net.parameters())
    before = net.head.weight.detach().clone()
    with pytest.raises(BadInput, match="cannot be audited: ValueError: odd tensor"):
        audited(net, optimizer)
    assert not torch.equal(before, net.head.weight)


def test_what_cannot_be_asked() -> None:
    model = Net()
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    with pytest.raises(BadInput, match="no module or parameter 'boddy'"):
        finetui.audit(model, optimizer, frozen=["boddy"])
    with pytest.raises(BadInput, match="a whole number from 1"):
        finetui.audit(model, optimizer, steps=0)
    with finetui.audit(model, optimizer) as audit, pytest.raises(BadInput, match="not over"):
        _ = audit.result
