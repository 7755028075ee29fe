"""The dashboard's actions: what the buttons show and send; their keys and words are those of the key map."""

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
from finetui.tui.keys import KEYS


class Action(NamedTuple):
    """Something that a person can make the engine do; `command` is None where a form asks what it is to say.

    `key_name` is its entry in the key map.
    """

    name: str
    key_name: str
    label: str
    command: Callable[[], AnyCommand] | None
    kind: type[AnyCommand]
    help: str

    @property
    def key(self) -> str:
        """How its key is written."""
        return KEYS[self.key_name].shown


def _action(name: str, kind: type[AnyCommand], *, key: str = "", asks: bool = False) -> Action:
    found = KEYS[key or name]
    return Action(name, key or name, found.label, None if asks else kind, kind, found.help)


ACTIONS: tuple[Action, ...] = (
    _action("start", Start),
    Action("pause", "toggle", "Pause", Pause, Pause, "Pause after this step"),
    Action("resume", "toggle", "Resume", Resume, Resume, "Resume training"),
    _action("step", StepOnce),
    _action("stop", Stop),
    _action("evaluate", Evaluate),
    _action("save", Save),
    _action("finetune", StartFinetune, asks=True),
    _action("extend", ChangeTraining, asks=True),
    _action("find", FindLearningRate, key="find_rate"),
)

BY_NAME = {action.name: action for action in ACTIONS}
