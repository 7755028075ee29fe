"""Parameter groups, and optimizer state by parameter name."""

import copy
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from finetui.engine.errors import BadInput
from finetui.engine.models import ModuleGroup
from finetui.engine.protocol.config import TrainingConfig

_Update = tuple[list[Tensor], list[Tensor], list[Tensor]]  # parameters, gradients, momentum


def build_optimizer(groups: Iterable[ModuleGroup], training: TrainingConfig, *, fused: bool = False) -> Optimizer:
    """Return SGD or AdamW over all parameters, in groups of (layer) x (decay, no decay).

    With `fused` all parameters are updated in one operation. Raises RuntimeError where the device has no such one.

    The groups are built once and never added to or removed from: freezing leaves a parameter without a gradient,
    which the optimizer skips. Biases and one-dimensional tensors (normalisation) get no weight decay.
    """
    param_groups: list[dict[str, Any]] = []
    for layer in (layer for group in groups for layer in group.layers):
        for decays in (True, False):
            named = [(name, p) for name, p in layer.parameters.items() if (p.ndim > 1) == decays]
            if named:
                weight_decay = training.weight_decay if decays else 0.0
                param_groups.append({"params": named, "weight_decay": weight_decay, "layer": layer.name})
    if training.optimizer == "adamw":
        return AdamW(param_groups, lr=training.lr, fused=fused or None)
    return SGD(
        param_groups, lr=training.lr, momentum=training.momentum, nesterov=training.nesterov, fused=fused or None
    )


class ParameterGroups:
    """The parameter groups of an optimizer that `build_optimizer` returned, with their learning rates and momentum.

    Each group is an update of its own, which for a small network takes longer than its mathematics. So layers with the
    same rate and weight decay share one; the optimizer's state, which torch keeps by parameter, does not notice.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer
        self._apart = optimizer.param_groups
        first = self._apart[0]
        self._momentum: float = first["betas"][0] if "betas" in first else first["momentum"]
        self._together = self._merged([group["weight_decay"] for group in self._apart])
        self._divided: list[dict[str, Any]] = []
        self._division: list[int] = []
        self._parameters: list[nn.Parameter] = [p for group in self._apart for p in group["params"]]
        kinds = {(p.device.type, p.dtype) for p in self._parameters}
        alike = len(kinds) == 1 and next(iter(kinds))[0] == "cpu"
        self._directly = alike and type(optimizer) is SGD and bool(first["fused"])

    def forget_gradients(self) -> None:
        """Do what the optimizer's `zero_grad` does, without its bookkeeping."""
        for parameter in self._parameters:
            parameter.grad = None

    def step(self) -> None:
        """Do what the optimizer's `step` does.

        Of fused SGD on a CPU only the update itself is done, as that would do it: on a small head what torch does
        around it takes as long as everything else in a step.
        """
        updates = self._updates() if self._directly else None
        if updates is None:
            self._optimizer.step()
            return
        for group, (parameters, gradients, buffers) in zip(self._optimizer.param_groups, updates, strict=True):
            if parameters:
                torch._fused_sgd_(
                    parameters,
                    gradients,
                    buffers,
                    weight_decay=group["weight_decay"],
                    momentum=group["momentum"],
                    lr=group["lr"],
                    dampening=0.0,
                    nesterov=group["nesterov"],
                    maximize=False,
                    is_first_step=False,
                )

    def _updates(self) -> list[_Update] | None:
        """Return what the update of each group takes; None where torch has yet to make the momentum of one."""
        state = self._optimizer.state
        updates: list[_Update] = []
        for group in self._optimizer.param_groups:  # plain loops: a step of a small network would feel others
            update: _Update = ([], [], [])
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                update[0].append(parameter)
                update[1].append(parameter.grad)
                if group["momentum"]:
                    buffer = state[parameter].get("momentum_buffer")
                    if buffer is None:
                        return None
                    update[2].append(buffer)
            updates.append(update)
        return updates

    def _merged(self, kinds: Sequence[Hashable]) -> list[dict[str, Any]]:
        """Return the groups of layers, those that are of the same of `kinds` as one."""
        merged: dict[Hashable, dict[str, Any]] = {}
        for group, kind in zip(self._apart, kinds, strict=True):
            # The names of parameters, which torch keeps beside them, are not needed: state is kept by ours.
            rest = {key: value for key, value in group.items() if key not in ("params", "param_names", "layer")}
            merged.setdefault(kind, {"params": [], **rest})["params"] += group["params"]
        return list(merged.values())

    def set_rate(self, lr: float) -> None:
        """Let all parameters be updated with the learning rate `lr`."""
        if self._optimizer.param_groups is not self._together:
            self._give(self._together)
        for group in self._together:
            group["lr"] = lr

    def set_rates(self, lr: float, factor: Callable[[str], float]) -> None:
        """Let those of each layer be updated with `lr` times the `factor` of the layer's name."""
        found: dict[tuple[float, float], int] = {}
        kinds = [(group["weight_decay"], factor(group["layer"])) for group in self._apart]
        division = [found.setdefault(kind, len(found)) for kind in kinds]
        if division != self._division:
            self._divided, self._division = self._merged(division), division
        if self._optimizer.param_groups is not self._divided:
            self._give(self._divided)
        for group, (_, own) in zip(self._divided, found, strict=True):
            group["lr"] = lr * own

    def set_momentum(self, momentum: float | None) -> None:
        """Update with `momentum` (AdamW: as beta1), where there is any; None: with that of the configuration."""
        value = self._momentum if momentum is None else momentum
        for group in self._optimizer.param_groups:
            if "betas" in group:
                group["betas"] = (value, group["betas"][1])
            elif group["momentum"]:
                group["momentum"] = value

    def _give(self, groups: list[dict[str, Any]]) -> None:
        """Let the optimizer go by `groups`. Raises RuntimeError if its own hold other parameters than these."""
        held, given = (
            {p for group in some for p in group["params"]} for some in (self._optimizer.param_groups, groups)
        )
        if held != given:
            raise RuntimeError("parameters were added to the optimizer, or removed: it would go on without knowing")
        self._optimizer.param_groups = groups


