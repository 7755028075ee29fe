"""The step of a linear head by hand has the bits of autograd's."""

import pytest
import torch
from torch import fx, nn
from torch.nn import functional as F

from finetui.engine.training.features.linear_head import LinearHead


@pytest.mark.parametrize("weighted", [False, True])
def test_loss_and_gradients_are_those_of_autograd(weighted: bool) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(256, 10)
    head = LinearHead.of(fx.symbolic_trace(nn.Sequential(layer)))
    assert head is not None
    inputs, labels = torch.randn(64, 256), torch.randint(0, 10, (64,))
    weights = torch.rand(10) if weighted else None
    expected = F.cross_entropy(layer(inputs), labels, weight=weights)
    expected.backward()
    gradients = [parameter.grad.clone() for parameter in layer.parameters()]
    layer.zero_grad()
    loss, logits, backward = head.step(inputs, labels, weights)
    assert layer.weight.grad is None
    backward()
    assert torch.equal(loss, expected.detach())
    assert torch.equal(logits, layer(inputs).detach())
    for parameter, gradient in zip(layer.parameters(), gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-6, atol=1e-8)


def test_only_a_plain_linear_layer_that_trains_is_one() -> None:
    assert LinearHead.of(fx.symbolic_trace(nn.Sequential(nn.ReLU(), nn.Linear(4, 2)))) is None
    assert LinearHead.of(fx.symbolic_trace(nn.Sequential(nn.Conv1d(4, 2, 1)))) is None
    head = LinearHead.of(fx.symbolic_trace(nn.Sequential(nn.Linear(4, 2, bias=False))))
    assert head is not None
    assert not head.trains
