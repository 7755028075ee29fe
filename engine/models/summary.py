"""What a network consists of: its module tree with shapes, parameters, work, time and memory."""

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from finetui.engine.models.groups import ModuleLayer
from finetui.engine.models.heads import forward
from finetui.engine.models.isolated import check_hooks, isolated, tensors_in

_COUNTED = "matrix products, convolutions and attention"
_RUNS = 5
_SECONDS = 2.0  # after which no further run is timed


@dataclass(frozen=True, kw_only=True)
class ModuleSummary:
    """One module of the tree. `name` is its path, "" for the network itself (`depth` 0).

    `own` counts the scalars of its own parameters, `parameters` those of it and all within, each once; `trainable` and
    `parameter_bytes` are of the latter. The rest is of one image's forward pass in evaluation mode, all calls
    together. `output` is the shape of the first tensor that the last call returned, without the batch; None where it
    returned none. `activation_bytes` is the size of all that it returned. `flops` and `time`, its share of the forward
    pass (0 to 1), include the modules within; a container that is not called itself has the sum of its children's;
    None: neither it nor anything within is called, or it was not measured.
    """

    name: str
    depth: int
    kind: str
    summary: str
    own: int
    parameters: int
    trainable: int
    parameter_bytes: int
    calls: int
    output: tuple[int, ...] | None
    activation_bytes: int
    flops: int | None
    time: float | None


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes that training takes at least: scratch space and the framework's own come on top.

    `weights` includes buffers; `activations` are those that the backward pass needs, for the whole batch.
    """

    weights: int
    gradients: int
    optimizer: int
    activations: int

    @property
    def total(self) -> int:
        """All of them together."""
        return self.weights + self.gradients + self.optimizer + self.activations


@dataclass(frozen=True, kw_only=True)
class ModelSummary:
    """The modules in the order of definition, the network itself first, for images of the shape `input` `[C, H, W]`.

    A module that stands in several places is listed at the first. FLOPs are those of the operations `counted` for one
    image; a multiply-add counts as two. `seconds` is one image's forward pass, None where it was not timed.
    `weight_bytes` includes buffers; `trainable_bytes` is of the parameters that train, `saved_bytes` of what a training
    step keeps of one image for the backward pass.
    """

    input: tuple[int, ...]
    modules: tuple[ModuleSummary, ...]
    seconds: float | None
    weight_bytes: int
    trainable_bytes: int
    saved_bytes: int
    counted: str = _COUNTED

    def memory(self, batch_size: int, states: int = 1) -> Memory:
        """Return what training with batches of `batch_size` images takes.

        The optimizer keeps `states` numbers of each parameter: SGD with momentum 1, AdamW 2.
        """
        return Memory(
            weights=self.weight_bytes,
            gradients=self.trainable_bytes,
            optimizer=self.trainable_bytes * states,
            activations=self.saved_bytes * batch_size,
        )


@dataclass
class _Seen:
    """What was seen of a module in a forward pass."""

    calls: int = 0
    output: tuple[int, ...] | None = None
    activation_bytes: int = 0
    flops: int | None = None
    times: list[float] = field(default_factory=list)


def summarise(
    model: nn.Module, input_shape: tuple[int, ...], device: torch.device, *, timed: bool = True
) -> ModelSummary:
    """Return the summary of `model`, which is on `device` and not touched, for images of `input_shape`, `[C, H, W]`.

    Without `timed` one forward pass and one in training mode are made: on the device `meta` they compute nothing, so
    that any network takes no more than a moment, and there nothing is timed. Raises `BadInput` when the network does
    not take such images.
    """
    check_hooks(model)
    inputs = torch.zeros(1, *input_shape, device=device)
    with isolated(model, device) as network:
        with torch.no_grad():
            seen = _observe(network, inputs)
            seconds = _time(network, inputs, seen) if timed and device.type != "meta" else None
        saved = _saved_bytes(network, torch.cat([inputs, inputs])) // 2
    return ModelSummary(
        input=tuple(input_shape),
        modules=tuple(_rows(model, seen)),
        seconds=seconds,
        weight_bytes=sum(map(_bytes, (*model.parameters(), *model.buffers()))),
        trainable_bytes=sum(_bytes(parameter) for parameter in model.parameters() if parameter.requires_grad),
        saved_bytes=saved,
    )


def _watch(
    network: nn.Module, inputs: Tensor, read: Callable[[], float], note: Callable[[str, float, Any], None]
) -> None:
    """Run `network` once; `note(path, difference, output)` gets what `read` went on by during each call of a module."""
    before: list[float] = []

    def enter(_module: nn.Module, _inputs: Any) -> None:
        before.append(read())

    def leave(path: str) -> Callable[[nn.Module, Any, Any], None]:
        return lambda _module, _inputs, output: note(path, read() - before.pop(), output)

    hooks = []
    for path, module in network.named_modules():
        hooks += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave(path))]
    try:
        forward(network, inputs.clone())
    finally:
        for hook in hooks:
            hook.remove()


def _observe(network: nn.Module, inputs: Tensor) -> dict[str, _Seen]:
    """Return what one forward pass shows of each module, by its path."""
    from torch.utils.flop_counter import FlopCounterMode  # loads Triton, which no training needs

    seen = {path: _Seen() for path, _ in network.named_modules()}

    def note(path: str, flops: float, output: Any) -> None:
        tensors = list(tensors_in(output))
        module = seen[path]
        module.calls += 1
        module.output = tuple(tensors[0].shape[1:]) if tensors else None
        module.activation_bytes += sum(map(_bytes, tensors))
        module.flops = (module.flops or 0) + int(flops)

    # Not every PyTorch counts every fused kernel of attention; that of plain products they all do.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        _watch(network, inputs, counter.get_total_flops, note)
    return seen


def _time(network: nn.Module, inputs: Tensor, seen: dict[str, _Seen]) -> float:
    """Time every module in a few runs, for `seen`; return the median of the whole, in runs without hooks (seconds)."""

    def clock() -> float:
        _synchronise(inputs.device)
        return time.perf_counter()

    def note(path: str, seconds: float, _output: Any) -> None:
        run[path] = run.get(path, 0.0) + seconds

    whole: list[float] = []
    forward(network, inputs.clone())  # the first run also chooses kernels and allocates
    begin = clock()
    for _ in range(_RUNS):
        start = clock()
        forward(network, inputs.clone())
        whole.append(clock() - start)
        run: dict[str, float] = {}
        _watch(network, inputs, clock, note)
        for path, seconds in run.items():
            seen[path].times.append(seconds)
        if clock() - begin > _SECONDS:
            break
    return statistics.median(whole)


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _saved_bytes(network: nn.Module, inputs: Tensor) -> int:
    """Return the bytes that a training step on `inputs` keeps for its backward pass, weights and buffers left out."""
    known = {tensor.untyped_storage()._cdata for tensor in (*network.parameters(), *network.buffers())}
    saved: dict[int, torch.UntypedStorage] = {}  # which keeps them alive, so that none takes another's place

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in known:
            saved[storage._cdata] = storage
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        forward(network.train(), inputs)
    return sum(storage.nbytes() for storage in saved.values())


def _rows(model: nn.Module, seen: dict[str, _Seen]) -> Iterator[ModuleSummary]:
    root = seen[""]
    whole = statistics.median(root.times) if root.times else 0.0
    for path, module in model.named_modules():
        flops, seconds = _work(path, module, seen)
        parameters = list(module.parameters())
        yield ModuleSummary(
            name=path,
            depth=path.count(".") + 1 if path else 0,
            kind=type(module).__name__,
            summary=ModuleLayer(path, module, {}).summary,
            own=sum(parameter.numel() for parameter in module.parameters(recurse=False)),
            parameters=sum(parameter.numel() for parameter in parameters),
            trainable=sum(parameter.numel() for parameter in parameters if parameter.requires_grad),
            parameter_bytes=sum(map(_bytes, parameters)),
            calls=seen[path].calls,
            output=seen[path].output,
            activation_bytes=seen[path].activation_bytes,
            flops=flops,
            time=seconds / whole if seconds is not None and whole else None,
        )


def _work(path: str, module: nn.Module, seen: dict[str, _Seen]) -> tuple[int | None, float | None]:
    """Return the FLOPs and seconds of a module, or of what is within one that is not called itself (a ModuleList)."""
    mine = seen[path]
    if mine.calls:
        return mine.flops, statistics.median(mine.times) if mine.times else None
    flops: int | None = None
    seconds: float | None = None
    for name, child in module.named_children():
        below = f"{path}.{name}" if path else name
        if below not in seen:
            continue  # it is listed, and counted, elsewhere
        more, longer = _work(below, child, seen)
        flops = flops if more is None else (flops or 0) + more
        seconds = seconds if longer is None else (seconds or 0.0) + longer
    return flops, seconds


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
