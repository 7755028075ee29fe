"""A plain loop that is audited, and what the audit says of it."""

from collections.abc import Callable, Collection

import torch
from torch import nn
from torch.nn import functional as F

import finetui
from finetui.engine.protocol.audit import Audit, AuditedTensor

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": lambda params: torch.optim.SGD(params, lr=0.05),
    "momentum": lambda params: torch.optim.SGD(params, lr=0.05, momentum=0.9, weight_decay=0.01),
    "adam": lambda params: torch.optim.Adam(params, lr=0.01),
    "adamw": lambda params: torch.optim.AdamW(params, lr=0.01, weight_decay=0.1),
}


class AuditedNet(nn.Module):
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


def backward(model: nn.Module, draw: torch.Generator | None = None) -> None:
    """Compute the gradients of a batch, of images that are drawn by `draw`."""
    F.cross_entropy(model(torch.randn(8, 1, 8, 8, generator=draw)), torch.arange(8) % 3).backward()


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
            backward(model, draw)
            before_step(step)
            optimizer.step()
    return audit.result


def reasons(audit: Audit, *names: str) -> dict[str, str]:
    """Return the reasons of what is wrong, by name; all of `names` have one, and nothing else has."""
    found = {finding.name: finding.reason for finding in audit.wrong}
    assert set(found) == set(names), audit
    return found


def row(audit: Audit, name: str) -> AuditedTensor:
    """Return what the audit says of the tensor `name`."""
    return next(tensor for tensor in audit.tensors if tensor.name == name)
