"""Which images the steps of an epoch see, and how many steps that are."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from finetui.engine.data import Split, epoch_order, epoch_seeds
from finetui.engine.errors import BadInput
from finetui.engine.protocol.config import TrainingConfig
from finetui.engine.training.class_balance import sampling_weights


class EpochSteps:
    """The steps that train `model` on `data` by the settings `training`: `per_epoch` of them see all images.

    The order of the images depends on the seed and the epoch's number alone. `now` is the number of steps of the epoch
    in progress. Where its batch size was changed, what is left of its images comes in batches of the new size:
    `resized` has the steps and the images before that.
    """

    def __init__(self, model: nn.Module, data: Split, training: TrainingConfig) -> None:
        """Raise `BadInput` where a batch is larger than the data, or too small for the model."""
        size, images = training.batch_size, len(data)
        if size > images:
            raise BadInput(f"training.batch_size (--batch-size): {size} is more than the {images} training images")
        if size == 1 and has_batch_norm(model):
            raise BadInput("training.batch_size (--batch-size): batch normalization needs at least 2 images per step")
        self._model = model
        self._data = data
        self._training = training
        self.per_epoch = steps_per_epoch(model, images, size)
        self.begin_epoch()

    def begin_epoch(self) -> None:
        """Be at the start of an epoch."""
        self.resized, self.now = (0, 0), self.per_epoch

    def go_on(self, state: Mapping[str, Any], *, resized: bool) -> None:
        """Be where the trainer's `state` says; `resized` tells that its batches had another size."""
        before, images = state.get("resized", (0, 0))
        if resized:
            images += (state["position"] - before) * state["settings"]["batch_size"]
            before = state["position"]
        self.begin_epoch()
        if images:
            left = max(len(self._data) - images, 0)
            alone = left == 1 and has_batch_norm(self._model)
            self.resized = before, images
            self.now = before + (0 if alone else steps_per_epoch(self._model, left, self._training.batch_size))

    def left(self, epoch: int, position: int, *, in_progress: bool) -> tuple[Tensor, Tensor | None]:
        """Return the images left of `epoch` from step `position` on, in order, and their seeds if they draw."""
        training, images_in_all = self._training, len(self._data)
        weights = sampling_weights(self._data.labels) if training.sampling == "balanced" else None
        order = epoch_order(images_in_all, training.seed, epoch, weights=weights)
        before, images = self.resized if in_progress and position >= self.resized[0] else (0, 0)
        steps = self.now if images else self.per_epoch
        left = slice(*(images + (step - before) * training.batch_size for step in (position, steps)))
        return order[left], epoch_seeds(images_in_all, training.seed, epoch)[left] if self._data.draws else None


def steps_per_epoch(model: nn.Module, images: int, batch_size: int) -> int:
    """Return the number of steps that see `images` images.

    Batch normalisation cannot train on a single image, so where the model has some, a last batch of one is left out
    (of another image in every epoch).
    """
    full, rest = divmod(images, batch_size)
    return full + (rest > 1 or (rest == 1 and (not has_batch_norm(model) or full == 0)))


def has_batch_norm(model: nn.Module) -> bool:
    """Return whether `model` has batch normalisation, which needs two images a step."""
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())