def state_by_name(optimizer: Optimizer, parameters: Mapping[str, nn.Parameter]) -> dict[str, dict[str, Any]]:
    """Return the optimizer's state keyed by parameter name: by position, a reordering would swap it silently."""
    return {name: dict(optimizer.state[p]) for name, p in parameters.items() if optimizer.state.get(p)}


def load_state_by_name(
    optimizer: Optimizer, parameters: Mapping[str, nn.Parameter], state: Mapping[str, Mapping[str, Any]]
) -> None:
    """Restore what `state_by_name` returned, and nothing else. Raises `BadInput` for state that fits no parameter."""
    for name, values in state.items():
        parameter = parameters.get(name)
        tensors = [value for value in values.values() if isinstance(value, Tensor) and value.ndim]
        if parameter is None or any(tensor.shape != parameter.shape for tensor in tensors):
            raise BadInput(f"the checkpoint's optimizer state for {name!r} fits no parameter of this model")
    # Torch knows where each of an optimizer's tensors has to lie (AdamW's counters: on the CPU, unless it is fused);
    # it takes them by position, which is found anew here, and it keeps what it is given.
    positions = {p: i for i, p in enumerate(p for group in optimizer.param_groups for p in group["params"])}
    by_position = {positions[parameters[name]]: _like(parameters[name], values) for name, values in state.items()}
    optimizer.load_state_dict({"state": by_position, "param_groups": optimizer.state_dict()["param_groups"]})


def _like(parameter: nn.Parameter, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of a parameter's `values` whose tensors lie in memory as it does: a fused update relies on that."""
    copied = copy.deepcopy(dict(values))
    for name, value in copied.items():
        if isinstance(value, Tensor) and value.shape == parameter.shape and value.stride() != parameter.stride():
            copied[name] = torch.empty_like(parameter, dtype=value.dtype, device=value.device).copy_(value)
    return copied
