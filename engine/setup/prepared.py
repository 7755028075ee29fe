"""What is there before the first step, and what an earlier run began with."""

import platform
from dataclasses import dataclass

import torch
from torch import nn

from finetui.engine.checkpoints import checkpoint
from finetui.engine.data import ImageData, Transform
from finetui.engine.data.recorded_data import RecordedData
from finetui.engine.models import Architecture, ModuleGroup
from finetui.engine.models.device import describe
from finetui.engine.protocol.config import RunConfig, names_a_place, parent_of
from finetui.engine.protocol.description import DataDescription
from finetui.engine.protocol.events import DataSummary, LayerGroup, RunPrepared
from finetui.engine.protocol.values import FastPath
from finetui.engine.training import rules as training_rules
from finetui.engine.training.recipes import Stage
from finetui.engine.version import __version__


@dataclass(frozen=True)
class Prepared:
    """What a session trains, all on `device`. `config` is the one asked for with the model's name filled in.

    `plan` is that of the epochs that the run began with. `dropped` names the tensors of the starting weights that fit
    nowhere. `path` is how its steps are computed, `how` a sentence on why, and `rules` are those of
    `finetui.engine.training.rules`.
    """

    config: RunConfig
    device: torch.device
    data: ImageData
    architecture: Architecture
    transform: Transform
    model: nn.Module
    groups: tuple[ModuleGroup, ...]
    notices: tuple[str, ...]
    plan: tuple[Stage, ...] = ()
    dropped: tuple[str, ...] = ()
    path: FastPath = FastPath()  # noqa: RUF009  # immutable
    how: str = ""
    rules: int = training_rules.CURRENT
    described: DataDescription | None = None

    @property
    def description(self) -> DataDescription | None:
        """What the run saw when it began: a run that goes on keeps what it has."""
        return self.described or self.data.description

    def summary(self) -> DataSummary:
        """Return the data in use as the events show it."""
        data = self.data
        return DataSummary(
            name=data.name,
            requested=data.requested,
            location=data.location,
            classes=data.classes,
            train_size=len(data.train),
            val_size=0 if data.val is None else len(data.val),
            test_size=0 if data.test is None else len(data.test),
            channels=data.channels,
            height=data.height,
            width=data.width,
            input_height=self.architecture.height,
            input_width=self.architecture.width,
            loader=data.loader,
        )

    def device_name(self) -> str:
        """Return the device's name for people."""
        return describe(self.device)

    def event(self, layers: tuple[LayerGroup, ...], steps_per_epoch: int, world: int = 1) -> RunPrepared:
        """Return the event that says what was prepared, for so many processes that train."""
        return RunPrepared(
            config=self.config,
            data=self.summary(),
            layers=layers,
            device=self.device_name(),
            parameters=sum(parameter.numel() for parameter in self.model.parameters()),
            steps_per_epoch=steps_per_epoch,
            notices=self.notices,
            parent=parent_of(self.config),
            versions={
                "finetui": __version__,
                "torch": str(torch.__version__),
                "python": platform.python_version(),
            },
            fast=self.path,
            rules=self.rules,
            description=self.description,
            world=world,
        )

    def about(self, run: str) -> checkpoint.About:
        """Return what a checkpoint of the run `run` says about its weights."""
        return checkpoint.About(
            architecture=self.architecture,
            transform=self.transform,
            classes=self.data.classes,
            data=self.data.requested if names_a_place(self.data.requested) else self.data.name,
            run=run,
            head=", ".join(group.name for group in self.groups if group.head),
            description=self.description,
        )


# From a step on: whether features are used by the setting, or, of these layers, that they cannot be had.
FeatureOrder = tuple[int, bool, tuple[str, ...]]


@dataclass(frozen=True)
class Beginning:
    """What an earlier run began with, for one that is to be the same; `images` it trained on, `transform` if known.

    `features` tells in order what became of them from some step on, apart from what the configuration says.
    """

    path: FastPath
    rules: int
    images: int
    transform: Transform | None
    known: RecordedData | None = None
    features: tuple[FeatureOrder, ...] = ()
