"""What one training step does to each layer: how large its gradient is, and how far its weights move."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from finetui.engine.models import ModuleGroup, ModuleLayer

_HALF = (torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class LayerMeasure:
    """Of one layer and one step: the L2 norm of its gradient, and that of its update over that of its weights before.

    Both are None for a frozen layer, `gradient` also where the backward pass did not reach it. `update` is 0 where the
    weights were all zero.
    """

    gradient: float | None
    update: float | None


class LayerMeter:
    """Measures one step: `before()` between its backward pass and the optimizer's step, `after()` after the latter.

    In between, a copy of the weights that train is kept. All is computed on their device and read from it once.
    `measures` are those of the last step that was measured.
    """

    def __init__(self, layers: Sequence[ModuleLayer]) -> None:
        self._layers = tuple(layers)
        self._trains: list[nn.Parameter] | None = None
        self._copies: list[Tensor] = []
        self._gradients: dict[int, Tensor] = {}
        self.measures: dict[str, LayerMeasure] = {}

    @property
    def done(self) -> bool:
        """Whether a step was measured."""
        return bool(self.measures)

    def restart(self) -> None:
        """Measure a later step."""
        self._trains, self._copies, self._gradients = None, [], {}

    stop = restart

    def before(self) -> None:
        """Keep the weights that train, and measure their gradients."""
        self._trains = [p for layer in self._layers for p in layer.parameters.values() if p.requires_grad]
        self._copies = [parameter.detach().clone() for parameter in self._trains]
        self.see_gradients()  # here: an optimizer may use them as its scratch space

    def see_gradients(self) -> None:
        """Measure the gradients; once more where the backward pass comes after `before`, in the optimizer's step."""
        self._gradients = {id(p): _norm(p.grad) for p in self._trains or () if p.grad is not None}

    def after(self) -> dict[str, LayerMeasure]:
        """Return the measures by the layers' names; layers without parameters are left out. This waits for the device.

        The copy is given up: the next step needs a `before` of its own.
        """
        trains, copies, gradients = self._trains, self._copies, self._gradients
        if trains is None:
            raise RuntimeError("LayerMeter.after() needs a before() in the same step")
        moves = [_norm(p.detach() - copy) for p, copy in zip(trains, copies, strict=True)]
        norms = [*gradients.values(), *moves, *map(_norm, copies)]
        read = torch.stack(norms).tolist() if norms else []
        ids, reached = [id(parameter) for parameter in trains], len(gradients)
        gradient = dict(zip(gradients, read[:reached], strict=True))
        moved = dict(zip(ids, read[reached : reached + len(ids)], strict=True))
        was = dict(zip(ids, read[reached + len(ids) :], strict=True))
        self.restart()
        self.measures = {
            layer.name: _measure(layer, gradient, moved, was) for layer in self._layers if layer.parameters
        }
        return self.measures


def _measure(
    layer: ModuleLayer, gradient: dict[int, float], moved: dict[int, float], was: dict[int, float]
) -> LayerMeasure:
    """Return the measure of `layer` from the norms of single parameters by their `id`."""
    ids = [id(parameter) for parameter in layer.parameters.values()]
    weights = _together(ids, was)
    move = _together(ids, moved)
    return LayerMeasure(
        gradient=_together(ids, gradient),
        update=None if move is None or weights is None else move / weights if weights else 0.0,
    )


def _together(ids: Iterable[int], norms: dict[int, float]) -> float | None:
    found = [norms[key] for key in ids if key in norms]
    return math.hypot(*found) if found else None


def _norm(tensor: Tensor) -> Tensor:
    """Return the L2 norm as a float32 scalar on the device."""
    norm: Tensor = torch.linalg.vector_norm(tensor.float())
    return norm


def gradient_norms(groups: Sequence[ModuleGroup]) -> tuple[float, ...]:
    """Return the L2 norm of each layer group's last gradient, 0 where there is none. This waits for the device."""
    own = [[p.grad for p in group.parameters.values() if p.grad is not None] for group in groups]
    every = [gradient for gradients in own for gradient in gradients]
    # All at once, as `torch.nn.utils.get_total_norm` does it: as many operations on the device as for one group.
    # The norm of many half-precision numbers may be larger than any of half precision.
    every = [gradient.float() if gradient.dtype in _HALF else gradient for gradient in every]
    norms = torch._foreach_norm(every) if every else []
    read = iter(torch.stack([norm.to(norms[0].device) for norm in norms]).tolist() if norms else ())
    return tuple(math.hypot(*(next(read) for _ in gradients)) for gradients in own)
