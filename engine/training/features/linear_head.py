"""A step of a network whose rest is one linear layer: without autograd, which takes longer than the sums themselves."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, fx, nn

Step = tuple[Tensor, Tensor, Callable[[], None]]
_IGNORED = -100  # cross_entropy's default: no class
_MEAN = 1
_LOSS = torch.ops.aten.nll_loss_forward.default
_BACK_TO_SHARES = torch.ops.aten.nll_loss_backward.default
_BACK_TO_LOGITS = torch.ops.aten._log_softmax_backward_data.default
_SMALL = 2**22  # multiplications in a pass: several threads gain little on them, and wait long on a busy machine


class LinearHead:
    """The loss and the gradients of `layer` by the operations that autograd would choose, in its order: the same bits.

    Both of its tensors train.
    """

    def __init__(self, layer: nn.Linear) -> None:
        self._layer = layer

    @classmethod
    def of(cls, rest: fx.GraphModule) -> "LinearHead | None":
        """Return what computes the steps of `rest`; None where that is more than one plain linear layer that trains."""
        nodes = list(rest.graph.nodes)
        if [node.op for node in nodes] != ["placeholder", "call_module", "output"] or nodes[2].args[0] is not nodes[1]:
            return None
        layer = rest.get_submodule(str(nodes[1].target))
        if type(layer) is not nn.Linear or nodes[1].args != (nodes[0],) or nodes[1].kwargs:
            return None
        return cls(layer)

    @property
    def trains(self) -> bool:
        """Whether weight and bias train, as they must for a step."""
        weight, bias = self._layer.weight, self._layer.bias
        return weight.requires_grad and bias is not None and bias.requires_grad

    def is_small(self, batch_size: int) -> bool:
        """Whether one thread computes a step of so many images about as fast as several do, or faster."""
        return batch_size * self._layer.weight.numel() <= _SMALL

    def step(self, inputs: Tensor, labels: Tensor, class_weights: Tensor | None) -> Step:
        """Return the mean cross entropy of `inputs` `[B, features]`, the logits, and what computes the gradients."""
        # Detached, there is nothing that autograd would have to be kept from.
        weight, bias = self._layer.weight.detach(), self._layer.bias.detach()
        logits = torch.addmm(bias, inputs, weight.t())
        shares = torch.log_softmax(logits, 1)
        loss, total = _LOSS(shares, labels, class_weights, _MEAN, _IGNORED)
        return loss, logits, partial(self._backward, inputs, labels, class_weights, shares, loss, total)

    def _backward(
        self, inputs: Tensor, labels: Tensor, weights: Tensor | None, shares: Tensor, loss: Tensor, total: Tensor
    ) -> None:
        one = torch.ones_like(loss)
        back = _BACK_TO_SHARES(one, shares, labels, weights, _MEAN, _IGNORED, total)
        back = _BACK_TO_LOGITS(back, shares, 1, shares.dtype)
        self._layer.weight.grad = back.t().mm(inputs)
        self._layer.bias.grad = back.sum(0)
