"""The freeze audit of a plain loop: a healthy training has no faults, and of each tensor it is told what is known."""

import pytest
import torch
from audited_net import OPTIMIZERS, AuditedNet, audited, backward, freeze, reasons, row
from torch import nn
from torch.nn import functional as F
from torch.optim import optimizer as optimizers

import finetui
from finetui.engine.errors import BadInput


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_healthy_training_is_clean(net: AuditedNet, kind: str) -> None:
    audit = audited(net, OPTIMIZERS[kind](net.parameters()))
    assert audit.findings == ()
    assert audit.steps == 5
    assert str(audit) == "14 tensors over 5 steps, 0 of them frozen: all as they claim"
    assert all(tensor.moved and not tensor.frozen for tensor in audit.tensors)


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_network_frozen_as_it_should_be_is_clean(net: AuditedNet, kind: str) -> None:
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


def test_a_step_with_a_closure_has_its_gradients_within(net: AuditedNet) -> None:
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


def test_it_tells_what_is_known_of_each_tensor(net: AuditedNet) -> None:
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
        model = AuditedNet()
        optimizer = OPTIMIZERS["momentum"](model.parameters())
        torch.manual_seed(1)
        for step in range(6):
            if watched and step == 1:
                audit = finetui.audit(model, optimizer, steps=3)
            optimizer.zero_grad()
            backward(model)
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


# -- the loop as a whole ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_gradients_that_are_never_cleared(net: AuditedNet, kind: str) -> None:
    audit = audited(net, OPTIMIZERS[kind](net.parameters()), clear=lambda: None)
    assert reasons(audit, "")[""].startswith("gradients are not cleared between steps")
    assert str(audit).endswith("call zero_grad()")


@pytest.mark.parametrize("to_none", [True, False])
def test_gradients_of_several_batches_a_step_are_cleared(net: AuditedNet, to_none: bool) -> None:
    optimizer = OPTIMIZERS["sgd"](net.parameters())
    with finetui.audit(net, optimizer, steps=4) as audit:
        for _ in range(4):
            for _ in range(3):
                (F.cross_entropy(net(torch.randn(8, 1, 8, 8)), torch.arange(8) % 3) / 3).backward()
            nn.utils.clip_grad_norm_(net.parameters(), 0.1)
            optimizer.step()
            optimizer.zero_grad(set_to_none=to_none)
    assert audit.result.findings == ()


def test_two_optimizers_each_with_a_part(net: AuditedNet) -> None:
    trunk = torch.optim.SGD([*net.stem.parameters(), *net.body.parameters()], lr=0.1)
    head = torch.optim.Adam(net.head.parameters(), lr=0.01)
    with finetui.audit(net, [trunk, head], steps=3) as audit:
        for _ in range(3):
            for optimizer in (trunk, head):  # one after the other, each with gradients of its own
                net.zero_grad()
                backward(net)
                optimizer.step()
                net.zero_grad()
    assert audit.result.findings == ()
    assert audit.result.steps == 3
    assert (row(audit.result, "stem.1.bias").optimizer, row(audit.result, "head.bias").optimizer) == ("SGD", "Adam")


def test_a_layer_frozen_on_the_way_is_audited_from_there_on(net: AuditedNet) -> None:
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
            backward(net)
            optimizer.step()
            if audit.done:
                break
    assert step == 9
    assert audit.result.findings == ()
    assert audit.result.steps == 6
    assert row(audit.result, "body.0.weight").frozen


def test_what_changes_at_every_step_does_not_hold_it_up_for_ever(net: AuditedNet) -> None:
    optimizer = OPTIMIZERS["sgd"](net.parameters())
    with finetui.audit(net, optimizer, steps=2) as audit:
        for step in range(100):
            net.body[0].requires_grad_(step % 2 == 0)
            optimizer.zero_grad()
            backward(net)
            optimizer.step()
            if audit.done:
                break
    assert step == 15
    assert audit.result.steps == 1


def test_an_error_in_looking_on_is_not_the_loops(net: AuditedNet, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ValueError("odd tensor")

    monkeypatch.setattr("finetui.engine.training.freeze_audit._drops", fail)
    optimizer = OPTIMIZERS["sgd"](net.parameters())
    before = net.head.weight.detach().clone()
    with pytest.raises(BadInput, match="cannot be audited: ValueError: odd tensor"):
        audited(net, optimizer)
    assert not torch.equal(before, net.head.weight)


def test_what_cannot_be_asked() -> None:
    model = AuditedNet()
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    with pytest.raises(BadInput, match="no module or parameter 'boddy'"):
        finetui.audit(model, optimizer, frozen=["boddy"])
    with pytest.raises(BadInput, match="a whole number from 1"):
        finetui.audit(model, optimizer, steps=0)
    with finetui.audit(model, optimizer) as audit, pytest.raises(BadInput, match="not over"):
        _ = audit.result
