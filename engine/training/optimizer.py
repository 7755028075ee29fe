"""Parameter groups, and optimizer state by parameter name."""

import copy
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from engine.config import TrainingConfig
from engine.errors import BadInput
from engine.models import ModuleGroup
from engine.text import clean


def build_optimizer(groups: Iterable[ModuleGroup], training: TrainingConfig) -> Optimizer:
    """Return SGD or AdamW over all parameters, in groups of (layer group) x (decay, no decay).

    The groups are built once and never added to or removed from: freezing leaves a parameter without a gradient,
    which the optimizer skips. Biases and one-dimensional tensors (normalisation) get no weight decay.
    """
    param_groups: list[dict[str, Any]] = []
    for group in groups:
        for decays in (True, False):
            named = [(name, p) for name, p in group.parameters.items() if (p.ndim > 1) == decays]
            if named:
                weight_decay = training.weight_decay if decays else 0.0
                param_groups.append({"params": named, "weight_decay": weight_decay, "group": group.name})
    if training.optimizer == "adamw":
        return AdamW(param_groups, lr=training.lr)
    return SGD(param_groups, lr=training.lr, momentum=training.momentum, nesterov=training.nesterov)


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
            raise BadInput(f"the checkpoint's optimizer state for {clean(name)!r} fits no parameter of this model")
    # Torch knows where each of an optimizer's tensors has to lie (AdamW's counters: on the CPU, unless it is fused);
    # it takes them by position, which is found anew here, and it keeps what it is given.
    positions = {p: i for i, p in enumerate(p for group in optimizer.param_groups for p in group["params"])}
    by_position = {positions[parameters[name]]: copy.deepcopy(dict(values)) for name, values in state.items()}
    optimizer.load_state_dict({"state": by_position, "param_groups": optimizer.state_dict()["param_groups"]})
