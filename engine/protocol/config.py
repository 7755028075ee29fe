"""What a run is: small frozen sections, each validated where it is declared."""

import math
import os
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from finetui.engine.errors import BadInput
from finetui.engine.protocol.config_checks import (
    check_device,
    check_learning_rate,
    check_run_name,
    require,
    require_known,
)
from finetui.engine.protocol.model_names import hub_of, is_model_name

DATASETS = ("mnist", "fashion-mnist", "mnist-sample")
# Sets that torchvision downloads and reads; `finetui.engine.data` knows how.
TORCHVISION_DATASETS = (
    "cifar10",
    "cifar100",
    "dtd",
    "eurosat",
    "fgvc-aircraft",
    "flowers102",
    "food101",
    "gtsrb",
    "imagenette",
    "kmnist",
    "oxford-iiit-pet",
    "stl10",
    "svhn",
    "usps",
)
RECIPES = ("linear-probe", "lp-ft", "gradual", "full", "fastai")
HEADS = ("auto", "keep", "replace", "features")
OPTIMIZERS = ("sgd", "adamw")
SCHEDULES = ("constant", "step", "cosine", "one-cycle")
CLASS_WEIGHTS = ("none", "balanced")
SAMPLINGS = ("shuffle", "balanced")
BEST_BY = ("accuracy", "loss", "macro-f1", "balanced-accuracy", "top5")
ON_DIVERGENCE = ("stop", "pause", "rollback")
LOADERS = ("auto", "resident", "stream")
AUGMENTATIONS = ("none", "light", "standard")
FAST = ("auto", "on", "off")
PRECISIONS = ("fp32", "bf16")
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos")
COMPILE = ("off", "default", "reduce-overhead")
FEATURES = ("cache", "off")
LOGS = ("tensorboard", "csv", "wandb", "trackio")
# The tutorial's settings; all else is finetui's own recipe, which gets further in a tenth of the time.
ARTICLE = {
    "epochs": 10,
    "batch_size": 64,
    "optimizer": "sgd",
    "lr": 0.001,
    "momentum": 0.9,
    "nesterov": False,
    "weight_decay": 0.0,
    "schedule": "constant",
    "warmup_epochs": 0.0,
    "label_smoothing": 0.0,
}
TRAINING_RECIPES: Mapping[str, Mapping[str, Any]] = {"default": {}, "article": ARTICLE}
_LR_OF = {"sgd": 0.03, "adamw": 0.003}
_NOT_GIVEN: Any = msgspec.UNSET  # never seen outside: the optimizer's own rate takes its place
_MAX_IMAGE_SIZE = 2048


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every section: immutable, named fields only, unknown names refused."""


def is_factory(name: str) -> bool:
    """Whether `name` names a person's own code: `package.module:factory` or `path/to/file.py:factory`."""
    if hub_of(name):
        return False
    where, _, factory = name.rpartition(":")
    return bool(where and factory.isidentifier() and (where.endswith(".py") or "/" not in where))


def names_a_place(data: str) -> bool:
    """Whether `data` names a folder or a person's own code instead of a known data set."""
    # "resnet18" may be a folder, but so may a misspelt name: a folder that is not there yet needs a slash.
    # Not Path.is_dir, which raises for a name that no file can have.
    return is_factory(data) or "/" in data or os.path.isdir(data)  # noqa: PTH112


