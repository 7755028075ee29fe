"""Networks by name: the tutorial's LeNet, those of torchvision, timm and Hugging Face, and a person's own."""

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import msgspec
import torch
from torch import Tensor, nn
from torch.nn.modules.lazy import LazyModuleMixin
from torch.overrides import TorchFunctionMode

from finetui.engine.data.user_code import load_factory, own_arguments
from finetui.engine.errors import BadInput, reason_of
from finetui.engine.models import hub_models
from finetui.engine.models.heads import (
    Head,
    Probed,
    add_feature_head,
    auxiliary_heads,
    can_have_feature_head,
    evaluating,
    forward,
    probe,
    replace_head,
    seeded,
    width,
)
from finetui.engine.models.lenet import INPUT_SIZE, LeNet
from finetui.engine.models.outputs import Outputs
from finetui.engine.models.stems import adapt_stem, find_unfit
from finetui.engine.protocol.config import is_factory
from finetui.engine.protocol.model_names import hub_of
from finetui.engine.text import clean

_OPTION = "model.name (--model)"
_INPUT_SIZES = (32, 64, 96, 128, 160, 224, 299, 384)
_HEADS = ("classifier", "features")
# Constructors that fix the size of the images.
_SIZED: dict[str, Callable[[int, int], dict[str, Any]]] = {
    "vit_": lambda height, _width: {"image_size": height},
    "maxvit_": lambda height, width: {"input_size": (height, width)},
}
# Auxiliary classifiers make the output a tuple while training. Normalisation belongs to the input transform.
_INCEPTION = {"aux_logits": False, "transform_input": False, "init_weights": True}
_SPECIAL = {"googlenet": _INCEPTION, "inception_v3": _INCEPTION}


class Architecture(msgspec.Struct, frozen=True, kw_only=True):
    """All that is needed to build a network again; stored in every checkpoint.

    `height` and `width` are those of the network's input, after the images were resized. `head` is `classifier` (the
    network's own) or `features` (a new linear layer on the flattened features).
    """

    name: str
    num_classes: int
    in_channels: int
    height: int
    width: int
    head: str = "classifier"
    definition: str = ""


def known_models() -> list[str]:
    """Return the names of LeNet and of torchvision's networks."""
    import torchvision  # takes seconds, and LeNet needs none of it

    names: list[str] = torchvision.models.list_models(module=torchvision.models)
    return ["lenet", *names]


def check_model(name: str) -> None:
    """Raise `BadInput` unless `name` is a known network or can be imported. The latter runs a person's code.

    Whether the Hugging Face hub has a network, only a look there can tell.
    """
    if hub_of(name):
        hub_models.check(name)
        return
    if is_factory(name):
        try:
            load_factory(name, _OPTION)
        except BadInput as error:
            meant = hub_models.spelling(name) if isinstance(error.__cause__, ModuleNotFoundError) else ""
            if meant:
                raise BadInput(f"{_OPTION}: there is no model {name!r}; {meant}") from error
            raise
        return
    if name == "lenet":
        return
    known = known_models()
    if name not in known:
        close = difflib.get_close_matches(name, known, n=3)
        hint = (
            f"did you mean {' or '.join(close)}?"
            if close
            else "known models: lenet and those of torchvision, such as resnet18"
        )
        if hub_models.timm_has(name):
            hint = f"timm has it: --model timm:{name}"
        raise BadInput(f"{_OPTION}: there is no model {name!r}; {hint}")


def build(architecture: Architecture, seed: int, note: Callable[[str], None] | None = None) -> nn.Module:
    """Return the network with weights initialised from `seed`, on torch's default device; nothing is downloaded.

    The global random number generator is left as it was. Under `torch.device("meta")` no weight is computed. A
    person's own network is tried as it is first: it gets a new stem where it does not take such images, and a new head
    if it is made for another number of classes; `note` is told. Raises `BadInput` when there is no such network or it
    cannot take such images.
    """
    if architecture.head not in _HEADS:
        raise BadInput(f"there is no head {architecture.head!r}; known: {', '.join(_HEADS)}")
    with seeded(seed):
        if architecture.name == "lenet":
            return _build_lenet(architecture)
        model = _construct(architecture)
        _fit_stem(model, architecture, note or _ignore)
        if is_factory(architecture.name) or architecture.head == "features":
            found = probe(model, _example(architecture, model))
            if found.classes != architecture.num_classes:
                _adapt_head(model, found, architecture.num_classes, note or _ignore)
            if architecture.head == "features":
                add_feature_head(model, found.head)
            if note is not None:
                for sentence in auxiliary_notice(model, _example(architecture, model)):
                    note(sentence)
    return model


