"""The update without torch's bookkeeping has the bits of the optimizer's own step, and leaves it the same state."""

import pytest
import torch
from torch import nn
from torch.optim import SGD

from finetui.engine.training.optimizer import ParameterGroups


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(30, 7), nn.ReLU(), nn.Linear(7, 3))


def build(model: nn.Sequential, momentum: float, nesterov: bool, fused: bool) -> SGD:
    groups = [
        {"params": [p], "weight_decay": 0.1 if p.ndim > 1 else 0.0, "layer": name}
        for name, p in model.named_parameters()
    ]
    return SGD(groups, lr=0.1, momentum=momentum, nesterov=nesterov, fused=fused)


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.9, False), (0.9, True)])
@pytest.mark.parametrize("fused", [True, False])
def test_an_update_is_that_of_the_optimizer(momentum: float, nesterov: bool, fused: bool, monkeypatch) -> None:
    models = network(), network()
    ours, theirs = (build(model, momentum, nesterov, fused) for model in models)
    groups = ParameterGroups(ours)
    calls = []
    monkeypatch.setattr(ours, "step", lambda step=ours.step: (calls.append(1), step()))
    for number in range(5):
        inputs = torch.randn(8, 30)
        for model in models:
            model.zero_grad()
            model[0].requires_grad_(number != 2)  # frozen for a step
            model(inputs).square().sum().backward()
        groups.set_rate(0.01 * number)
        groups.step()
        for group in theirs.param_groups:
            group["lr"] = 0.01 * number
        theirs.step()
        for one, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
            assert torch.equal(one, other)
            mine, expected = ours.state[one], theirs.state[other]
            assert mine.keys() == expected.keys()
            assert all(torch.equal(mine[name], expected[name]) for name in mine if mine[name] is not None)
    # Torch makes the momentum, and does what has no fused update.
    assert len(calls) == (5 if not fused else 1 if momentum else 0)


def test_gradients_are_forgotten_also_those_of_what_is_frozen() -> None:
    model = network()
    groups = ParameterGroups(build(model, 0.9, False, True))
    model(torch.randn(8, 30)).sum().backward()
    model.requires_grad_(False)
    groups.forget_gradients()
    assert all(parameter.grad is None for parameter in model.parameters())
