"""What in an image speaks for a class: Grad-CAM, integrated gradients and occlusion, by captum."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from finetui.engine.errors import BadInput
from finetui.engine.models.heads import forward
from finetui.engine.models.isolated import check_hooks, isolated, kind, submodule, tensors_in
from finetui.engine.models.outputs import logits
from finetui.engine.text import clean

_STEPS = 32  # of the integral; Gauss-Legendre, so that few are enough
_AT_ONCE = 8  # images in one forward pass
_WINDOWS = 7  # a window of the occlusion is this part of the image's side


@dataclass(frozen=True, eq=False)
class Attribution:
    """What speaks for a class (positive) and against it, pixel by pixel.

    `values` is float32 `[H, W]` at the input's resolution, of largest magnitude 1 (or all zero); times `scale` they
    are what the method found, summed over the channels: integrated gradients then add up to the difference that the
    image makes to the logit. `layer` is the one that Grad-CAM looked at, else empty.
    """

    values: npt.NDArray[np.float32]
    scale: float
    layer: str = ""


@dataclass(frozen=True)
class _Question:
    """A question to `network`, a copy: inputs and baseline float32 `[1, C, H, W]`; `layer` None: Grad-CAM's choice."""

    network: nn.Module
    inputs: Tensor
    baseline: Tensor
    target: int
    layer: str | None

    def logits(self, images: Tensor) -> Tensor:
        """Return the network's logits. It gets a copy: its first layer may work in place."""
        return logits(self.network, images.clone())


def explain(
    model: nn.Module,
    inputs: Tensor,
    *,
    method: str,
    target: int,
    baseline: Tensor | None = None,
    layer: str | None = None,
) -> Attribution:
    """Return what in `inputs`, float32 `[1, C, H, W]` as the network takes it, speaks for the class `target`.

    `method` is one of `METHODS`. Grad-CAM looks at `layer`, by default the output of the last stage before the pooling
    (see `_last_stage`), and tells only what speaks for the class. The others compare with `baseline`, float32
    `[1, C, H, W]`: the input for a black image, say; None: all zero. Everything is on the device of `model`, which is
    not touched. Raises `BadInput` when the method cannot be used on this network, or there is no such method, class or
    layer.
    """
    if method not in _METHODS:
        raise BadInput(f"there is no explanation {method!r}; known: {', '.join(METHODS)}")
    inputs = inputs.detach()
    baseline = torch.zeros_like(inputs) if baseline is None else baseline.detach()
    if inputs.ndim != 4 or len(inputs) != 1 or baseline.shape != inputs.shape:
        raise BadInput(
            f"one image and its baseline are explained, each [1, C, H, W], not {list(inputs.shape)} and "
            f"{list(baseline.shape)}"
        )
    with isolated(model, inputs.device) as network, torch.enable_grad():
        for parameter in network.parameters():
            parameter.requires_grad_(False)  # gradients are asked for with respect to activations and pixels alone
        question = _Question(network, inputs, baseline, target, layer)
        found, used = _METHODS[method](question)
    return _scaled(found, used)


def _scaled(found: Tensor, layer: str) -> Attribution:
    values: npt.NDArray[np.float32] = found.detach().float().cpu().numpy()
    if not np.isfinite(values).all():
        raise BadInput("the explanation is not finite: the network's weights or its outputs are NaN or infinite")
    scale = float(np.abs(values).max())
    return Attribution((values / (scale or 1.0)).astype(np.float32), scale, layer)


def _try(question: _Question, inputs: Tensor) -> Tensor:
    """Return the network's logits, after a check that they are `[1, classes]` with the class that is asked for."""
    found = forward(question.network, inputs, alone=True)
    if found.ndim != 2 or len(found) != 1:
        returned = list(found.shape)
        raise BadInput(f"the network {kind(question.network)} must return logits [1, classes], and returns {returned}")
    if not 0 <= question.target < found.shape[1]:
        raise BadInput(f"there is no class {question.target}: the network has {found.shape[1]}, numbered from 0")
    return found


def _check_gradient(question: _Question) -> None:
    # The clone is no leaf: a first layer that works in place may write to it.
    if not _try(question, question.inputs.clone().requires_grad_().clone()).requires_grad:
        raise BadInput(
            f"no gradient flows back through the network {kind(question.network)} (no_grad or detach?); "
            "use the method occlusion, which needs none"
        )


def _grad_cam(question: _Question) -> tuple[Tensor, str]:
    from captum.attr import LayerGradCam

    layer = _layer_to_look_at(question)
    looked_at = submodule(question.network, layer)
    inputs = question.inputs.clone().requires_grad_()
    found = LayerGradCam(question.logits, looked_at).attribute(inputs, question.target, relu_attributions=True)
    size = question.inputs.shape[2:]
    return F.interpolate(found, size=size, mode="bilinear", align_corners=False)[0, 0], layer


def _integrated_gradients(question: _Question) -> tuple[Tensor, str]:
    from captum.attr import IntegratedGradients

    _check_gradient(question)
    found = IntegratedGradients(question.logits).attribute(
        question.inputs.clone(),
        question.baseline,
        question.target,
        n_steps=_STEPS,
        internal_batch_size=_AT_ONCE,
    )
    return found[0].sum(0), ""