def auxiliary_notice(model: nn.Module, example: Tensor) -> list[str]:
    """Return a sentence on the auxiliary heads of `model`, as a list of one; an empty one where it has none."""
    count = auxiliary_heads(model, example)
    if not count:
        return []
    weight = Outputs(example, (example,) * count).auxiliary_weight()
    heads = "an auxiliary head" if count == 1 else f"{count} auxiliary heads"
    return [f"the network has {heads} in training: the loss is that of the first output plus {weight} x theirs"]


def _ignore(_sentence: str) -> None: ...


def _fit_stem(model: nn.Module, architecture: Architecture, note: Callable[[str], None]) -> None:
    if is_factory(architecture.name):
        _adapt_own_stem(model, architecture, note)
    elif not hub_of(architecture.name):  # whose constructors are told the channels
        adapt_stem(model, architecture.in_channels)


def _adapt_own_stem(model: nn.Module, architecture: Architecture, note: Callable[[str], None]) -> None:
    example = _example(architecture, model)
    with evaluating(model), torch.random.fork_rng(devices=[]):
        unfit = find_unfit(model, example)
    if unfit is not None:
        note(adapt_stem(model, architecture.in_channels, unfit) or "")


def _adapt_head(model: nn.Module, found: Probed, num_classes: int, note: Callable[[str], None]) -> None:
    kind = clean(type(model).__name__, 60)
    outputs = f"{found.classes} output{'s' if found.classes != 1 else ''}"
    layer = dict(model.named_modules()).get(found.head)
    # A new layer before a sigmoid would train, and badly: a single output is no head of logits.
    if found.classes == 1 or not isinstance(layer, Head) or width(layer) != found.classes:
        raise BadInput(
            f"the network {kind} returns {outputs} for an image where the data has {num_classes} classes, and its head "
            "cannot be replaced; let it return one logit for each of num_classes classes"
        )
    replace_head(model, found.head, num_classes)
    note(
        f"{kind} has {outputs} whatever num_classes is: its head {clean(found.head, 60)} was replaced by a new one for "
        f"{num_classes} classes"
    )


def _build_lenet(architecture: Architecture) -> LeNet:
    if (architecture.height, architecture.width) != (INPUT_SIZE, INPUT_SIZE):
        size = f"{architecture.height}x{architecture.width}"
        raise BadInput(f"lenet takes images of {INPUT_SIZE}x{INPUT_SIZE} pixels, and these have {size}")
    model = LeNet(architecture.num_classes, architecture.in_channels)
    if architecture.head == "features":
        model.add_feature_head()
    return model


def fit_input(name: str, in_channels: int, height: int, width: int, definition: str = "") -> tuple[int, int]:
    """Return the input size (height, width) for images of `height` x `width`: their own, if the network takes it.

    Else it is the smallest usual size, square, that is not below the images' and that the network takes, or failing
    that the largest below. LeNet's is always 28x28. Raises `BadInput` when the network takes none of them. For
    `definition` see `Architecture`.
    """
    if name == "lenet":
        return INPUT_SIZE, INPUT_SIZE
    longest = max(height, width)
    larger = [size for size in _INPUT_SIZES if size >= longest]
    smaller = [size for size in reversed(_INPUT_SIZES) if size < longest]
    sizes = [(height, width), *((size, size) for size in (*larger, *smaller))]
    takes = _probe(
        Architecture(
            name=name, num_classes=2, in_channels=in_channels, height=height, width=width, definition=definition
        )
    )
    problems: list[BadInput] = []
    for size in sizes:
        try:
            takes(*size)
        except BadInput as problem:
            problems.append(problem)
        else:
            return size
    raise problems[0]


