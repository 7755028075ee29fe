"""Which keys of the Train screen its last line leaves out, and what those of changing buttons are called."""

from finetui.engine.protocol.commands import AnyCommand, Pause, SetFrozen, Start, StartFinetune
from finetui.tui.state.view import View

_STEERING: dict[str, type[AnyCommand]] = {
    "press('start')": Start,
    "press('pause')": Pause,
    "press('finetune')": StartFinetune,
    "freeze_layers": SetFrozen,
}


def unshown(view: View) -> tuple[str, ...]:
    """Return the actions that have no use now, and no place among the keys.

    What somebody else's training never obeys has none; the buttons say why.
    """
    never = (action for action, kind in _STEERING.items() if view.never(kind))
    other = () if view.data is not None and view.other_part("") is not None else ("switch_part",)
    return (*other, *never, "press('start')" if view.state in ("running", "paused") else "press('pause')")


def labels(view: View) -> dict[str, str]:
    """Return what the keys of buttons that change are called now, as on these."""
    goes_on = view.can_go_on or view.state == "stopped"
    return {
        **({"press('pause')": "Resume"} if view.state == "paused" else {}),
        **({"press('start')": "Resume"} if goes_on else {}),
    }
