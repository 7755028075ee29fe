"""What claims to train, and does not, is named by the freeze audit, with its reason."""

import pytest
import torch
from audited_net import OPTIMIZERS, AuditedNet, audited, backward, reasons, row
from torch import nn
from torch.nn import functional as F

import finetui


class WithSpare(AuditedNet):
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


def test_what_no_optimizer_has(net: AuditedNet) -> None:
    audit = audited(net, torch.optim.SGD(net.head.parameters(), lr=0.1), clear=net.zero_grad)
    found = reasons(audit, *(name for name, _ in net.named_parameters() if not name.startswith("head")))
    assert set(found.values()) == {"requires a gradient, but no optimizer has it"}
    assert row(audit, "body.0.weight").optimizer == ""


def test_a_parameter_that_was_replaced_after_the_optimizer_was_made(net: AuditedNet) -> None:
    optimizer = OPTIMIZERS["adam"](net.parameters())
    net.head = nn.Linear(64, 3)
    audit = audited(net, optimizer, clear=net.zero_grad)
    found = reasons(audit, "head.weight", "head.bias")
    assert all("the optimizer has an older tensor" in reason for reason in found.values())
    assert [finding.reason for finding in audit.findings if not finding.wrong] == [
        "the optimizer has 2 tensors that are not in the network"
    ]


def test_a_learning_rate_of_0(net: AuditedNet) -> None:
    groups = [{"params": net.stem.parameters(), "lr": 0.0}, {"params": net.body.parameters()}]
    optimizer = torch.optim.SGD([*groups, {"params": net.head.parameters()}], lr=0.1)
    found = reasons(audited(net, optimizer), *(f"stem.{name}" for name, _ in net.stem.named_parameters()))
    assert set(found.values()) == {"its learning rate is 0"}


def test_a_rate_that_begins_with_0_is_none_of_0(net: AuditedNet) -> None:
    optimizer = torch.optim.SGD(net.parameters(), lr=0.0)

    def warm_up(step: int) -> None:
        optimizer.param_groups[0]["lr"] = 0.01 * step

    audit = audited(net, optimizer, before_step=warm_up)
    assert audit.findings == ()
    assert row(audit, "head.bias").rate == pytest.approx(0.04)


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_gradient_that_is_exactly_0(net: AuditedNet, kind: str) -> None:
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


def test_one_step_with_a_gradient_of_0_is_no_fault_yet(net: AuditedNet) -> None:
    nn.init.zeros_(net.head.weight)  # nothing gets through it in the first step
    audit = audited(net, OPTIMIZERS["sgd"](net.parameters()), steps=1)
    assert audit.wrong == ()
    assert "stem.0.weight" in {finding.name for finding in audit.findings}
    assert audited(net, OPTIMIZERS["sgd"](net.parameters())).findings == ()


def test_values_and_gradients_that_are_not_finite(net: AuditedNet) -> None:
    with torch.no_grad():
        net.head.bias[0] = torch.nan
    audit = audited(net, OPTIMIZERS["sgd"](net.parameters()))
    found = {finding.name: finding.reason for finding in audit.wrong}
    assert found["stem.0.weight"] in ("it holds NaN or infinity", "its gradient is NaN or infinite")
    assert row(audit, "stem.0.weight").gradient == "not finite"
    with torch.no_grad():
        torch.manual_seed(0)
        other = AuditedNet()
        other.stem[1].running_mean[1] = torch.inf
    audit = audited(other, OPTIMIZERS["sgd"](other.parameters()))
    assert reasons(audit, "stem.1.running_mean") == {"stem.1.running_mean": "it holds NaN or infinity"}


def test_updates_that_a_dtype_cannot_hold(net: AuditedNet) -> None:
    net.bfloat16()
    images, optimizer = torch.randn(8, 1, 8, 8).bfloat16(), torch.optim.SGD(net.parameters(), lr=1e-9)
    with finetui.audit(net, optimizer, steps=2) as audit:
        for _ in range(2):
            optimizer.zero_grad()
            F.cross_entropy(net(images).float(), torch.arange(8) % 3).backward()
            optimizer.step()
    found = {finding.name: finding.reason for finding in audit.result.wrong}
    assert "are too small for bfloat16 next to its values" in found["stem.1.weight"]


def test_updates_that_vanish_at_the_end_of_a_schedule_are_no_fault(net: AuditedNet) -> None:
    audit = audited(net, torch.optim.SGD(net.parameters(), lr=1e-12))
    assert audit.wrong == ()
    assert "float32" in next(finding.reason for finding in audit.findings if finding.name == "stem.1.weight")


def test_a_bias_before_a_normalisation_is_no_fault(net: AuditedNet) -> None:
    net.body[0] = nn.Conv2d(4, 4, 3)
    net.body[0].bias.data.fill_(1.0)
    audit = audited(net, OPTIMIZERS["sgd"](net.parameters()))
    assert audit.wrong == ()
    (finding,) = audit.findings
    assert finding.name == "body.0.bias"
    assert "almost zero" in finding.reason


def test_steps_that_are_undone(net: AuditedNet) -> None:
    kept = {name: p.detach().clone() for name, p in net.named_parameters()}
    optimizer = OPTIMIZERS["sgd"](net.parameters())
    with finetui.audit(net, optimizer, steps=9) as audit:
        for _ in range(3):
            optimizer.zero_grad()
            backward(net)
            optimizer.step()
            net.load_state_dict(kept, strict=False)
    found = reasons(audit.result, *kept)
    assert audit.result.steps == 3
    assert all("steps are skipped, or it is reset" in reason for reason in found.values())


def test_an_optimizer_that_takes_no_step(net: AuditedNet) -> None:
    optimizer = OPTIMIZERS["sgd"](net.parameters())
    with finetui.audit(net, optimizer, steps=3) as audit:
        backward(net)
    found = reasons(audit.result, "", *(name for name, _ in net.named_parameters()))
    assert found[""] == "no optimizer has taken a step"
    assert found["head.bias"] == "its optimizer takes no steps"