def _probe(wanted: Architecture) -> Callable[[int, int], None]:
    """Return a function that raises `BadInput` unless the network takes inputs of (height, width)."""
    name = wanted.name
    # torchvision's networks tell without computing anything; what a person's own does on `meta` is anyone's guess.
    device = "cpu" if is_factory(name) else "meta"
    built: list[nn.Module] = []
    lazy = False

    def takes(height: int, width: int) -> None:
        architecture = msgspec.structs.replace(wanted, height=height, width=width)
        nonlocal lazy
        with torch.device(device), seeded(0), torch.no_grad():
            # Lazy layers are made for the size that they see first.
            if not built or lazy or hub_of(name) or _size_arguments(architecture):
                model = _construct(architecture)
                _fit_stem(model, architecture, _ignore)
                built[:] = [model]
                lazy = any(isinstance(module, LazyModuleMixin) for module in model.modules())
            model = built[0]
            if is_factory(name):
                _adapt_own_stem(model, architecture, _ignore)
            inputs = _example(architecture, model)
            forward(model.eval(), inputs)
            # In training, normalisation also needs more than one value for each channel.
            forward(model.train(), inputs)

    return takes


def supports_feature_head(model: nn.Module) -> bool:
    """Whether `build` can give the network the head `features`."""
    if isinstance(model, LeNet):
        return True
    layers = list(model.named_modules())
    for kind in (nn.Linear, nn.Conv2d):
        names = [name for name, module in layers if type(module) is kind and name]
        if names:
            return can_have_feature_head(model, names[-1])
    return False


def _construct(architecture: Architecture) -> nn.Module:
    """Return the network as its constructor makes it for the number of classes; see `build`."""
    name, arguments = architecture.name, {"num_classes": architecture.num_classes}
    device = torch.get_default_device()
    with _NumbersOnCpu() if device.type == "meta" else nullcontext():
        if is_factory(name):
            model = _call_factory(name, arguments)
        elif hub_of(name):
            model = hub_models.create(
                name,
                architecture.definition,
                architecture.num_classes,
                (architecture.in_channels, architecture.height, architecture.width),
            )
        else:
            check_model(name)
            model = _call_builder(architecture, arguments)
    return model.to(device)


def _call_builder(architecture: Architecture, arguments: dict[str, Any]) -> nn.Module:
    import torchvision

    name = architecture.name
    arguments |= _size_arguments(architecture) | _SPECIAL.get(name, {})
    try:
        model: nn.Module = torchvision.models.get_model(name, weights=None, **arguments)
    except (ValueError, AssertionError) as error:
        size = f"{architecture.height}x{architecture.width}"
        raise BadInput(f"{name} does not take images of {size} pixels: {reason_of(error)}") from error
    return model


def _size_arguments(architecture: Architecture) -> dict[str, Any]:
    for prefix, arguments in _SIZED.items():
        if architecture.name.startswith(prefix) and not is_factory(architecture.name):
            return arguments(architecture.height, architecture.width)
    return {}


def _call_factory(name: str, arguments: dict[str, Any]) -> nn.Module:
    factory = load_factory(name, _OPTION)
    shown = clean(name, 200)
    try:
        inspect.signature(factory).bind(**arguments)
    except TypeError as error:
        raise BadInput(
            f"{_OPTION}: {shown} is called with num_classes=... only, and does not accept that ({reason_of(error)})"
        ) from error
    except ValueError:
        pass  # a callable written in C has no signature to look at: the call itself will tell
    try:
        with own_arguments(name.rpartition(":")[0]):
            model = factory(**arguments)
    except (Exception, SystemExit) as error:
        # Whatever a person's factory raises is theirs to read.
        raise BadInput(
            f"{_OPTION}: {shown} raised {type(error).__name__}: {reason_of(error) or 'no message'}"
        ) from error
    if not isinstance(model, nn.Module):
        raise BadInput(f"{_OPTION}: {shown} must return an nn.Module, not {type(model).__name__}")
    return model


def _example(architecture: Architecture, model: nn.Module) -> Tensor:
    parameter = next(model.parameters(), None)
    device = parameter.device if parameter is not None else None
    return torch.zeros(2, architecture.in_channels, architecture.height, architecture.width, device=device)


class _NumbersOnCpu(TorchFunctionMode):
    """Keeps number series on the CPU: constructors read them (RegNet's widths, rates of stochastic depth), and on the
    device `meta` there is nothing to read.
    """

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        if func in (torch.arange, torch.linspace, torch.tensor) and given.get("device") is None:
            given["device"] = "cpu"
        return func(*args, **given)


def example(architecture: Architecture, device: torch.device | None = None) -> Tensor:
    """Return a batch of two inputs of the right shape, float32 `[2, C, H, W]`."""
    return torch.zeros(2, architecture.in_channels, architecture.height, architecture.width, device=device)