def _occlusion(question: _Question) -> tuple[Tensor, str]:
    from captum.attr import Occlusion

    channels, *sides = question.inputs.shape[1:]
    windows = [max(1, round(side / _WINDOWS)) for side in sides]
    with torch.no_grad():
        _try(question, question.inputs.clone())
        found = Occlusion(question.logits).attribute(
            question.inputs.clone(),
            sliding_window_shapes=(channels, *windows),
            strides=(channels, *(max(1, window // 2) for window in windows)),
            baselines=question.baseline,
            target=question.target,
            perturbations_per_eval=_AT_ONCE,
        )
    return found[0].sum(0), ""


_METHODS: dict[str, Callable[[_Question], tuple[Tensor, str]]] = {
    "grad-cam": _grad_cam,
    "integrated-gradients": _integrated_gradients,
    "occlusion": _occlusion,
}
METHODS = tuple(_METHODS)


@dataclass(frozen=True, eq=False)
class _Call:
    """One call of a module in a forward pass, with the first tensor that it returned.

    `alone` tells whether it returned nothing beside it.
    """

    path: str
    module: nn.Module
    output: Tensor | None
    alone: bool

    @property
    def shape(self) -> torch.Size:
        """The shape of the tensor."""
        return torch.Size() if self.output is None else self.output.shape

    @property
    def is_map(self) -> bool:
        """Whether the output has places to point at: `[1, C, h, w]` of more than one pixel."""
        return len(self.shape) == 4 and self.shape[2] * self.shape[3] > 1


def _layer_to_look_at(question: _Question) -> str:
    """Return the path of the layer that Grad-CAM looks at, after one forward pass that shows what it reaches."""
    network = question.network
    check_hooks(network)
    wanted = None if question.layer is None else submodule(network, question.layer)
    # Not the network itself: what it returns are the logits.
    watched: dict[nn.Module, str] = {module: path for path, module in network.named_modules() if path}
    if wanted is not None:
        watched[wanted] = question.layer or ""
    calls: list[_Call] = []
    hooks = [module.register_forward_hook(_noting(path, calls)) for module, path in watched.items()]
    try:
        _check_gradient(question)
    finally:
        for hook in hooks:
            hook.remove()
    if question.layer is None:
        return _last_stage(calls, network)
    mine = [call for call in calls if call.module is wanted]
    if not mine or not mine[-1].is_map:
        returns = f"returns {list(mine[-1].shape)}" if mine else "is not reached by the forward pass"
        name = clean(question.layer) or "the network"
        raise BadInput(f"Grad-CAM needs a layer that returns maps [1, C, h, w], and {name} {returns}")
    return question.layer


def _noting(path: str, calls: list[_Call]) -> Callable[[nn.Module, Any, Any], None]:
    def note(module: nn.Module, _inputs: Any, output: Any) -> None:
        calls.append(_Call(path, module, next(tensors_in(output), None), alone=isinstance(output, Tensor)))

    return note


def _last_stage(calls: list[_Call], network: nn.Module) -> str:
    """Return the module whose output Grad-CAM customarily looks at, as pytorch-grad-cam recommends for each network.

    `features` where a network calls its stages so, as torchvision's VGG, DenseNet, EfficientNet, MobileNet and ConvNeXt
    do; else the last module that returns maps and does not pool, of several around it the outermost: `layer4` of a
    ResNet, after the sum with the residual.
    """
    convolutions = [call for call in calls if isinstance(call.module, nn.Conv2d) and call.is_map]
    if not convolutions:
        raise BadInput(
            f"Grad-CAM needs a convolution with an output of more than one pixel, and {kind(network)} has none; "
            "integrated-gradients and occlusion work"
        )
    _check_depth(calls, convolutions, network)
    idle = (nn.Dropout, nn.Dropout2d, nn.Identity)  # in evaluation mode; what is before them has a better name
    maps = [call for call in calls if call.is_map and call.alone and not isinstance(call.module, idle)]
    stages = [call for call in maps if call.path.rpartition(".")[2] == "features"]
    # A single convolution may follow: the head.
    if stages and sum(call in convolutions for call in calls[calls.index(stages[-1]) :]) <= 1:
        return stages[-1].path
    late = set(map(id, calls[calls.index(convolutions[-1]) :]))
    return [call for call in maps if id(call) in late and not _pools_or_mixes(call, calls)][-1].path


def _pools_or_mixes(call: _Call, calls: list[_Call]) -> bool:
    """Whether what the module returns was pooled last, or has its channels in the last place."""
    return any(
        type(other.module) in (nn.Linear, nn.LayerNorm) or type(other.module).__module__ == nn.MaxPool2d.__module__
        for other in calls
        if other.output is call.output
    )


def _check_depth(calls: list[_Call], convolutions: list[_Call], network: nn.Module) -> None:
    """Raise `BadInput` where the only convolution cuts the image into patches: nothing is recognised there yet."""
    last = convolutions[-1]
    after = calls[calls.index(last) + 1 :]
    mixing = (nn.Linear, nn.MultiheadAttention)
    tokens = any(isinstance(call.module, mixing) and len(call.shape) > 2 for call in after)
    if tokens and all(call.module is last.module for call in convolutions) and _cuts_patches(last.module):
        raise BadInput(
            f"Grad-CAM needs a convolution that sees what the network recognizes, and the only one of {kind(network)}, "
            f"{last.path}, cuts the image into patches; integrated-gradients and occlusion work"
        )


def _cuts_patches(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d) and module.stride == module.kernel_size and max(module.kernel_size) > 1
