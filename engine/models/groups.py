"""The layer groups of a model: what freezes as a whole, from the stem up to the head."""

from collections.abc import Collection
from dataclasses import dataclass

from torch import nn

from engine.events import LayerGroup
from engine.text import clean


@dataclass(frozen=True)
class ModuleGroup:
    """A named part of a model. `parameters` maps full parameter names (as in the state dict) to parameters."""

    name: str
    module: nn.Module
    parameters: dict[str, nn.Parameter]
    in_use: bool

    def describe(self, frozen: bool) -> LayerGroup:
        """Return the group as the events show it."""
        return LayerGroup(
            name=clean(self.name),
            summary=clean(_summary(self.module), 40),
            parameters=sum(parameter.numel() for parameter in self.parameters.values()),
            frozen=frozen,
            in_use=self.in_use,
        )


def module_groups(model: nn.Module) -> tuple[ModuleGroup, ...]:
    """Return the children of `model` that have parameters, in the order of their definition."""
    bypassed: Collection[str] = getattr(model, "bypassed", ())
    return tuple(
        ModuleGroup(
            name,
            child,
            {f"{name}.{key}": parameter for key, parameter in child.named_parameters()},
            in_use=name not in bypassed,
        )
        for name, child in model.named_children()
        if any(True for _ in child.parameters())
    )


def _summary(module: nn.Module) -> str:
    match module:
        case nn.Conv2d():
            return f"conv {module.in_channels}→{module.out_channels}, {'×'.join(map(str, module.kernel_size))}"
        case nn.Linear():
            return f"linear {module.in_features}→{module.out_features}"
        case _:
            return type(module).__name__
