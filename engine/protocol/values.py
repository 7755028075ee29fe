"""The values that events carry: what is known of data, layers, classes, images."""

from typing import Literal, get_args

import msgspec

NormMode = Literal["", "batch", "running"]
Part = Literal["train", "val", "test"]
PARTS: tuple[Part, ...] = get_args(Part)
AnyPart = Part | Literal[""]  # empty: by default
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]
Resampler = Literal["pillow", "torch"]
FeaturePlace = Literal["device", "memory", "file"]


class _Value(msgspec.Struct, frozen=True, kw_only=True):
    """Base of the values that events carry."""


class TimeShares(_Value, frozen=True, kw_only=True, omit_defaults=True):
    """Where the time went, as shares (0 to 1) of the wall time since the last train point; what is left is the rest.

    `waiting` is for images that are still being read, `copying` to the device, `computing` the steps, transforms and
    augmentation of their images included; `evaluating` and `saving` come between. Pauses are no part of it. `seconds`
    is the time that these are shares of: what shares of several points are weighed by. All of it is the time of the
    thread that trains. On a GPU, which works while that one goes on, `computing` is what is left of a step and the wait
    for its results, and copies that nobody waits for are in it.
    """

    waiting: float = 0.0
    copying: float = 0.0
    computing: float = 0.0
    evaluating: float = 0.0
    saving: float = 0.0
    seconds: float = 0.0


class DataSummary(_Value, frozen=True, kw_only=True):
    """The data in use. `name` may differ from `requested` (then `notices` says why); sizes in images, 0: no such part.

    `loader` says how it is held, for people; `input_height` and `input_width` are what the network is given.
    """

    name: str
    requested: str
    location: str
    classes: tuple[str, ...]
    train_size: int
    test_size: int
    channels: int
    height: int
    width: int
    input_height: int = 0
    input_width: int = 0
    loader: str = ""
    val_size: int = 0

    @property
    def watched(self) -> Part:
        """What is evaluated while training, and chosen by: val, and only where there is none, test."""
        return "val" if self.val_size else "test"

    @property
    def sizes(self) -> dict[Part, int]:
        """The number of images in each part that there is."""
        found: dict[Part, int] = {"train": self.train_size, "val": self.val_size, "test": self.test_size}
        return {part: size for part, size in found.items() if size}


class Decoding(_Value, frozen=True, kw_only=True):
    """How a picture becomes what is stored of it: uint8 `[channels, height, width]`, 1 channel (grey) or 3 (RGB).

    The shorter side is scaled to `resize` pixels (0: so that the picture just covers `height` x `width`) with Pillow's
    filter `interpolation`, then the middle is cut out, as torchvision's `Resize` and `CenterCrop` do. A JPEG file is
    decoded to a half, a quarter or an eighth of its size where that leaves `draft` times what it is scaled to (0:
    never). Pixels of 16 or 32 bits and floating-point ones are scaled from `value_range` to 0 .. 255 (None: those of
    each picture by its own). Where there is a `resize`, `resampler` scales with the bilinear and bicubic filters:
    Pillow, or torch, which rounds the same weights more coarsely. The defaults are what was done before these fields
    were there. Where one is asked for, 0 channels, height and width are those of the pictures; what a run keeps has
    none.
    """

    channels: int
    height: int
    width: int
    resize: int = 0
    interpolation: Interpolation = "bilinear"
    draft: int = 1
    value_range: tuple[float, float] | None = None
    resampler: Resampler = "pillow"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        return self.channels, self.height, self.width


class FastPath(_Value, frozen=True, kw_only=True):
    """How the steps are computed: what changes their speed, and nothing but the last digits of their results.

    `threads` of the CPU compute one operation (0: as torch has it); with `channels_last` images and filters lie in
    memory pixel by pixel; with `fused` the optimizer updates all parameters in one operation.
    """

    threads: int = 0
    channels_last: bool = False
    fused: bool = False


