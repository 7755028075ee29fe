"""What a training step computes of a batch: its loss, its logits, and the gradients of what trains."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from finetui.engine.models.outputs import Outputs
from finetui.engine.protocol.config import TrainingConfig
from finetui.engine.protocol.values import FastPath
from finetui.engine.training.epoch_steps import has_batch_norm
from finetui.engine.training.fast_paths import laid_out
from finetui.engine.training.features.cache import FeatureCache
from finetui.engine.training.features.linear_head import Step
from finetui.engine.training.freezing import Freezer
from finetui.engine.training.precision import outputs
from finetui.engine.training.torch_compile import CompiledNetwork


class Forward:
    """The forward pass of `model`, by the settings `training` and the path `path`, up to the loss.

    `class_weights` are those of the loss, float32 `[classes]`; None: all count the same.
    """

    def __init__(
        self, model: nn.Module, training: TrainingConfig, path: FastPath, class_weights: Tensor | None
    ) -> None:
        self._training = training
        self._path = path
        self._class_weights = class_weights
        self.normed = has_batch_norm(model)
        self._compiled = CompiledNetwork(model, training.compile)

    def step(self, inputs: Any, labels: Tensor, freezer: Freezer, cache: FeatureCache | None) -> Step:
        """Return the loss of a batch, its logits (detached), and what computes the gradients.

        `inputs` are images, or where there is a `cache` features of it.
        """
        if cache is None:
            network = self._compiled.network(freezer.frozen, freezer.norm_trains)
            found = outputs(network, laid_out(inputs, self._path), self._training.precision)
        else:
            if not self._training.label_smoothing:
                step = cache.linear_step(inputs, labels, self._class_weights)
                if step is not None:
                    return step
            found = cache.outputs(inputs, freezer.frozen, freezer.norm_trains)
        loss = self._loss_of(found, labels)
        logits = found.logits.detach()
        # What a recorded graph returns would be gone with the next step.
        return loss, logits.clone() if self._compiled.overwrites else logits, loss.backward

    def network(self, freezer: Freezer) -> Any:
        """Return the network as it is called in a step while `freezer` has its layers frozen."""
        return self._compiled.network(freezer.frozen, freezer.norm_trains)

    def summed(self, network: Callable[[Tensor], Any], images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sum of the weighted losses of some images, which has a gradient, and their logits, detached."""
        found = outputs(network, laid_out(images, self._path), self._training.precision)
        logits = found.logits.detach()
        return self._loss_of(found, labels, "sum"), logits.clone() if self._compiled.overwrites else logits

    def loss_and_logits(self, model: Callable[[Tensor], Any], inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss of a batch of images and its logits `[B, classes]`, by a copy of the model.

        What auxiliary heads return counts in the loss; see `Outputs.auxiliary_weight`.
        """
        found = outputs(model, laid_out(inputs, self._path), self._training.precision)
        return self._loss_of(found, labels), found.logits

    def _loss_of(self, found: Outputs, labels: Tensor, reduction: str = "mean") -> Tensor:
        loss = self.loss(found.logits, labels, reduction)
        for auxiliary in found.auxiliary:
            loss = loss + found.auxiliary_weight() * self.loss(auxiliary, labels, reduction)
        return loss

    def loss(self, logits: Tensor, labels: Tensor, reduction: str = "mean") -> Tensor:
        """Return the training loss of a batch: cross entropy with the configured class weights and smoothing."""
        smoothing, weight = self._training.label_smoothing, self._class_weights
        return F.cross_entropy(logits, labels, weight=weight, reduction=reduction, label_smoothing=smoothing)
