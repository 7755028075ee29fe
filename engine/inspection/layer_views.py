"""Looks into a layer: its filters and feature maps as small images, its weights and activations as histograms."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from finetui.engine.errors import BadInput
from finetui.engine.models.heads import forward
from finetui.engine.models.isolated import check_hooks, isolated, submodule, tensors_in
from finetui.engine.text import clean

MOST_IMAGES = 256  # on one page
_PIECE = 2**22  # values that are counted at once, so that a large layer takes little memory
_GREY = 128  # stands for zero where values have signs


@dataclass(frozen=True)
class Statistics:
    """Of the finite values of a tensor: smallest, largest, mean (each 0 where there is none).

    `zeros` is the share of exact zeros among all values (0 to 1), `not_finite` counts NaN and infinities.
    """

    minimum: float
    maximum: float
    mean: float
    zeros: float
    not_finite: int


@dataclass(frozen=True, eq=False)
class LayerImage:
    """One image of a page: uint8 `[h, w]`, or `[h, w, 3]` for filters that see colours; `name` is its number."""

    name: str
    pixels: npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class ImagePage:
    """Images `first`, `first` + 1, ... of the `total` that a tensor of `shape` is divided into."""

    shape: tuple[int, ...]
    first: int
    total: int
    images: tuple[LayerImage, ...]
    statistics: Statistics


@dataclass(frozen=True, eq=False)
class Histogram:
    """How often the finite values of a tensor of `shape` fall between `edges`.

    `edges` is float64 `[bins + 1]`, `counts` int64 `[bins]`; the last bin includes its upper edge.
    """

    shape: tuple[int, ...]
    edges: npt.NDArray[np.float64]
    counts: npt.NDArray[np.int64]
    statistics: Statistics


def weight_filters(model: nn.Module, layer: str, first: int, count: int) -> ImagePage:
    """Return filters `first` to `first + count - 1` of the module at `layer` as images, zero in mid-grey (128).

    The largest magnitude in the layer is white (255) or black (1), so that its filters compare. A convolution whose
    filters have three input channels shows each in colour, numbered `out`; others show each input channel's slice,
    numbered `out.in` (just `out` where there is one). Of a linear layer each output's weights are folded to a nearly
    square image, row by row, the rest of the last row mid-grey. Raises `BadInput` for an unknown layer, one without
    such weights, or a page that is not there.
    """
    name, weight = _weight(model, layer)
    if weight.ndim not in (2, 3, 4):
        raise BadInput(
            f"{name} has no filters to draw: its weights have the shape {list(weight.shape)}; only convolutions and "
            "linear layers have filters"
        )
    statistics = _statistics(weight)
    largest = max(abs(statistics.minimum), abs(statistics.maximum)) or 1.0
    kernels = weight.unsqueeze(2) if weight.ndim == 3 else weight
    colour = kernels.ndim == 4 and kernels.shape[1] == 3
    inner = 1 if colour or kernels.ndim == 2 else kernels.shape[1]
    numbers = _page(first, count, len(kernels) * inner, name)
    images = []
    for number in numbers:
        outer, within = divmod(number, inner)
        values = kernels[outer] if colour or kernels.ndim == 2 else kernels[outer, within]
        pixels = _GREY + torch.nan_to_num(values.float() / largest, nan=0.0).clamp(-1, 1) * (_GREY - 1)
        if kernels.ndim == 2:
            pixels = _folded(pixels, _GREY)
        elif colour:
            pixels = pixels.movedim(0, -1)
        images.append(LayerImage(str(outer) if inner == 1 else f"{outer}.{within}", _bytes(pixels)))
    return ImagePage(tuple(weight.shape), first, len(kernels) * inner, tuple(images), statistics)


def feature_maps(model: nn.Module, layer: str, inputs: Tensor, first: int, count: int) -> ImagePage:
    """Return feature maps `first` to `first + count - 1`: what the module at `layer` returns for one image.

    `inputs` is float32 `[1, C, H, W]`, as the network takes it, on the device of `model`, which is not touched. The
    smallest value of the layer is black (0), its largest white (255). A vector is one image, folded to nearly square;
    of tokens `[N, D]` each is one, folded; of anything else the last two dimensions are. Of several tensors the
    first is shown, of several calls the last. Raises `BadInput` for an unknown layer, one that the forward pass does
    not reach, or a page that is not there.
    """
    output = _output(model, layer, inputs)
    maps = output[0] if output.ndim and len(output) == 1 else output
    if type(submodule(model, layer)) in (nn.Linear, nn.LayerNorm) and maps.ndim == 3:
        maps = maps.movedim(-1, 0)  # these have the channels last, [h, w, C]
    shape = tuple(maps.shape)
    folds = maps.ndim <= 2
    maps = maps.reshape(1, -1) if maps.ndim < 2 else maps if folds else maps.flatten(0, -3)
    numbers = _page(first, count, len(maps), _shown(layer))
    statistics = _statistics(output)
    spread = statistics.maximum - statistics.minimum
    images = []
    for number in numbers:
        share = (maps[number].float() - statistics.minimum) / (spread or 1.0)
        pixels = torch.nan_to_num(share, nan=0.0, posinf=1.0, neginf=0.0).clamp(0, 1) * 255
        images.append(LayerImage(str(number), _bytes(_folded(pixels, 0) if folds else pixels)))
    return ImagePage(shape, first, len(maps), tuple(images), statistics)


def weight_histogram(model: nn.Module, layer: str) -> Histogram:
    """Return the histogram of the weights of the module at `layer`. Raises `BadInput` where it has none of its own."""
    return histogram(_weight(model, layer)[1])


def activation_histogram(model: nn.Module, layer: str, inputs: Tensor) -> Histogram:
    """Return the histogram of what the module at `layer` returns for `inputs`; see `feature_maps`."""
    return histogram(_output(model, layer, inputs))


def histogram(values: Tensor, bins: int = 32) -> Histogram:
    """Return the histogram of the finite values in a tensor of any shape and device, in `bins` bins of equal width."""
    statistics = _statistics(values)
    low, high = statistics.minimum, statistics.maximum
    if low == high:
        margin = 0.5 * max(1.0, abs(low))
        low, high = low - margin, high + margin
    edges = np.linspace(low, high, bins + 1)
    counts = np.zeros(bins, np.int64)
    # On the CPU: torch.histc is not deterministic, or not there, on other devices.
    flat = _real(values).flatten()
    for start in range(0, len(flat), _PIECE):
        piece = flat[start : start + _PIECE]
        finite = piece[piece.isfinite()].cpu().double().numpy()
        counts += np.histogram(finite, bins=bins, range=(low, high))[0]
    return Histogram(tuple(values.shape), edges, counts, statistics)


def _weight(model: nn.Module, layer: str) -> tuple[str, Tensor]:
    """Return the name of `layer`, to show, and its weights: `weight`, or its first parameter of two dimensions or more.

    The latter is an attention layer's projection, or a table of embedded positions.
    """
    module = submodule(model, layer)
    name = _shown(layer)
    if parametrize.is_parametrized(module):
        # Computed when asked for, and spectral norm changes its buffers on the way.
        device = next(module.parameters()).device
        with isolated(module, device) as copied, torch.no_grad():
            weight = getattr(copied, "weight", None)
    else:
        weight = getattr(module, "weight", None)
    own = dict(module.named_parameters(recurse=False))
    if not isinstance(weight, Tensor):
        weight = next((parameter for parameter in own.values() if parameter.ndim > 1), None)
    if weight is None:
        inside = next((path for path, _ in module.named_parameters()), "")
        hint = f"; look at a layer in it, such as {_shown(_joined(layer, inside.rpartition('.')[0]))}" if inside else ""
        raise BadInput(f"{name} has no weights of its own{hint}")
    return name, weight.detach()


def _output(model: nn.Module, layer: str, inputs: Tensor) -> Tensor:
    """Return what the module at `layer` returns for `inputs`, a copy: the first tensor of the last call."""
    check_hooks(model)
    submodule(model, layer)
    found: list[Tensor | None] = []

    def note(_module: nn.Module, _inputs: Any, output: Any) -> None:
        first = next(tensors_in(output), None)
        # The next layer may work in place.
        found[:] = [first.clone() if first is not None else None]

    with isolated(model, inputs.device) as network, torch.no_grad():
        submodule(network, layer).register_forward_hook(note)
        forward(network, inputs.detach().clone())
    if not found or found[0] is None:
        how = "returns no tensor" if found else "is not reached by the forward pass"
        raise BadInput(f"{_shown(layer)} has no activations to show: it {how}")
    return found[0]


def _page(first: int, count: int, total: int, name: str) -> range:
    if not 1 <= count <= MOST_IMAGES:
        raise BadInput(f"a page has 1 to {MOST_IMAGES} images, not {count}")
    if not 0 <= first < total:
        raise BadInput(f"{name} has {total} images, numbered from 0: there is no number {first}")
    return range(first, min(first + count, total))


def _statistics(values: Tensor) -> Statistics:
    real = _real(values)
    finite = real.isfinite()
    count = int(finite.sum())
    zeros = int((real == 0).sum()) / max(1, real.numel())
    if not count:
        return Statistics(0.0, 0.0, 0.0, zeros, real.numel())
    exact = torch.float32 if real.device.type == "mps" else torch.float64
    total = torch.where(finite, real, 0.0).sum(dtype=exact)
    return Statistics(
        minimum=float(torch.where(finite, real, torch.inf).amin()),
        maximum=float(torch.where(finite, real, -torch.inf).amax()),
        mean=float(total) / count,
        zeros=zeros,
        not_finite=real.numel() - count,
    )


def _real(values: Tensor) -> Tensor:
    """Return `values`, complex ones by their magnitude."""
    values = values.detach()
    return values.abs() if values.is_complex() else values


def _folded(vector: Tensor, filler: int) -> Tensor:
    """Return `[n]` as a nearly square `[h, w]`, row by row, the rest of the last row filled."""
    width = math.ceil(math.sqrt(len(vector)))
    height = math.ceil(len(vector) / width)
    return F.pad(vector, (0, width * height - len(vector)), value=filler).view(height, width)


def _bytes(pixels: Tensor) -> npt.NDArray[np.uint8]:
    return np.ascontiguousarray(pixels.round().to(torch.uint8).cpu().numpy())


def _shown(layer: str) -> str:
    return clean(layer) or "the network"


def _joined(path: str, rest: str) -> str:
    return f"{path}.{rest}" if path and rest else path or rest
