"""The options that describe a run, shared by the commands that start one."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Group, Parameter, Token

from finetui.engine.errors import BadInput
from finetui.engine.loggers.available import check_loggers
from finetui.engine.protocol import config as known
from finetui.engine.protocol.config import TRAINING_RECIPES, RunConfig, SectionName, TrainingConfig, with_overrides
from finetui.engine.protocol.config_file import load
from finetui.engine.protocol.requests import BareWeights, ClassesBy
from finetui.engine.runs.begun_runs import begun_run
from finetui.engine.runs.folder import check_runs_dir
from finetui.engine.text import clean
from finetui.tui.cli.complete import checkpoints, files_or, folders_or, models, one_of, runs
from finetui.tui.cli.process_count import process_count_settings


def _whole(_type: type, tokens: Sequence[Token]) -> int:
    # cyclopts itself would round 1.5 to 2.
    if not re.fullmatch(r"[+-]?\d+", tokens[0].value):
        raise ValueError(f"{clean(tokens[0].value, 60)!r} is not a whole number")
    return int(tokens[0].value)


_IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def channel_values(text: str | None, option: Literal["mean", "std"]) -> tuple[float, ...] | None:
    """Return the numbers, one for each channel, that are given as `--mean` or `--std`. Raises `BadInput`."""
    if text is None:
        return None
    if text.strip().lower() == "imagenet":
        return _IMAGENET[option]
    try:
        return tuple(float(number) for number in text.split(","))
    except ValueError as error:
        raise BadInput(
            f"--{option}: give 1 or 3 numbers with commas between them, or imagenet, not {text!r}"
        ) from error


_WEIGHTS = Parameter(group=Group("Bare state dict", sort_key=9))
WholeNumber = Annotated[int, Parameter(converter=_whole)]

TrainingRecipe = Annotated[
    Literal["default", "article"],
    Parameter(
        help="How to train: default (one cycle), or article, the tutorial's settings (SGD, constant rate 0.001)."
    ),
]

NotifyBy = Annotated[
    Literal["off", "bell", "osc9"],
    Parameter(help="Announce alerts and the end of the run by the terminal's bell or a notification (default: off)."),
]

Images = Annotated[
    Literal["auto", "blocks", "ascii", "sixel", "kitty"],
    Parameter(help="How images are drawn: half blocks, ASCII, Sixel or Kitty graphics (default: as the terminal can)."),
]
PrintedImages = Annotated[
    Literal["auto", "blocks", "ascii", "sixel", "kitty", "none"],
    Parameter(help="How images are drawn (default: as the terminal can), or none."),
]

Run = Annotated[str, Parameter(help="The run: its name or its folder.", completer=runs)]
RunAt = Annotated[
    str,
    Parameter(help="The run: its name or its folder; RUN:CHECKPOINT names a checkpoint of it.", completer=checkpoints),
]
Checkpoint = Annotated[
    str,
    Parameter(
        name="RUN",
        help="A run (its name or folder: its best checkpoint is used), RUN:CHECKPOINT (such as mnist1:last), or a "
        "checkpoint file.",
        completer=checkpoints,
    ),
]
# How earlier versions named a checkpoint, and scripts still do.
EarlierCheckpoint = Annotated[str, Parameter(name="--checkpoint", show=False)]


def one_checkpoint(named: str, option: str) -> str:
    """Return the checkpoint that RUN:CHECKPOINT `named`, or `option`; empty: neither did. Raises `BadInput`."""
    if named and option and named != option:
        raise BadInput(f"RUN names the checkpoint {named}, and {option} is another one; leave one of them out")
    return named or option


RunsDir = Annotated[Path, Parameter(help="Folder that holds the runs (default: checkpoints).", completer=folders_or())]
AnyPart = Annotated[
    Literal["train", "val", "test"] | None,
    Parameter(help="Which images: train, val or test (default: test, else val)."),
]
DataDir = Annotated[Path | None, Parameter(help="Folder to look in first for the data (default: $FINETUI_DATA).")]
ClassesByOption = Annotated[
    ClassesBy,
    Parameter(
        name="--classes-by",
        help="How the data's classes are matched to the network's: by name (default) or by position.",
    ),
]
Device = Annotated[str, Parameter(help="auto, cpu, cuda, cuda:N or mps (default: auto).")]
_OWN_CODE = "Needed only for a checkpoint of your own code: package.module:factory or file.py:factory (runs that code)"
CheckpointModel = Annotated[str, Parameter(help=f"{_OWN_CODE}.")]
AnyCheckpointModel = Annotated[
    str, Parameter(help=f"{_OWN_CODE}; for bare weights the name of the network, such as resnet18.")
]
OwnModel = Annotated[
    str | None, Parameter(help="Needed only for a network of your own code: module:factory or file.py:factory.")
]
OwnData = Annotated[
    str | None, Parameter(help="Needed only for data of your own code: module:factory or file.py:factory.")
]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class WeightsOptions:
    """What a bare state dict (a FILE with --model) does not say."""

    classes: Annotated[str | None, _WEIGHTS] = None
    "Class names in order, separated by commas (default: those of the data, or numbers)."
    mean: Annotated[str | None, _WEIGHTS] = None
    "Mean of each channel of pixels in [0, 1]: 0.5 or 0.485,0.456,0.406, or imagenet (default: from the file)."
    std: Annotated[str | None, _WEIGHTS] = None
    "Standard deviation of each channel: 0.5 or 0.229,0.224,0.225, or imagenet (default: from the file)."
    resize: Annotated[WholeNumber | None, _WEIGHTS] = None
    "Pixels to scale the shorter side to, before the center crop."
    crop: Annotated[WholeNumber | None, _WEIGHTS] = None
    "Side in pixels of the center crop, the network's input (default: from the file, or 224)."
    interpolation: Annotated[str | None, _WEIGHTS] = None
    "Filter for scaling images: nearest, bilinear, bicubic or lanczos."

    def given(self) -> BareWeights:
        """Return what these options say. Raises `BadInput`."""
        return BareWeights(
            classes=tuple(name.strip() for name in self.classes.split(",")) if self.classes else (),
            mean=channel_values(self.mean, "mean") or (),
            std=channel_values(self.std, "std") or (),
            resize=self.resize or 0,
            crop=self.crop or 0,
            interpolation=self.interpolation or "",
        )


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class RunMode:
    """How a run that a command starts is trained, and how it is looked at; `BadInput` unless it is one mode."""

    dashboard: bool = False
    "Open the dashboard on it."
    detach: bool = False
    "Train in a process of its own, and return once it has begun."
    json: bool = False
    "Print the journal's events to standard output, one JSON object per line, and nothing else."
    images: Images = "auto"
    notify: NotifyBy = "off"

    def __post_init__(self) -> None:
        given = [f"--{name}" for name in ("dashboard", "json", "detach") if getattr(self, name)]
        if len(given) > 1:
            hint = "" if self.dashboard else "; `finetui log RUN --json` prints what happens later"
            raise BadInput(f"{' and '.join(given)}: choose one of them{hint}")


def _known(*values: str) -> Parameter:
    return Parameter(completer=one_of(*values))


_DATA = Parameter(group=Group("Data", sort_key=1))
_MODEL = Parameter(group=Group("Model", sort_key=2))
_TRAINING = Parameter(group=Group("Training", sort_key=3))
_RUN = Parameter(group=Group("Run", sort_key=4))
_SAFETY = Parameter(group=Group("Safety", sort_key=5))


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """The options that describe a run; what is not given comes from --config, then from the defaults."""

    data: Annotated[
        str | None, Parameter(completer=folders_or(*known.DATASETS, *known.TORCHVISION_DATASETS)), _DATA
    ] = None
    (
        "mnist (default), fashion-mnist, mnist-sample, a torchvision dataset (cifar10, ...), an image folder, or "
        "module:factory (runs that code)."
    )
    data_dir: Annotated[str | None, Parameter(completer=folders_or()), _DATA] = None
    "Folder to look in first for a named data set (default: $FINETUI_DATA)."
    val: Annotated[float | None, _DATA] = None
    "Fraction of the training images to hold out and validate on, instead of the test images (default: 0; often 0.1)."
    test: Annotated[str | None, _known("auto", "none"), _DATA] = None
    "auto (default: the data's own test images, else a fifth of a folder's) or none."
    augment: Annotated[str | None, _known(*known.AUGMENTATIONS), _DATA] = None
    "Augmentation of the training images: none (default), light or standard."
    image_size: Annotated[WholeNumber | None, _DATA] = None
    "Side in pixels to resize the images of a folder to (default: by model and images)."
    loader: Annotated[str | None, _known(*known.LOADERS), _DATA] = None
    "resident (decoded once, kept in memory), stream, or auto (default: by size)."
    workers: Annotated[WholeNumber | None, _DATA] = None
    "Threads that decode images when streaming, or processes that run your own dataset (default: 2)."
    decoded_cache: Annotated[str | None, _known("auto", "off"), _DATA] = None
    "auto (default: a folder that is streamed is decoded once, into a cache on disk) or off."
    follow_links: Annotated[bool | None, _DATA] = None
    "Follow symbolic links that lead out of an image folder."
    model: Annotated[str | None, Parameter(completer=models), _MODEL] = None
    (
        "lenet (default), any torchvision classification model (resnet18, ...), timm:NAME, hf:ORG/NAME or "
        "hf:./folder of the Hugging Face hub, or module:factory, file.py:factory (runs that code)."
    )
    weights: Annotated[str | None, Parameter(completer=files_or("none", "default")), _MODEL] = None
    "none (default), default (the published ones) or a file with a state dict."
    mean: Annotated[str | None, _MODEL] = None
    "Mean of each channel of pixels in [0, 1] that the weights need: 0.5 or 0.485,0.456,0.406, or imagenet."
    std: Annotated[str | None, _MODEL] = None
    "Standard deviation of each channel that the weights need: 0.5 or 0.229,0.224,0.225, or imagenet."
    resize: Annotated[WholeNumber | None, _MODEL] = None
    "Pixels to scale the shorter side to, before the center crop (default: from the weights)."
    crop: Annotated[WholeNumber | None, _MODEL] = None
    "Side in pixels of the center crop, the network's input (default: from the weights)."
    interpolation: Annotated[str | None, _known(*known.INTERPOLATIONS), _MODEL] = None
    "Filter for scaling images: nearest, bilinear, bicubic or lanczos (default: from the weights)."
    epochs: Annotated[WholeNumber | None, _TRAINING] = None
    "Number of epochs (default: 4)."
    batch_size: Annotated[WholeNumber | None, _TRAINING] = None
    "Images per step (default: 128)."
    lr: Annotated[float | None, _TRAINING] = None
    "Learning rate, the peak for one-cycle (default: 0.003 for adamw, 0.03 for sgd)."
    optimizer: Annotated[str | None, _known(*known.OPTIMIZERS), _TRAINING] = None
    "adamw (default) or sgd."
    momentum: Annotated[float | None, _TRAINING] = None
    "Momentum of SGD (default: 0.9)."
    nesterov: Annotated[bool | None, _TRAINING] = None
    "Nesterov momentum."
    weight_decay: Annotated[float | None, _TRAINING] = None
    "Weight decay, not applied to biases and normalization (default: 0.0005)."
    layer_decay: Annotated[float | None, _TRAINING] = None
    "Learning rate of each layer group as a fraction of that of the group above, such as 0.75 (default: 1, all equal)."
    schedule: Annotated[str | None, _known(*known.SCHEDULES), _TRAINING] = None
    "one-cycle (default), constant, step or cosine."
    warmup_epochs: Annotated[float | None, _TRAINING] = None
    "Epochs of linear warm-up before the schedule (default: 0)."
    label_smoothing: Annotated[float | None, _TRAINING] = None
    "Label smoothing (default: 0)."
    class_weights: Annotated[str | None, _known(*known.CLASS_WEIGHTS), _TRAINING] = None
    "none (default) or balanced: rare classes weigh more in the loss."
    sampling: Annotated[str | None, _known(*known.SAMPLINGS), _TRAINING] = None
    "shuffle (default) or balanced: rare classes are drawn more often."
    frozen_norm_trains: Annotated[bool | None, _TRAINING] = None
    "Normalization layers among the frozen layers keep updating their running statistics."
    seed: Annotated[WholeNumber | None, _TRAINING] = None
    "Seed of the weights and of the data order (default: 0)."
    fast: Annotated[str | None, _known(*known.FAST), _TRAINING] = None
    "How steps are computed: auto (default: chosen by rule), on, or off (the plain loop)."
    precision: Annotated[str | None, _known(*known.PRECISIONS), _TRAINING] = None
    "fp32 (default), or bf16: mixed precision, with different digits, faster on some processors."
    compile: Annotated[str | None, _known(*known.COMPILE), _TRAINING] = None
    "off (default), or a mode of torch.compile for training steps: default or reduce-overhead (CUDA graphs)."
    features: Annotated[str | None, _known(*known.FEATURES), _TRAINING] = None
    "Outputs of frozen layers: cache (default: computed once, and kept) or off."
    device: Annotated[str | None, _known("auto", "cpu", "cuda", "mps"), _TRAINING] = None
    "auto, cpu, cuda, cuda:N or mps (default: auto)."
    gpus: Annotated[str | None, _known("all"), _TRAINING] = None
    "Train on this many GPUs of this machine together, or on all; each batch is split among them (default: one)."
    nproc: Annotated[WholeNumber | None, _TRAINING] = None
    "Train in this many processes on this machine together, for example on the CPU (default: 1)."
    sync_bn: Annotated[bool | None, _TRAINING] = None
    "Batch normalization computes its statistics over the images of all GPUs together."
    accumulate: Annotated[WholeNumber | None, _TRAINING] = None
    "Compute each batch in this many parts, one after another: less memory, the same step (default: 1)."
    save_steps: Annotated[WholeNumber | None, _SAFETY] = None
    "Write a checkpoint every N steps (default: 0, only at the end of each epoch and by --save-minutes)."
    best_by: Annotated[str | None, _known(*known.BEST_BY), _SAFETY] = None
    "Metric that chooses the best checkpoint: accuracy (default), loss, macro-f1, balanced-accuracy or top5."
    early_stop: Annotated[WholeNumber | None, _SAFETY] = None
    "Finish after this many epochs in a row without improvement, by --best-by (default: 0, never)."
    save_minutes: Annotated[float | None, _SAFETY] = None
    "Write a checkpoint every N minutes (default: 5; 0: never)."
    on_divergence: Annotated[str | None, _known(*known.ON_DIVERGENCE), _SAFETY] = None
    "What to do if the loss is not finite or explodes: stop (default), pause, or rollback with a lower rate."
    linger: Annotated[float | None, _SAFETY] = None
    "Minutes that an idle engine waits for somebody to connect (default: 10)."
    name: Annotated[str | None, _RUN] = None
    "Name of the run (default: date, data and model)."
    runs_dir: Annotated[str | None, Parameter(completer=folders_or()), _RUN] = None
    "Folder that holds the runs (default: checkpoints)."
    log: Annotated[list[str] | None, Parameter(negative=(), completer=one_of(*known.LOGS)), _RUN] = None
    "Also log the run to tensorboard, csv, wandb or trackio; may be given several times (default: none)."
    config: Annotated[Path | None, _RUN] = None
    "TOML file with any of these settings, as in a run's config.toml."

    def to_config(self, base: RunConfig | None = None, recipe: TrainingRecipe = "default") -> RunConfig:
        """Return the configuration that these options describe, over --config, else over `base`.

        The settings of `recipe` come between the two. Raises `BadInput`.
        """
        if self.config is not None:
            base = load(self.config)
        base = with_overrides(
            base or RunConfig(), {("training", name): value for name, value in TRAINING_RECIPES[recipe].items()}
        )
        overrides: dict[tuple[SectionName, str], object] = {
            ("data", "name"): self.data,
            ("data", "dir"): self.data_dir,
            ("run", "name"): self.name,
            ("run", "runs_dir"): self.runs_dir,
            ("run", "linger_minutes"): self.linger,
            ("run", "log"): tuple(dict.fromkeys(self.log)) if self.log else None,
            ("checkpoints", "every_steps"): self.save_steps,
            ("checkpoints", "every_minutes"): self.save_minutes,
            ("checkpoints", "best_by"): self.best_by,
            ("guards", "on_divergence"): self.on_divergence,
            ("guards", "early_stop"): self.early_stop,
            ("model", "name"): self.model,
            ("model", "weights"): self.weights,
            ("model", "mean"): channel_values(self.mean, "mean"),
            ("model", "std"): channel_values(self.std, "std"),
            ("model", "resize"): self.resize,
            ("model", "crop"): self.crop,
            ("model", "interpolation"): self.interpolation,
        }
        for field in ("val", "test", "augment", "image_size", "loader", "workers", "decoded_cache", "follow_links"):
            overrides["data", field] = getattr(self, field)
        for field in TrainingConfig.__struct_fields__:
            if hasattr(self, field):
                overrides["training", field] = getattr(self, field)
        overrides |= process_count_settings(self.gpus, self.nproc, self.device)
        config = with_overrides(base, overrides)
        check_loggers(config.run.log)
        check_runs_dir(Path(config.run.runs_dir))
        taken = config.run.name and (Path(config.run.runs_dir) / config.run.name).exists()
        if taken and begun_run(config) is None:
            raise BadInput(f"a run named {config.run.name!r} exists in {config.run.runs_dir}; choose another --name")
        return config


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ChangedSettings:
    """What a run that goes on is trained by from there on; what is not given stays."""

    epochs: Annotated[WholeNumber | None, _TRAINING] = None
    "Total number of epochs."
    batch_size: Annotated[WholeNumber | None, _TRAINING] = None
    "Images per step, also for the rest of an epoch that has begun."
    lr: Annotated[float | None, _TRAINING] = None
    "Learning rate, the peak for one-cycle; replaces one that was set by hand."
    optimizer: Annotated[str | None, _known(*known.OPTIMIZERS), _TRAINING] = None
    "adamw or sgd; a different one starts with fresh state."
    momentum: Annotated[float | None, _TRAINING] = None
    "Momentum of SGD."
    weight_decay: Annotated[float | None, _TRAINING] = None
    "Weight decay, not applied to biases and normalization."
    schedule: Annotated[str | None, _known(*known.SCHEDULES), _TRAINING] = None
    "one-cycle, constant, step or cosine: the schedule of the whole run, from its current step on."
    label_smoothing: Annotated[float | None, _TRAINING] = None
    "Label smoothing."
    class_weights: Annotated[str | None, _known(*known.CLASS_WEIGHTS), _TRAINING] = None
    "none or balanced."
    sampling: Annotated[str | None, _known(*known.SAMPLINGS), _TRAINING] = None
    "shuffle or balanced."
    gpus: Annotated[str | None, _known("all"), _TRAINING] = None
    "Continue on this many GPUs of this machine together, or on all (default: as many processes as before)."
    nproc: Annotated[WholeNumber | None, _TRAINING] = None
    "Continue in this many processes on this machine together."
    early_stop: Annotated[WholeNumber | None, _SAFETY] = None
    "Finish after this many epochs in a row without improvement; 0: never."
    loader: Annotated[str | None, _known(*known.LOADERS), _DATA] = None
    "resident (decoded once, kept in memory), stream, or auto: the same images."
    workers: Annotated[WholeNumber | None, _DATA] = None
    "Threads that decode images when streaming, or processes that run your own dataset."
    save_steps: Annotated[WholeNumber | None, _SAFETY] = None
    "Write a checkpoint every N steps; 0: off."

    def changes(self) -> dict[tuple[SectionName, str], object]:
        """Return what was given, by section and field."""
        elsewhere: dict[str, tuple[SectionName, str]] = {
            "early_stop": ("guards", "early_stop"),
            "loader": ("data", "loader"),
            "workers": ("data", "workers"),
            "save_steps": ("checkpoints", "every_steps"),
        }
        found = {
            elsewhere.get(name, ("training", name)): getattr(self, name)
            for name in self.__dataclass_fields__
            if name not in ("gpus", "nproc")
        }
        found |= process_count_settings(self.gpus, self.nproc)
        return {key: value for key, value in found.items() if value is not None}
