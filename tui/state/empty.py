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
        return f"These files have no predictions. To see {what}, use finetui.watch in the training: {_PREDICTIONS}."
    if view.refusal_of(Evaluate) is None:
        return f"No evaluation yet. Press {KEYS['evaluate'].shown} to evaluate now."
    if view.hparams is None:
        return "No evaluation yet."
    return f"This loop has logged no predictions. Call {_PREDICTIONS} in it to see classes and mistakes."


def no_layers(view: View) -> str:
    """Return why there are no layers; empty while that is only not known yet."""
    if view.only_files:
        return f"These files have no layers. To see them, use {_WATCH} in the training."
    if view.hparams is None or view.state == "preparing":
        return ""
    return f"This loop has no registered model. Use {_WATCH} to see its layers."


def no_settings(view: View) -> str:
    """Return why there are no settings."""
    return "These files have no settings." if view.only_files else "This loop has logged no settings."


def no_machine(view: View) -> str:
    """Return why nothing is known of the machine that trains."""
    if view.only_files:
        return "These files have no machine metrics."
    if view.state in ("preparing", "ready", "running", "paused"):
        return "No machine metrics yet; they arrive every few seconds during training."
    return (
        "This run's journal has no machine metrics: the run ended before the first ones, "
        "or was written by an earlier version of finetui."
    )


def no_steering(view: View) -> str:
    """Return in a few words why nothing can be told to the run; empty where it listens."""
    if not all(view.never(command) for command in _STEERING):
        return ""
    how = "Read from files" if view.only_files else "Run ended" if view.state in ENDED else "View only"
    return f"{how}: nothing to steer"