class DataConfig(_Section, frozen=True, kw_only=True):
    """Which images, and how they are read.

    `name` is that of a data set, the path of an image folder, or `package.module:factory`; `dir` is where to look for
    a named set first. `loader` is `resident` (decoded once, kept on the device), `stream` (read for every epoch by
    `workers` threads or, where it is a person's own code, processes) or `auto` (by size). With `decoded_cache` `auto`
    a folder that is streamed is decoded once, into a cache on disk, if that has the space; `off`: in every epoch.
    Images of a folder are brought to `image_size` pixels a side, 0: chosen by the model and the images. `augment` acts
    on training images only. Symbolic links that lead out of a folder are followed only with `follow_links`. `val` is
    the share of the training images that is held out to choose by, where there are no val images; `test` is `auto`
    (the data's own test images, else a fifth of a folder's) or `none`.
    """

    name: str = "mnist"
    dir: str | None = None
    loader: str = "auto"
    workers: int = 2
    decoded_cache: str = "auto"
    augment: str = "none"
    image_size: int = 0
    follow_links: bool = False
    val: float = 0.0
    test: str = "auto"

    def __post_init__(self) -> None:
        if not names_a_place(self.name):
            known = (*DATASETS, *TORCHVISION_DATASETS)
            require_known(self.name, known, "data.name (--data)", "data set or folder")
        require_known(self.loader, LOADERS, "data.loader (--loader)", "loader")
        require_known(self.augment, AUGMENTATIONS, "data.augment (--augment)", "augmentation")
        require(1 <= self.workers <= 64, "data.workers (--workers)", "from 1 to 64", self.workers)
        require(
            self.decoded_cache in ("auto", "off"),
            "data.decoded_cache (--decoded-cache)",
            "auto or off",
            self.decoded_cache,
        )
        require(0 <= self.val <= 0.5, "data.val (--val)", "a fraction from 0 to 0.5", self.val)
        require(self.test in ("auto", "none"), "data.test (--test)", "auto or none", self.test)
        size_ok = self.image_size == 0 or 8 <= self.image_size <= _MAX_IMAGE_SIZE
        require(size_ok, "data.image_size (--image-size)", f"0 or from 8 to {_MAX_IMAGE_SIZE}", self.image_size)


class ModelConfig(_Section, frozen=True, kw_only=True):
    """Which network: `name` of an architecture (`lenet`, one of torchvision's, `timm:NAME`, `hf:ORG/NAME`,
    `hf:./folder` or `package.module:factory`), and the `weights` that it starts with: `none`, `default` (the published
    ones) or the path of a state dict.

    The rest is the input that these need, where it is not to be what they say, or the data's own: `mean` and `std` of
    each channel (or one for all), of pixels in [0, 1]; the shorter side is scaled to `resize` pixels with the filter
    `interpolation`, and the middle `crop` x `crop` is cut out (0 and empty: not given).
    """

    name: str = "lenet"
    weights: str = "none"
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    resize: int = 0
    crop: int = 0
    interpolation: str = ""

    def __post_init__(self) -> None:
        # Whether torchvision has a network of this name, only torchvision can tell.
        known = is_factory(self.name) or is_model_name(self.name)
        what = "the name of a model, timm:NAME, hf:ORG/NAME or package.module:factory"
        require(known, "model.name (--model)", what, self.name)
        require(bool(self.weights), "model.weights (--weights)", "none, default or a file", self.weights)
        for field, values in (("mean", self.mean), ("std", self.std)):
            where = f"model.{field} (--{field})"
            require(len(values) in (0, 1, 3) and all(map(math.isfinite, values)), where, "1 or 3 numbers", values)
        if len(self.mean) != len(self.std):
            raise BadInput("--mean and --std (model.mean and std) must be given together, as many numbers each")
        require(all(0 <= mean <= 1 for mean in self.mean), "model.mean (--mean)", "of pixels from 0 to 1", self.mean)
        require(all(0 < std <= 1 for std in self.std), "model.std (--std)", "above 0 and at most 1", self.std)
        for field, side in (("resize", self.resize), ("crop", self.crop)):
            side_ok = side == 0 or 8 <= side <= _MAX_IMAGE_SIZE
            require(side_ok, f"model.{field} (--{field})", f"0 or from 8 to {_MAX_IMAGE_SIZE}", side)
        crop_ok = not self.resize or self.crop <= self.resize
        require(crop_ok, "model.crop (--crop)", f"at most --resize, {self.resize}", self.crop)
        if self.interpolation:
            require_known(self.interpolation, INTERPOLATIONS, "model.interpolation (--interpolation)", "filter")


