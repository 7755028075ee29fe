"""The features of every training image: filled block by block, and the batches and steps that go on from them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from finetui.engine.data import Split
from finetui.engine.models.outputs import Outputs, outputs_of
from finetui.engine.protocol.values import FastPath, FeaturePlace
from finetui.engine.training.fast_paths import laid_out
from finetui.engine.training.features.cut import Cut
from finetui.engine.training.features.linear_head import LinearHead, Step
from finetui.engine.training.features.store import FeatureStore
from finetui.engine.training.precision import autocast
from finetui.engine.training.torch_compile import CompiledNetwork

_AHEAD = 2**18  # numbers that are gathered at once: 1 MB of float32, which a processor's cache still holds
_MOST_VALUES = 2_000_000  # in a block: 1000 of MNIST's images, 16 of ImageNet's
FeatureBatch = tuple[list[Tensor], Tensor]


class FeatureCache:
    """What the first part of `cut` makes of each image of `data`, computed by `path` and `precision`.

    The blocks in which it is filled are of a fixed size, in the order of the images: what is kept depends neither on
    the order of an epoch nor on where filling was interrupted. Raises as `FeatureStore` does.
    """

    def __init__(
        self,
        cut: Cut,
        data: Split,
        shape: tuple[int, ...],
        place: FeaturePlace,
        folder: Path | None,
        device: torch.device,
        *,
        path: FastPath,
        precision: str,
        compiled: str,
    ) -> None:
        self.cut = cut
        self.store = FeatureStore(cut.specs, len(data), place, device, folder)
        self._data = data
        self._path = path
        self._precision = precision
        self._device = device
        self._labels = data.labels.to(device)
        self._block = max(16, min(1000, _MOST_VALUES // torch.Size(shape).numel()))
        self._blocks: Iterator[tuple[Tensor, Tensor]] | None = None
        # Its generated code alone: a module's call would look for hooks at every step.
        plain = precision == "fp32" and compiled == "off"
        self._linear = LinearHead.of(cut.rest) if plain and len(cut.specs[0].shape) == 1 else None
        self._network: Callable[..., Any] = cut.rest.forward
        self._compiled = CompiledNetwork(cut.rest, compiled) if compiled != "off" else None

    @property
    def complete(self) -> bool:
        """Whether all images have been looked at."""
        return self.store.done == len(self._data)

    def restart(self) -> None:
        """Get the next block's images anew, after somebody else has read the data."""
        self._blocks = None

    def fill(self) -> None:
        """Compute the features of the next block of images."""
        done = self.store.done
        if self._blocks is None:
            self._blocks = self._data.batches(torch.arange(done, len(self._data)), self._block)
        inputs, labels = next(self._blocks)
        upto = min(done + self._block, len(self._data))
        indices = [index for index in range(done, upto) if index not in self._data.skipped]
        features = self._features(inputs) if len(labels) else ()
        self.store.add(features, indices, upto)
        if self.complete:
            self._blocks = None

    def _features(self, inputs: Tensor) -> tuple[Tensor, ...]:
        alone = len(inputs) == 1  # which some networks squeeze away
        inputs = laid_out(torch.cat([inputs, inputs]) if alone else inputs, self._path)
        with torch.no_grad(), autocast(self._precision, self._device):
            found: tuple[Tensor, ...] = self.cut.first(inputs)
        return tuple(tensor[:1] for tensor in found) if alone else found

    def batches(self, order: Tensor, batch_size: int) -> Iterator[FeatureBatch]:
        """Yield features, a list of tensors `[B, ...]`, and labels, int64 `[B]`, on the device, of the images `order`.

        What could not be read is left out, as `Split.batches` does.
        """
        numbers = max(1, self.store.bytes // 4 // len(self._data))
        missing = bool(self.store.missing.any())
        ahead = batch_size * (1 if missing else max(1, _AHEAD // (batch_size * numbers)))
        for start in range(0, len(order), ahead):
            indices = order[start : start + ahead]
            if missing:
                indices = indices[~self.store.missing[indices]]
            features, labels = self.store.gather(indices), self._labels[indices.to(self._device)]
            for first in range(0, max(len(indices), 1), batch_size):
                part = slice(first, first + batch_size)
                # Detached: an operation in place on one batch must not reach the next one's graph.
                yield [tensor[part].detach() for tensor in features], labels[part]

    def outputs(self, features: list[Tensor], frozen: frozenset[str], norm_trains: bool) -> Outputs:
        """Return what the rest of the network makes of a batch of features; see `precision.outputs`."""
        network = self._network
        if self._compiled is not None:
            network = self._compiled.network(frozen, norm_trains)
        if self._precision == "fp32":
            return outputs_of(network(*features))
        with autocast(self._precision, self._device):
            returned = network(*features)
        return outputs_of(returned)

    def is_small(self, batch_size: int) -> bool:
        """Whether a step of so many images is little work, on a processor: see `LinearHead`."""
        return self._linear is not None and self._device.type == "cpu" and self._linear.is_small(batch_size)

    def linear_step(self, features: list[Tensor], labels: Tensor, class_weights: Tensor | None) -> Step | None:
        """Return loss, logits and what computes the gradients, where all that trains is a linear layer; else None."""
        if self._linear is None or not self._linear.trains:
            return None
        return self._linear.step(features[0], labels, class_weights)

    def close(self) -> None:
        """Give back the memory, and remove the files."""
        self._blocks = None
        self.store.close()
