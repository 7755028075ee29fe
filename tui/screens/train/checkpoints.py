"""The checkpoints that a run keeps: go back to one, branch from one, keep the present state under a name."""

from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Input, Static
from textual.widgets.option_list import Option

from finetui.engine.errors import BadInput
from finetui.engine.protocol.commands import AnyCommand, Branch, RollBack, Save
from finetui.engine.protocol.config import check_checkpoint_name
from finetui.engine.protocol.events import KeptCheckpoint
from finetui.engine.protocol.state_rules import refusal
from finetui.tui.screens.base import ModalScreen
from finetui.tui.state.store import View
from finetui.tui.widgets.option_list import OptionList

_NAME = 14
_SLOWER = 0.1
_KEYS = (
    ("enter", "roll back"),
    ("s", "at a tenth of the rate"),
    ("b", "branch\n"),
    ("w", "keep the present state"),
    ("esc", "close"),
)


class CheckpointsScreen(ModalScreen[AnyCommand | None]):
    """Lists the checkpoints of the run in `view`; is dismissed with the command that a person chose, or None.

    Where `why_not` is a sentence, nothing can be chosen, and it says why.
    """

    CSS_PATH = "checkpoints.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,c", "leave", "Back"),
        Binding("s", "choose('slower')", "Roll back, slower"),
        Binding("b", "choose('branch')", "Branch"),
        Binding("w", "name", "Keep"),
    ]

    def __init__(self, view: View, why_not: str = "") -> None:
        super().__init__()
        self._view = view
        self._why_not = why_not or refusal(RollBack, view.state) or ""

    def compose(self) -> ComposeResult:
        """Title, list, the field for a name, and the keys."""
        with Vertical(id="box"):
            yield Static(Content.styled("Checkpoints", "bold $accent"), id="title")
            heading = f"{'name':<{_NAME}} {'step':>9} {'epoch':>5}  {'accuracy':>8}"
            yield Static(Content.styled(heading if self._view.kept else "none yet", "$muted"), id="text")
            yield OptionList(*(Option(_row(kept, self._view)) for kept in self._view.kept), id="kept", compact=True)
            yield Input(placeholder="name", compact=True, max_length=100, id="name")
            yield Static(id="problem")
            yield Static(_keys(), id="keys")

    def on_mount(self) -> None:
        """Begin in the list."""
        self.query_one(Input).display = False
        self.query_one(Input).cursor_blink = False
        self._say(self._why_not)
        options = self.query_one(OptionList)
        if self._view.kept:
            options.highlighted = 0
        options.focus()

    def _say(self, problem: str) -> None:
        line = self.query_one("#problem", Static)
        line.display = bool(problem)
        line.update(Content.styled(problem, "$warning"))

    def on_option_list_option_selected(self, message: OptionList.OptionSelected) -> None:
        """Roll back to it."""
        message.stop()
        self.action_choose("roll back")

    def action_choose(self, what: str) -> None:
        """Choose the highlighted checkpoint for `what`."""
        index = self.query_one(OptionList).highlighted
        if index is None or self._why_not or self.query_one(Input).display:
            return
        name = self._view.kept[index].name
        match what:
            case "branch":
                self.dismiss(Branch(checkpoint=name))
            case "slower":
                self.dismiss(RollBack(checkpoint=name, rate_factor=_SLOWER))
            case _:
                self.dismiss(RollBack(checkpoint=name))

    def action_name(self) -> None:
        """Ask for a name."""
        if self._why_not:
            return
        field = self.query_one(Input)
        field.display = True
        self.set_focus(field)  # at once: the keys that are typed next are a name, and no choice

    def on_input_submitted(self, message: Input.Submitted) -> None:
        """Keep the present state under that name."""
        message.stop()
        try:
            check_checkpoint_name(message.value)
        except BadInput as error:
            self._say(str(error))
            return
        self.dismiss(Save(name=message.value))

    def on_key(self, event: events.Key) -> None:
        """Leave the field by Escape."""
        field = self.query_one(Input)
        if event.key == "escape" and field.display:
            event.stop()
            field.display = False
            self._say(self._why_not)
            self.query_one(OptionList).focus()

    def action_leave(self) -> None:
        """Choose nothing."""
        self.dismiss(None)


def _row(kept: KeptCheckpoint, view: View) -> Content:
    name = Content(kept.name).truncate(_NAME, ellipsis=True, pad=True)
    accuracy = "" if kept.accuracy is None else f"{kept.accuracy:.2%}"
    back = view.step - kept.step
    return Content.assemble(
        name,
        f" {kept.step:>9,} {kept.epoch:>5}  {accuracy:>8}  ",
        (f"-{back:,} steps" if back > 0 else "", "$muted"),
    )


def _keys() -> Content:
    parts = [
        part
        for key, words in _KEYS
        for part in ((key, "bold $accent"), (f" {words}" + ("" if words.endswith("\n") else "  "), "$muted"))
    ]
    return Content.assemble(*parts)