class TrainingConfig(_Section, frozen=True, kw_only=True):
    """How it is trained, on the cross entropy.

    The defaults are one cycle (Smith and Topin, "Super-convergence", 2018) of 4 epochs with AdamW. `lr` is the base
    learning rate: of `one-cycle`, the highest; of the others, the first; where it is not given, 0.003 for `adamw`
    and 0.03 for `sgd`. `weight_decay` is never applied to biases and one-dimensional tensors. `step` multiplies the
    rate by `step_factor` every `step_epochs` epochs (0: a third of them); `warmup_epochs` of linear warm-up come
    before any schedule. `class_weights` and `sampling` are `balanced` for data whose classes differ in size.
    `frozen_norm_trains` lets the normalisation layers of frozen layers go on collecting statistics.
    `thaw_warmup_steps` is the length, at most an epoch, of the linear warm-up of a layer that is unfrozen while
    training. Each layer group has `layer_decay` times the learning rate of the one above it (see
    `finetui.engine.training.layer_decay`).
    `device` is `auto` (CUDA, else MPS, else CPU), `cpu`, `cuda`, `cuda:N` or `mps`. `fast` says how the
    same mathematics is computed: `off` by the plain loop, `on` with channels-last memory and a fused optimizer,
    `auto` with that of it which pays for the network, by rule. `precision` is `fp32`, or `bf16` for mixed
    precision. `compile` is `off` or a mode of `torch.compile` for the steps: `default`, `reduce-overhead`
    (CUDA graphs). `features` is `cache` (what the frozen first layers make of an image is computed once) or `off`.
    `processes` train together on each node, one a device, and divide every batch among them; `sync_bn` lets their
    batch normalisation use the statistics of the whole batch. A batch is computed in `accumulate` parts, one after the
    other, whose gradients add up: it takes that much less memory.
    """

    epochs: int = 4
    batch_size: int = 128
    lr: float = _NOT_GIVEN
    optimizer: str = "adamw"
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 5e-4
    schedule: str = "one-cycle"
    step_epochs: int = 0
    step_factor: float = 0.1
    warmup_epochs: float = 0.0
    label_smoothing: float = 0.0
    class_weights: str = "none"
    sampling: str = "shuffle"
    frozen_norm_trains: bool = False
    seed: int = 0
    device: str = "auto"
    thaw_warmup_steps: int = 100
    fast: str = "auto"
    precision: str = "fp32"
    compile: str = "off"
    features: str = "cache"
    processes: int = 1
    sync_bn: bool = False
    accumulate: int = 1
    layer_decay: float = 1.0

    def __post_init__(self) -> None:
        at_least_1 = "a whole number of at least 1"
        require(self.epochs >= 1, "training.epochs (--epochs)", at_least_1, self.epochs)
        require(self.batch_size >= 1, "training.batch_size (--batch-size)", at_least_1, self.batch_size)
        require_known(self.optimizer, OPTIMIZERS, "training.optimizer (--optimizer)", "optimizer")
        if self.lr is _NOT_GIVEN:
            msgspec.structs.force_setattr(self, "lr", _LR_OF[self.optimizer])
        check_learning_rate(self.lr, "training.lr (--lr)")
        require(0 <= self.momentum < 1, "training.momentum (--momentum)", "at least 0 and below 1", self.momentum)
        decay_ok = math.isfinite(self.weight_decay) and self.weight_decay >= 0
        require(decay_ok, "training.weight_decay", "a number of at least 0", self.weight_decay)
        nesterov_ok = not self.nesterov or (self.optimizer == "sgd" and self.momentum > 0)
        require(nesterov_ok, "training.nesterov (--nesterov)", "off unless SGD has a momentum", self.nesterov)
        require_known(self.schedule, SCHEDULES, "training.schedule (--schedule)", "schedule")
        require(self.step_epochs >= 0, "training.step_epochs", "at least 0", self.step_epochs)
        require(0 < self.step_factor <= 1, "training.step_factor", "above 0 and at most 1", self.step_factor)
        warm_ok = 0 <= self.warmup_epochs < self.epochs
        require(warm_ok, "training.warmup_epochs (--warmup-epochs)", "at least 0, below epochs", self.warmup_epochs)
        smooth_ok = 0 <= self.label_smoothing < 1
        require(smooth_ok, "training.label_smoothing (--label-smoothing)", "at least 0, below 1", self.label_smoothing)
        require_known(self.class_weights, CLASS_WEIGHTS, "training.class_weights (--class-weights)", "choice")
        require_known(self.sampling, SAMPLINGS, "training.sampling (--sampling)", "choice")
        require(0 <= self.seed < 2**63, "training.seed (--seed)", "a whole number from 0 to 2^63 - 1", self.seed)
        check_device(self.device)
        for name, known in ("fast", FAST), ("precision", PRECISIONS), ("compile", COMPILE), ("features", FEATURES):
            require_known(getattr(self, name), known, f"training.{name} (--{name})", "choice")
        require(1 <= self.processes <= 1024, "training.processes (--nproc)", "from 1 to 1024", self.processes)
        parts_ok = 1 <= self.accumulate <= self.batch_size
        at_most = f"from 1 to the batch size, {self.batch_size}"
        require(parts_ok, "training.accumulate (--accumulate)", at_most, self.accumulate)
        require(self.thaw_warmup_steps >= 0, "training.thaw_warmup_steps", "at least 0", self.thaw_warmup_steps)
        decay_ok = 0 < self.layer_decay <= 1
        require(decay_ok, "training.layer_decay (--layer-decay)", "above 0 and at most 1", self.layer_decay)


