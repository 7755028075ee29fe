"""What claims to be frozen, and moves, is named by the freeze audit, with its reason."""

import pytest
import torch
from audited_net import OPTIMIZERS, AuditedNet, audited, freeze, reasons, row
from torch import nn


@pytest.mark.parametrize("kind", ["momentum", "adam", "adamw"])
def test_what_the_optimizer_moves_though_it_is_frozen(net: AuditedNet, kind: str) -> None:
    optimizer = OPTIMIZERS[kind](net.parameters())
    audited(net, optimizer)
    freeze(net, "body.0")
    audit = audited(net, optimizer, clear=lambda: optimizer.zero_grad(set_to_none=False))
    found = reasons(audit, "body.0.weight")
    by = {"momentum": "momentum and weight decay", "adam": "momentum", "adamw": "momentum and weight decay"}[kind]
    for reason in found.values():
        assert reason == f"frozen, but moved by {by}: its gradient is zero and not None; set its grad to None"
    assert row(audit, "body.0.weight").frozen


def test_weight_decay_alone(net: AuditedNet) -> None:
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, weight_decay=0.1)
    audited(net, optimizer)
    freeze(net, "body.0")
    audit = audited(net, optimizer, clear=lambda: optimizer.zero_grad(set_to_none=False))
    assert all(
        reason.startswith("frozen, but moved by weight decay:") for reason in reasons(audit, "body.0.weight").values()
    )


def test_an_old_gradient_goes_on(net: AuditedNet) -> None:
    optimizer = OPTIMIZERS["sgd"](net.parameters())
    audited(net, optimizer)
    freeze(net, "body.0")
    others = [p for name, p in net.named_parameters() if not name.startswith("body.0")]

    def clear() -> None:
        for parameter in others:
            parameter.grad = None

    found = reasons(audited(net, optimizer, clear=clear), "body.0.weight")
    assert all("SGD keeps applying its old gradient" in reason for reason in found.values())


def test_what_is_said_to_be_frozen_and_trains(net: AuditedNet) -> None:
    audit = audited(net, OPTIMIZERS["adam"](net.parameters()), frozen=["body.0", "head.bias"])
    found = reasons(audit, "body.0.weight", "head.bias")
    assert all("marked as frozen, but it requires a gradient" in reason for reason in found.values())
    assert all("Adam moves it" in reason for reason in found.values())


def test_what_something_else_writes_to(net: AuditedNet) -> None:
    freeze(net, "body.0")

    def write(_: int) -> None:
        with torch.no_grad():
            net.body[0].weight[0, 0, 0, 0] += 1e-3

    found = reasons(audited(net, OPTIMIZERS["sgd"](net.parameters()), before_step=write), "body.0.weight")
    assert "something other than an optimizer writes to it" in found["body.0.weight"]


def test_statistics_of_a_frozen_normalisation_that_drift(net: AuditedNet) -> None:
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


def test_dropout_of_a_frozen_layer(net: AuditedNet) -> None:
    freeze(net, "stem")
    for module in (net.stem, net.stem[0], net.stem[1]):
        module.eval()
    net.stem[3].train()
    found = reasons(audited(net, OPTIMIZERS["sgd"](net.parameters())), "stem.3")
    assert "drops random values at each step" in found["stem.3"]
    net.stem[3].eval()
    assert audited(net, OPTIMIZERS["sgd"](net.parameters())).findings == ()


# -- shared, in memory and by name --------------------------------------------------------------------------


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
