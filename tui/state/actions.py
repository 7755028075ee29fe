"""The dashboard's actions: one table for the buttons, the keys, the palette and the help."""

from collections.abc import Callable
from typing import NamedTuple

from finetui.engine.protocol.commands import (
    AnyCommand,
    ChangeTraining,
    Evaluate,
    FindLearningRate,
    Pause,
    Resume,
    Save,
    Start,
    StartFinetune,
    StepOnce,
    Stop,
)


class Action(NamedTuple):
    """Something that a person can make the engine do; `command` is None where a form asks what it is to say."""

    name: str
    key: str
    label: str
    command: Callable[[], AnyCommand] | None
    kind: type[AnyCommand]
    help: str


def _action(name: str, key: str, label: str, kind: type[AnyCommand], explanation: str) -> Action:
    return Action(name, key, label, kind, kind, explanation)


ACTIONS: tuple[Action, ...] = (
    _action("start", "s", "Start", Start, "Start or resume training"),
    _action("pause", "space", "Pause", Pause, "Pause after this step"),
    _action("resume", "space", "Resume", Resume, "Resume training"),
    _action("step", "n", "Step", StepOnce, "While paused: take one training step"),
    _action("stop", "x", "Stop", Stop, "Save a checkpoint and end the run; Start resumes it"),
    _action("evaluate", "e", "Evaluate", Evaluate, "Evaluate now: on val where it is held out, else on test"),
    _action("save", "w", "Save", Save, "Save a checkpoint now"),
    Action("finetune", "f", "Finetune", None, StartFinetune, "Start a new run from these weights: recipe, head, data"),
    Action("extend", "E", "Extend", None, ChangeTraining, "Train further: more epochs, another learning rate"),
    _action("find", "L", "Find LR", FindLearningRate, "Try rising learning rates on a copy of the model"),
)

BY_NAME = {action.name: action for action in ACTIONS}