class CheckpointsConfig(_Section, frozen=True, kw_only=True):
    """When a checkpoint is written besides the end of each epoch: after so many steps or minutes (0: not for that).

    What is written by the minute takes at most a hundredth of the time; by the step it is written as often as that.
    `best_by` is the figure of an evaluation by which the best checkpoint is chosen: `loss` the lowest, all others the
    highest.
    """

    every_steps: int = 0
    every_minutes: float = 5.0
    best_by: str = "accuracy"

    def __post_init__(self) -> None:
        require(self.every_steps >= 0, "checkpoints.every_steps (--save-steps)", "at least 0", self.every_steps)
        minutes_ok = math.isfinite(self.every_minutes) and self.every_minutes >= 0
        require_known(self.best_by, BEST_BY, "checkpoints.best_by (--best-by)", "figure")
        require(minutes_ok, "checkpoints.every_minutes (--save-minutes)", "at least 0", self.every_minutes)


class GuardsConfig(_Section, frozen=True, kw_only=True):
    """What is done about a training that goes wrong.

    On a loss that is NaN, infinite, or `explode_factor` times as high as both guessing and the run's first loss (0:
    never taken for that; a linear probe may come down from thousands), the run is stopped, or goes back to its last
    checkpoint and is paused there, or goes on from there with `rollback_factor` times the learning rate, at most
    `rollbacks` times in a row. An alert is raised when the loss did not improve over `plateau_evaluations` evaluations,
    or rose over `overfit_evaluations` while the training loss fell (0: no such alert). After `early_stop` epochs in a
    row that did not improve `checkpoints.best_by` the run is finished (0: never).
    """

    on_divergence: str = "stop"
    explode_factor: float = 1e6
    rollback_factor: float = 0.1
    rollbacks: int = 3
    plateau_evaluations: int = 5
    overfit_evaluations: int = 3
    early_stop: int = 0

    def __post_init__(self) -> None:
        require_known(self.on_divergence, ON_DIVERGENCE, "guards.on_divergence (--on-divergence)", "choice")
        explode_ok = self.explode_factor == 0 or 1 < self.explode_factor < math.inf
        require(explode_ok, "guards.explode_factor", "0 or above 1", self.explode_factor)
        require(0 < self.rollback_factor <= 1, "guards.rollback_factor", "above 0, at most 1", self.rollback_factor)
        require(self.early_stop >= 0, "guards.early_stop (--early-stop)", "at least 0", self.early_stop)
        for name in ("rollbacks", "plateau_evaluations", "overfit_evaluations"):
            require(getattr(self, name) >= 0, f"guards.{name}", "at least 0", getattr(self, name))


