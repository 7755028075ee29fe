"""Checkpoints of a watched loop: by the person's own function, or the state dicts of network and optimizers."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from finetui.engine.checkpoints import checkpoint
from finetui.engine.data.transform import Transform
from finetui.engine.errors import BadInput, FinetuiError, describe, reason_of
from finetui.engine.models import Architecture
from finetui.engine.models.device import preserved_rng
from finetui.engine.protocol.events import CheckpointSaved
from finetui.engine.protocol.values import KeptCheckpoint
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.kept_checkpoints import LAST
from finetui.engine.watching.optimizers import Optimizers
from finetui.engine.watching.run_description import code_name


def device_of(model: nn.Module | None) -> torch.device:
    """Return the device that the first parameter of `model` is on."""
    parameter = next(model.parameters(), None) if model is not None else None
    return parameter.device if parameter is not None else torch.device("cpu")


@contextmanager
def undisturbed(model: nn.Module | None, what: str) -> Iterator[None]:
    """Put modes and random numbers back after code of the person's that the loop has not asked for.

    Raises `BadInput`, that `what` has failed, for whatever it raises.
    """
    modes = {module: module.training for module in model.modules()} if model is not None else {}
    pythons, numpys = random.getstate(), np.random.get_state()  # what the loop may draw from
    with preserved_rng(device_of(model)):
        try:
            yield
        except BadInput:
            raise
        except Exception as error:
            raise BadInput(f"{what} failed: {describe(error)}") from error
        finally:
            random.setstate(pythons)
            np.random.set_state(numpys)
            for module, training in modes.items():
                module.training = training


class Saver:
    """Writes checkpoints into a run's `folder`: `own(path)` does, or they are of `model` and `optimizers`.

    `wrapped` is the model as it was given; `has_all` tells that this process has all of its numbers.
    """

    def __init__(
        self,
        own: Callable[[Path], Any] | None,
        model: nn.Module | None,
        wrapped: nn.Module | None,
        optimizers: Optimizers,
        folder: RunFolder,
        has_all: bool = True,
    ) -> None:
        self._has_all, self._wrapped = has_all, wrapped
        self._own, self._model, self._optimizers, self._folder = own, model, optimizers, folder
        self._kept: dict[str, KeptCheckpoint] = {}

    @property
    def can_save(self) -> bool:
        """Whether there is anything to save."""
        return self._own is not None or (self._model is not None and self._has_all)

    def save(
        self, name: str, *, step: int, epoch: int, at: int, classes: tuple[str, ...], shape: tuple[int, ...], data: str
    ) -> CheckpointSaved | None:
        """Write the checkpoint `name`, empty: the last; None where the person's own function has written no such file.

        `at` is the number of the event that is returned. Raises `BadInput` where it cannot be written.
        """
        name = name or LAST
        if self._own is not None:
            path = self._folder.path / f"{name}.pt"
            with undisturbed(self._wrapped, "your save function"):
                self._own(path)
        else:
            path = self._folder.checkpoint(name)
            self._write(path, {"step": step, "epoch": epoch, "at": at + 1}, classes, shape, data)
        if not path.is_file():
            return None
        self._kept[name] = KeptCheckpoint(name=name, file=path.name, step=step, epoch=epoch, at=at + 1)
        return CheckpointSaved(file=path.name, at=at + 1, kept=tuple(self._kept.values()))

    def _write(
        self, path: Path, training: dict[str, Any], classes: tuple[str, ...], shape: tuple[int, ...], data: str
    ) -> None:
        assert self._model is not None, "a loop without a model and a function of its own cannot be saved"
        channels, height, width = shape if len(shape) == 3 else (1, 0, 0)
        architecture = Architecture(
            name=code_name(type(self._model)),
            num_classes=len(classes),
            in_channels=channels,
            height=height,
            width=width,
        )
        # What the loop does to its images is its own: the network is given them as they come.
        about = checkpoint.About(
            architecture=architecture,
            transform=Transform(mean=(0.0,) * channels, std=(1.0,) * channels),
            classes=classes,
            data=data,
            run=self._folder.name,
        )
        state = {"optimizers": [optimizer.state_dict() for optimizer in self._optimizers.there]}
        try:
            checkpoint.save(path, about, self._model.state_dict(), training | state)
        except OSError as error:
            raise BadInput(f"the checkpoint could not be written: {reason_of(error)}") from error
        except (FinetuiError, TypeError) as error:
            raise BadInput(f"{error}; pass finetui.watch your own save function") from error
