"""Everything that the engine can be told: one frozen struct for each command.

Every command is answered by exactly one `CommandAccepted` or `CommandRefused` that carries it, `id` included; a
question (`PreviewFinetune`) by its answer in place of the acceptance.
Commands take effect at a step boundary, never between a backward pass and its optimizer step.
"""

import uuid

import msgspec

from engine.text import snake_case


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
    """Base of all commands."""

    id: str = msgspec.field(default_factory=new_id)


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
    """Use `value` as the learning rate from the next step on."""

    value: float


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


class FinetunePlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a finetune is to be; the fields are those of the configuration, None keeps what this run has."""

    recipe: str = "lp-ft"
    head: str = "auto"
    freeze: tuple[str, ...] = ()
    data: str | None = None
    epochs: int | None = None
    lr: float | None = None
    schedule: str | None = None
    optimizer: str | None = None


class PreviewFinetune(Command, frozen=True, kw_only=True):
    """A question: what would `plan` do? Answered by a `FinetunePreview`."""

    plan: FinetunePlan = FinetunePlan()


class StartFinetune(Command, frozen=True, kw_only=True):
    """End this run and start a new one from its weights."""

    plan: FinetunePlan = FinetunePlan()


class FindLearningRate(Command, frozen=True, kw_only=True):
    """Try rising learning rates on a copy of the model; answered by a `LearningRateFound`."""


class Evaluate(Command, frozen=True, kw_only=True):
    """Run over the test set now."""


class Save(Command, frozen=True, kw_only=True):
    """Write `last.ckpt` now."""


AnyCommand = (
    Start
    | Pause
    | Resume
    | StepOnce
    | Stop
    | SetLearningRate
    | SetFrozen
    | SetFrozenNorm
    | PreviewFinetune
    | StartFinetune
    | FindLearningRate
    | Evaluate
    | Save
)
