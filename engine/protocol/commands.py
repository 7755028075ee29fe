"""Everything that the engine can be told: one frozen struct for each command.

Every command is answered by exactly one `CommandAccepted` or `CommandRefused` that carries it, `id` included; a
`Question` by its answer in place of the acceptance.
Commands take effect at a step boundary, never between a backward pass and its optimizer step.
"""

import uuid
from typing import get_args

import msgspec

from finetui.engine.protocol.config import TrainingConfig
from finetui.engine.protocol.values import AnyPart
from finetui.engine.text import snake_case


def new_id() -> str:
    """Return an identifier that no other command has."""
    return uuid.uuid4().hex[:12]


class Command(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    tag_field="type",
    tag=snake_case,
):
    """Base of all commands. `by` says who sent it; the engine fills it in for what comes through its socket."""

    id: str = msgspec.field(default_factory=new_id)
    by: str = ""


class Start(Command, frozen=True, kw_only=True):
    """Begin training, or go on with a run that was stopped and whose engine is still there."""


class Pause(Command, frozen=True, kw_only=True):
    """Stop after the step in progress and wait."""


class Resume(Command, frozen=True, kw_only=True):
    """Go on after a pause."""


class StepOnce(Command, frozen=True, kw_only=True):
    """While paused: take one training step and pause again."""


class Stop(Command, frozen=True, kw_only=True):
    """Save a checkpoint and end the run."""


class SetLearningRate(Command, frozen=True, kw_only=True):
    """Use `value` as the learning rate from the next step on.

    With a `factor`, follow schedule and stages times `factor` instead (1: as nobody had touched it); an engine that
    knows no such factors uses `value`.
    """

    value: float
    factor: float | None = None


class SetFrozen(Command, frozen=True, kw_only=True):
    """Freeze or unfreeze the layer groups named in `groups` and the single layers named in `layers`.

    `groups` may also hold paths of modules (`layer1.0`). In ResNet `conv1` is a group (with `bn1`) and a layer.
    """

    groups: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()
    frozen: bool


class SetFrozenNorm(Command, frozen=True, kw_only=True):
    """Let the normalisation layers of frozen layers go on collecting statistics, or (the default) keep theirs."""

    trains: bool


class ChangeTraining(Command, frozen=True, kw_only=True):
    """Train by these settings from the next step on; a finished run that has epochs left by them goes on at once.

    Seed, device, precision and the way steps are computed stay as they are. `early_stop` is counted anew.
    """

    training: TrainingConfig
    early_stop: int = 0


class FinetunePlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a finetune is to be; the fields are those of the configuration, None keeps what this run has.

    Its weights are those of the kept `checkpoint`; `last`: of the run as it is when the finetune begins.
    """

    recipe: str = "lp-ft"
    head: str = "auto"
    freeze: tuple[str, ...] = ()
    data: str | None = None
    val: float | None = None
    epochs: int | None = None
    lr: float | None = None
    schedule: str | None = None
    optimizer: str | None = None
    checkpoint: str = "last"


class Question(Command, frozen=True, kw_only=True):
    """Base of the commands that change nothing: the answer carries the question, and is never journaled.

    Where one has a `part`, an empty one stands for the part that is evaluated while training.
    """


class PreviewFinetune(Question, frozen=True, kw_only=True):
    """What would `plan` do? Answered by a `FinetunePreview`."""

    plan: FinetunePlan = FinetunePlan()


class StartFinetune(Command, frozen=True, kw_only=True):
    """End this run and start a new one from its weights."""

    plan: FinetunePlan = FinetunePlan()


class FindLearningRate(Command, frozen=True, kw_only=True):
    """Try rising learning rates on a copy of the model; answered by a `LearningRateFound`."""


class Evaluate(Command, frozen=True, kw_only=True):
    """Run over the images of `part` now; empty: those that are evaluated while training."""

    part: AnyPart = ""


class NoteTest(Command, frozen=True, kw_only=True):
    """Have the journal say that the `n` test images were looked at beside the run, which this changes nothing for.

    `use` says what for (`evaluate`, `errors`); the weights were those of the kept `checkpoint` (`best`, `last`), and
    got the share `accuracy` right.
    """

    use: str
    checkpoint: str
    accuracy: float
    n: int


class Save(Command, frozen=True, kw_only=True):
    """Write `last.ckpt` now, and with a `name` keep it under that name for good."""

    name: str = ""


class RollBack(Command, frozen=True, kw_only=True):
    """Go back to a kept checkpoint of this run: `last`, `previous`, `best` or a name that a person gave.

    From there the learning rate is multiplied by `rate_factor`.
    """

    checkpoint: str
    rate_factor: float = 1.0


class Branch(Command, frozen=True, kw_only=True):
    """End this run and start a new one that goes on from a kept checkpoint of it (named as in `RollBack`).

    `name` is the new run's, by default one made of this run's.
    """

    checkpoint: str
    name: str = ""


class FetchImages(Question, frozen=True, kw_only=True):
    """The images of `part` with these `indices`, reduced to at most `side` pixels (0: as stored).

    Answered by `Images`.
    """

    indices: tuple[int, ...]
    side: int = 0
    part: AnyPart = ""


class ExplainImage(Question, frozen=True, kw_only=True):
    """What in image `index` of `part` speaks for class `target`? Answered by an `Explained`.

    `method` is one of `EXPLANATIONS`; `target` None means the class that the network predicts.
    """

    index: int
    method: str
    target: int | None = None
    part: AnyPart = ""


class FindDuplicates(Question, frozen=True, kw_only=True):
    """Which images of `part` are among the training images? Answered by a `DuplicatesFound`."""

    part: AnyPart = ""


class DescribeModel(Question, frozen=True, kw_only=True):
    """The module tree with shapes, parameters, FLOPs and times; answered by a `ModelDescribed`."""


class MeasureLayers(Question, frozen=True, kw_only=True):
    """Gradients and updates of each layer at the next training step; answered by a `LayersMeasured`."""


class AuditParameters(Question, frozen=True, kw_only=True):
    """Which tensors move, train, or only claim to, over the next `steps` steps? Answered by a `ParametersAudited`.

    A run that pauses or ends sooner answers for the steps that there were.
    """

    steps: int = 20


class ViewLayer(Question, frozen=True, kw_only=True):
    """A look into the module with the path `layer`; answered by a `LayerView`.

    `view` is one of `LAYER_VIEWS`; `filters` and `feature-maps` are a page of `count` images from the `first` on.
    Feature maps and activations are those of image `index` of `part`.
    """

    layer: str
    view: str
    index: int = 0
    first: int = 0
    count: int = 64
    part: AnyPart = ""


EXPLANATIONS = ("grad-cam", "integrated-gradients", "occlusion")
LAYER_VIEWS = ("filters", "feature-maps", "weights", "activations")

AnyQuestion = (
    PreviewFinetune
    | FetchImages
    | ExplainImage
    | FindDuplicates
    | DescribeModel
    | MeasureLayers
    | AuditParameters
    | ViewLayer
)
QUESTIONS: tuple[type[Question], ...] = get_args(AnyQuestion)
AnyCommand = (
    Start
    | Pause
    | Resume
    | StepOnce
    | Stop
    | SetLearningRate
    | SetFrozen
    | SetFrozenNorm
    | ChangeTraining
    | AnyQuestion
    | StartFinetune
    | FindLearningRate
    | Evaluate
    | NoteTest
    | Save
    | RollBack
    | Branch
)
