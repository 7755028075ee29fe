"""The help: what the screen shows, and every key."""

from collections.abc import Sequence

from textual.app import ComposeResult
from textual.containers import Grid, VerticalScroll
from textual.content import Content
from textual.widgets import Static

from finetui.tui.screens.base import ModalScreen
from finetui.tui.state.actions import ACTIONS

_INTRODUCTION = (
    "The plots show the training loss and accuracy (means between two points) and those on val, where images are held "
    "out to choose by, else on test, measured after every epoch. A tick on the edge marks what was changed by hand: "
    "the learning rate, or which layers train.\n\n"
    "The table shows, for each class, the number of val or test images, the share recognised, the F1 score, and the "
    "change since the previous evaluation in percentage points.\n\n"
    "Freezing a layer takes effect at the next step: it gets no gradient, and it stays the same bit for bit until it "
    "is unfrozen."
)

_MORE_KEYS = (
    ("l", "Go to the learning rate; Enter applies it at the next step, Escape leaves"),
    ("+ -", "Next higher or lower learning rate (1, 2, 5, 10, …)"),
    ("tab", "Next control"),
    ("g", "Layers: all columns, single layers, normalisation"),
    ("␣ → a b", "In the layer list: freeze or unfreeze; open a group; all above, all below the cursor"),
    ("p", "The table: the other part, val or test, which is evaluated first where it was not yet"),
    ("m", "Errors: the images that were got wrong; enter or a click on a class shows that class's"),
    ("c", "Checkpoints: roll back to one, branch from one, keep the present state under a name"),
    ("r", "Runs: a finetune stands below the run that it started from"),
    ("o", "Log: the whole journal, and what the engine printed; a click on the lines below opens it as well"),
    ("M", "Machine: CPU, memory, disk, GPUs and who is on them, and where the time of a step goes"),
    ("esc", "Hide an alert; it also goes once the rate or the layers are changed, and with a new best result"),
    ("y", "Loss axis: linear or logarithmic"),
    ("t", "Dark or light theme"),
    ("ctrl+p", "Command palette: every action by name"),
    ("ctrl+z", "To the shell, until its command fg; training goes on"),
    ("d", "Detach: give the shell back; training goes on, and finetui attach comes back to it"),
    ("q", "Leave; asks only where training would end with the dashboard"),
)


class HelpScreen(ModalScreen[None]):
    """Explains a screen; any of Escape, ? and q closes it."""

    BINDINGS = [("escape,question_mark,q,enter", "dismiss", "Close")]

    def __init__(self, title: str, introduction: str, keys: Sequence[tuple[str, str]]) -> None:
        """Take the screen's name, what it shows, and its keys with what they do."""
        super().__init__()
        self._title = title
        self._introduction = introduction
        self._keys = keys

    def compose(self) -> ComposeResult:
        """The explanation and the keys."""
        with VerticalScroll(id="box"):
            yield Static(Content.styled(self._title, "bold $accent"), id="title")
            yield Static(Content(self._introduction), id="text")
            with Grid(id="keys"):
                for key, text in self._keys:
                    yield Static(Content.styled(f"{key:>8}", "bold $accent"))
                    yield Static(Content(text))


def train_help() -> HelpScreen:
    """Return the help for the Train screen."""
    keys = [(action.key, action.help) for action in ACTIONS] + list(_MORE_KEYS)
    return HelpScreen("The Train screen", _INTRODUCTION, keys)