class Layer(_Value, frozen=True, kw_only=True):
    """One module with parameters or buffers of its own; `parameters` counts scalars.

    `norm` tells whether a normalisation layer uses the batch's statistics or its running ones.
    """

    name: str
    summary: str
    parameters: int
    frozen: bool
    norm: NormMode = ""


class LayerGroup(_Value, frozen=True, kw_only=True):
    """One group of layers that freezes as a whole; its `layers` can also be frozen one by one.

    `parameters` counts scalars, `trainable` those of them that are not frozen, and `frozen` is True when all layers
    are. `in_use` is False for layers that the forward pass bypasses (the old classifier behind a new head): they are
    kept in the checkpoint, and cannot be trained. `head` marks the layers that produce the logits.
    """

    name: str
    summary: str
    parameters: int
    frozen: bool
    in_use: bool = True
    head: bool = False
    trainable: int = 0
    norm: NormMode = ""
    layers: tuple[Layer, ...] = ()


class ClassReport(_Value, frozen=True, kw_only=True):
    """Scores of one class on the images of a part, each from 0 to 1; `support` is its number of images there.

    `accuracy` is the share of the class's images that were recognised, which for a single class is its recall. `loss`
    is their mean cross entropy in nats (None: there are none, or it was not kept). `mistaken` of them were predicted as
    the class number `mistaken_for`, more than as any other wrong one (None: no mistake, or it was not kept).
    """

    label: str
    support: int
    precision: float
    recall: float
    f1: float
    accuracy: float
    loss: float | None = None
    mistaken_for: int | None = None
    mistaken: int = 0

    @property
    def wrong(self) -> int:
        """The number of the class's images that were predicted as another class."""
        return self.support - round(self.accuracy * self.support)


class MeanLoss(_Value, frozen=True, kw_only=True):
    """Mean training loss of `steps` steps that ended with step `step_in_epoch` (from 1) of `epoch` (from 1)."""

    epoch: int
    step_in_epoch: int
    steps: int
    loss: float


class StagePreview(_Value, frozen=True, kw_only=True):
    """One stage of a previewed finetune; `learning_rates` are the lowest and the highest of its groups.

    `frozen` are the groups that do not train at all. `work` is what a step computes, as a share of one in which all
    layers train; None: not known.
    """

    name: str
    first_epoch: int
    last_epoch: int
    trains: tuple[str, ...]
    parameters: int
    learning_rates: tuple[float, float]
    frozen: tuple[str, ...] = ()
    work: float | None = None


class KeptCheckpoint(_Value, frozen=True, kw_only=True):
    """A checkpoint that a run can go back to: `name` (`last`, `previous`, `best`, or a person's), file, where it is.

    `at` is the number that the run's next event had when it was written; `accuracy` that of the last evaluation before,
    and `figure` what it is judged by (`best_by`; None: the accuracy, or no evaluation).
    """

    name: str
    file: str
    step: int
    epoch: int
    at: int
    accuracy: float | None = None
    best_by: str = "accuracy"
    figure: float | None = None


class Picture(_Value, frozen=True, kw_only=True):
    """Pixels, uint8 `[height, width, channels]` in row-major order; 1 channel is grey, 3 are RGB.

    `name` says what is shown: a test image's path, a filter's number. Where there are no pixels `problem` says why.
    """

    index: int
    height: int = 0
    width: int = 0
    channels: int = 1
    pixels: bytes = b""
    name: str = ""
    problem: str = ""


class ModuleRow(_Value, frozen=True, kw_only=True):
    """One module of the tree, in order of definition; `depth` 0 is the model itself, whose `name` is empty.

    `parameters` counts the scalars of it and all within, `own` its own. `output` is the shape without the batch; empty
    where it is not known. `flops` are for one image (None: not counted), `time` its share of the forward pass (0 to 1;
    None: not measured). `views` are the `LAYER_VIEWS` that can be asked for.
    """

    name: str
    depth: int
    kind: str
    summary: str
    output: tuple[int, ...] = ()
    parameters: int = 0
    own: int = 0
    trainable: int = 0
    flops: int | None = None
    time: float | None = None
    activation_bytes: int = 0
    views: tuple[str, ...] = ()
