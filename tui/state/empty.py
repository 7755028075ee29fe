"""What is said in place of what a run does not tell: why there is nothing, and what would change that."""

from finetui.engine.protocol.commands import AnyCommand, Evaluate, Pause, Save, SetFrozen, SetLearningRate
from finetui.engine.protocol.events import ENDED
from finetui.tui.keys import KEYS
from finetui.tui.state.view import View

_STEERING: tuple[type[AnyCommand], ...] = (Pause, Evaluate, Save, SetFrozen, SetLearningRate)
_PREDICTIONS = "run.predictions(probabilities, labels, images)"
_WATCH = "finetui.watch(model, optimizer)"


def no_classes(view: View, what: str = "classes") -> str:
    """Return why there are no classes, or nothing of `what` else an evaluation brings."""
    if view.only_files:
        return f"These files hold nothing about {what}. To see them, use finetui.watch in the training: {_PREDICTIONS}."
    if view.refusal_of(Evaluate) is None:
        return f"No evaluation yet. Press {KEYS['evaluate'].shown} to evaluate now."
    if view.hparams is None:
        return "No evaluation yet."
    return f"No predictions came from this loop. Call {_PREDICTIONS} in it to see its classes and mistakes."


def no_layers(view: View) -> str:
    """Return why there are no layers; empty while that is only not known yet."""
    if view.only_files:
        return f"These files hold nothing about layers. To see them, use {_WATCH} in the training."
    if view.hparams is None or view.state == "preparing":
        return ""
    return f"This loop has shown no network. Use {_WATCH} to see its layers."


def no_settings(view: View) -> str:
    """Return why there are no settings."""
    return "These files hold no settings." if view.only_files else "This loop has told no settings."


def no_machine(view: View) -> str:
    """Return why nothing is known of the machine that trains."""
    if view.only_files:
        return "These files hold nothing about the machine that trains."
    if view.state in ("preparing", "ready", "running", "paused"):
        return "No figures of the machine yet; they come every few seconds while it trains."
    return (
        "This run's journal says nothing of its machine: it ended before somebody looked, "
        "or was written by an earlier version of finetui."
    )


def no_steering(view: View) -> str:
    """Return in a few words why nothing can be told to the run; empty where it listens."""
    if not all(view.never(command) for command in _STEERING):
        return ""
    how = "Read from files" if view.only_files else "It has ended" if view.state in ENDED else "Only shown"
    return f"{how}: nothing to steer"
