"""The head of a network: the layer that produces the logits. Found by running the network, and replaced."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from finetui.engine.errors import BadInput, reason_of
from finetui.engine.models.device import preserved_rng
from finetui.engine.models.outputs import logits, outputs, outputs_of

Head = nn.Linear | nn.Conv2d


class Probed(NamedTuple):
    """What running a network shows: the layer that produces the logits, `` where none can be named, and their width."""

    head: str
    classes: int


def find_head(model: nn.Module, example: Tensor) -> str:
    """Return the name of the layer that produces the logits; see `probe`."""
    return probe(model, example).head


def probe(model: nn.Module, example: Tensor) -> Probed:
    """Return the layer that produces the logits, and how many classes they tell apart.

    The layer is the last linear or convolutional one that runs, if it has one output for each class: what follows it
    may pool, flatten or clamp. Otherwise (a cosine or prototype head, TorchScript, which does not tell what runs) it is
    the last layer with a matrix of its own that has a row or a column for each class, or such a matrix that the model
    itself owns; without any, no layer is named.

    `example` is a batch of inputs, float32 `[B, C, H, W]`, on the device of `model` (`meta` too). Lazy layers become
    what they are for. Otherwise the model and the random number generators are left as they were. Raises `BadInput`
    when the model has no parameters, does not take such inputs, or does not return logits `[B, classes]`.
    """
    kind = type(model).__name__
    if next(model.parameters(), None) is None:
        raise BadInput(f"the network {kind} has no parameters, so there is nothing to train")
    names: dict[nn.Module, str] = {module: name for name, module in model.named_modules()}
    ran: list[nn.Module] = []

    def note(module: nn.Module, _inputs: Any, _output: Any) -> None:
        ran.append(module)

    def has_own(module: nn.Module) -> bool:
        # A parametrized layer's parameters are its children's.
        return isinstance(module, Head) or next(module.parameters(recurse=False), None) is not None

    own = [module for module in names if has_own(module) and not isinstance(module, torch.jit.ScriptModule)]
    hooks = [module.register_forward_hook(note) for module in own]
    try:
        with evaluating(model), torch.no_grad(), preserved_rng(example.device):
            output = forward(model, example.clone())
    finally:
        for hook in hooks:
            hook.remove()
    if output.ndim != 2 or len(output) != len(example):
        raise BadInput(
            f"the network {kind} must return logits, a tensor [{len(example)}, classes] for a batch of "
            f"{len(example)} images, and returns {list(output.shape)}"
        )
    heads = [module for module in ran if isinstance(module, Head)]
    if heads and width(heads[-1]) == output.shape[1] and names[heads[-1]]:
        return Probed(names[heads[-1]], output.shape[1])
    return Probed(_head_by_shape(model, ran, output.shape[1]), output.shape[1])


def _head_by_shape(model: nn.Module, ran: Sequence[nn.Module], classes: int) -> str:
    def fitting(module: nn.Module) -> list[str]:
        return [name for name, p in module.named_parameters(recurse=False) if p.ndim == 2 and classes in p.shape]

    names = {module: name for name, module in model.named_modules()}
    layers = [module for module in ran if module is not model]
    own = fitting(model)
    if own and not (layers and fitting(layers[-1])):
        return own[-1]
    layers = [*(module for module in names if isinstance(module, torch.jit.ScriptModule)), *layers]
    return next((names[module] for module in reversed(layers) if names[module] and fitting(module)), "")


def auxiliary_heads(model: nn.Module, example: Tensor) -> int:
    """Return how many auxiliary heads `model` has while it trains; 0 where a copy of it cannot tell."""
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            return len(outputs(copy.deepcopy(model).train(), example.clone()).auxiliary)
    except Exception:  # noqa: BLE001  # a person's own code: training itself will tell, if it is broken
        return 0


def forward(model: nn.Module, inputs: Tensor, *, alone: bool = False) -> Tensor:
    """Return the logits that `model` makes of `inputs`. Raises `BadInput` with the reason when it makes none.

    With `alone` a single image is one also for networks that take none; see `outputs.logits`.
    """
    try:
        return logits(model, inputs) if alone else outputs_of(model(inputs)).logits
    except BadInput:
        raise
    except Exception as error:
        # The network may be a person's own code: whatever it raises is theirs to read.
        dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), inputs.dtype)
        hint = f"; its weights are {str(dtype).removeprefix('torch.')}, and images are float32"
        raise BadInput(
            f"the network {type(model).__name__} does not take inputs of the shape {list(inputs.shape)} "
            f"({type(error).__name__}: {reason_of(error)}){hint if dtype != inputs.dtype else ''}"
        ) from error


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put every module of `model` into evaluation mode, and back into the mode that each was in."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def width(head: nn.Module) -> int:
    """Return the number of classes that the layer `head` tells apart."""
    return head.out_channels if isinstance(head, nn.Conv2d) else int(head.out_features)  # type: ignore[arg-type]


def replace_head(model: nn.Module, head: str, num_classes: int, seed: int | None = None) -> None:
    """Put a new layer of the same kind for `num_classes` classes in the place of the layer `head`.

    Its weights, torch's default ones, come from `seed` (the global generator is then left as it was), or from the
    global generator; bias or none, device and dtype are the old layer's. Raises `BadInput` when `head` is no linear
    or convolutional layer.
    """
    old = model.get_submodule(head)
    if not isinstance(old, Head):
        raise BadInput(f"the layer {head} is neither an nn.Linear nor an nn.Conv2d, so it cannot be replaced as a head")
    with seeded(seed):
        set_submodule(model, head, _like(old, num_classes))


def add_feature_head(model: nn.Module, head: str) -> None:
    """Let one new linear layer on the features produce the logits, in the place of a classifier of several layers.

    A classifier that is an `nn.Sequential` (VGG, AlexNet, MobileNetV3) is cut off before its first linear layer and
    ends in a new layer named `head`. Where `head` is the classifier's only layer, it stays: it is on the features
    already. Raises `BadInput` for a classifier that is written in `forward`.
    """
    if head not in dict(model.named_modules()) or not can_have_feature_head(model, head):
        raise BadInput(f"the network {type(model).__name__} has no feature head; use --head replace")
    layer = model.get_submodule(head)
    parent_name, _, _ = head.rpartition(".")
    parent = model.get_submodule(parent_name)
    linears = [(name, child) for name, child in parent.named_children() if isinstance(child, nn.Linear)]
    if not isinstance(layer, nn.Linear) or len(linears) < 2:
        return
    first, on_features = linears[0]
    children = list(parent.named_children())
    before = children[: [name for name, _ in children].index(first)]
    new = nn.Linear(
        on_features.in_features,
        layer.out_features,
        bias=layer.bias is not None,
        device=layer.weight.device,
        dtype=layer.weight.dtype,
    )
    classifier = nn.Sequential()
    for name, child in before:
        classifier.add_module(name, child)
    # Not the first layer's name: weights for the old layer must not be taken for weights of this one.
    classifier.add_module("head", new)
    set_submodule(model, parent_name, classifier)


def can_have_feature_head(model: nn.Module, head: str) -> bool:
    """Whether `add_feature_head` works for the layer `head`."""
    parent_name, _, name = head.rpartition(".")
    parent = model.get_submodule(parent_name)
    siblings = [child for child in parent.children() if isinstance(child, nn.Linear)]
    if len(siblings) < 2:
        return True
    last = next(reversed(dict(parent.named_children())))
    return type(parent) is nn.Sequential and bool(parent_name) and name == last


def set_submodule(model: nn.Module, name: str, module: nn.Module) -> None:
    """Put `module` in the place of the submodule `name`, in the same mode of training or evaluation."""
    parent_name, _, attribute = name.rpartition(".")
    module.train(model.get_submodule(name).training)
    # nn.Module's own: an assignment would fail for a name such as "3" of a Sequential.
    model.get_submodule(parent_name).add_module(attribute, module)


@contextmanager
def seeded(seed: int | None) -> Iterator[None]:
    """Draw random numbers on the CPU from `seed`, and leave the global generator as it was; None: draw from that."""
    if seed is None:
        yield
        return
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def _like(old: Head, num_classes: int) -> Head:
    bias, where, dtype = old.bias is not None, old.weight.device, old.weight.dtype
    if isinstance(old, nn.Linear):
        return nn.Linear(old.in_features, num_classes, bias=bias, device=where, dtype=dtype)
    if old.groups != 1:
        raise BadInput("the head is a grouped convolution, which cannot be rebuilt for another number of classes")
    return nn.Conv2d(
        old.in_channels,
        num_classes,
        old.kernel_size,  # type: ignore[arg-type]
        stride=old.stride,  # type: ignore[arg-type]
        padding=old.padding,  # type: ignore[arg-type]
        dilation=old.dilation,  # type: ignore[arg-type]
        bias=bias,
        padding_mode=old.padding_mode,
        device=where,
        dtype=dtype,
    )
