"""The help: what the screen shows, and every key."""

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from tui.actions import ACTIONS

_INTRODUCTION = (
    "The plots show the training loss and accuracy (means between two points) and the test set's, measured after "
    "every epoch. A tick on the edge marks what was changed by hand: the learning rate, or which layers train.\n\n"
    "The table shows, for each class, the number of test images, the share recognised, the F1 score, and the change "
    "since the previous evaluation in percentage points.\n\n"
    "Freezing a layer takes effect at the next step: it gets no gradient, and it stays the same bit for bit until it "
    "is unfrozen."
)

_MORE_KEYS = (
    ("l", "Go to the learning rate; Enter applies it at the next step, Escape leaves"),
    ("+ -", "Next higher or lower learning rate (1, 2, 5, 10, …)"),
    ("tab", "Next control"),
    ("g", "Layers: all columns, single layers, normalisation"),
    ("␣ → a b", "In the layer list: freeze or unfreeze; open a group; all above, all below the cursor"),
    ("r", "Runs: a finetune stands below the run that it started from"),
    ("y", "Loss axis: linear or logarithmic"),
    ("t", "Dark or light theme"),
    ("ctrl+p", "Command palette: every action by name"),
    ("q", "Leave; a running training can go on without the dashboard"),
)


class HelpScreen(ModalScreen[None]):
    """Explains the Train screen; any of Escape, ? and q closes it."""

    BINDINGS = [("escape,question_mark,q,enter", "dismiss", "Close")]

    def compose(self) -> ComposeResult:
        """The explanation and the keys."""
        keys = [(action.key, action.help) for action in ACTIONS] + list(_MORE_KEYS)
        lines = [Content.assemble((f"{key:>8}", "bold $accent"), f"  {text}") for key, text in keys]
        with VerticalScroll(id="box"):
            yield Static(Content.styled("The Train screen", "bold $accent"), id="title")
            yield Static(Content(_INTRODUCTION), id="text")
            yield Static(Content("\n").join(lines))