class RunSection(_Section, frozen=True, kw_only=True):
    """Where it is kept: `name` of the run (empty: date, data and model), and the folder of all runs.

    An engine with nothing to do, which nobody watches, waits `linger_minutes` for somebody to come back. A paused run
    is then saved and stopped. `log` are the tools that it is written into besides, of `LOGS`.
    """

    name: str = ""
    runs_dir: str = "checkpoints"
    linger_minutes: float = 10.0
    log: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.name:
            check_run_name(self.name)
        linger_ok = math.isfinite(self.linger_minutes) and self.linger_minutes >= 0
        require(linger_ok, "run.linger_minutes (--linger)", "a number of minutes of at least 0", self.linger_minutes)
        for name in self.log:
            require_known(name, LOGS, "run.log (--log)", "log")
        require(len(set(self.log)) == len(self.log), "run.log (--log)", "no log twice", ", ".join(self.log))


class FinetuneConfig(_Section, frozen=True, kw_only=True):
    """What a finetuning run starts from, and how.

    `parent` is the checkpoint file whose weights are used, `parent_run` the name of its run. `recipe` is a name of
    `finetui.engine.training.recipes`. `head` is `keep`, `replace` (a new last layer), `features` (a new linear layer on
    the flattened convolutional features) or `auto`: `features` for `linear-probe` where the model has them, else `keep`
    where the classes are the same, else `replace`. The layer groups or layers named in `freeze` stay frozen
    throughout.
    """

    parent: str
    parent_run: str = ""
    recipe: str = "lp-ft"
    head: str = "auto"
    freeze: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require_known(self.recipe, RECIPES, "finetune.recipe (--recipe)", "recipe")
        require_known(self.head, HEADS, "finetune.head (--head)", "head")


class BranchConfig(_Section, frozen=True, kw_only=True):
    """Where a branch begins: the checkpoint file `parent`, a whole training state, of the run `parent_run`."""

    parent: str
    parent_run: str = ""


class RunConfig(_Section, frozen=True, kw_only=True):
    """Everything that decides what a run does.

    `finetune` is None for a training from scratch, `branch` for one that begins at its own step 0.
    """

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    run: RunSection = RunSection()
    finetune: FinetuneConfig | None = None
    checkpoints: CheckpointsConfig = CheckpointsConfig()
    guards: GuardsConfig = GuardsConfig()
    branch: BranchConfig | None = None

    def __post_init__(self) -> None:
        if self.training.layer_decay != 1 and self.finetune is not None and self.finetune.recipe == "fastai":
            raise BadInput("training.layer_decay (--layer-decay): the recipe fastai sets its own rate for every layer")


def parent_of(config: RunConfig) -> str | None:
    """Return the name of the run that `config` starts from (or the checkpoint file, of no run); None for none."""
    start = config.branch or config.finetune
    return (start.parent_run or start.parent) if start is not None else None


SectionName = Literal["data", "model", "training", "run", "finetune", "checkpoints", "guards", "branch"]


def with_overrides(config: RunConfig, overrides: Mapping[tuple[SectionName, str], Any]) -> RunConfig:
    """Return `config` with each `(section, field)` replaced; values that are None leave the field as it is.

    A learning rate that is its optimizer's default follows the optimizer. Raises `BadInput` when a value is not valid.
    """
    changes: dict[str, dict[str, Any]] = {}
    for (section, field), value in overrides.items():
        if value is not None:
            changes.setdefault(section, {})[field] = value
    training = changes.get("training", {})
    if "optimizer" in training and config.training.lr == _LR_OF[config.training.optimizer]:
        training.setdefault("lr", _NOT_GIVEN)
    sections = {name: msgspec.structs.replace(getattr(config, name), **fields) for name, fields in changes.items()}
    return msgspec.structs.replace(config, **sections)
