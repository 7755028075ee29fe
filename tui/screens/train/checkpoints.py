"""The checkpoints that a run keeps: go back to one, branch from one, keep the present state under a name."""

from collections.abc import Sequence
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Input, Static

from finetui.engine.errors import BadInput
from finetui.engine.protocol.commands import AnyCommand, Branch, RollBack, Save
from finetui.engine.protocol.config_checks import check_checkpoint_name
from finetui.engine.protocol.events import KeptCheckpoint
from finetui.engine.protocol.state_rules import refusal
from finetui.tui.screens.list_screen import ListScreen
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


class CheckpointsScreen(ListScreen[AnyCommand]):
    """Lists the checkpoints of the run in `view`; is dismissed with the command that a person chose, or None.

    Where `why_not` is a sentence, nothing can be chosen, and it says why.
    """

    TITLE_TEXT = "Checkpoints"
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

    def below(self) -> Sequence[Widget]:
        """The field for a name, what is wrong, and the keys."""
        self._field = Input(placeholder="name", compact=True, max_length=100, id="name")
        self._field.display = self._field.cursor_blink = False
        return self._field, Static(id="problem"), Static(_keys(), id="keys")

    def on_mount(self) -> None:
        """Begin in the list."""
        self._say(self._why_not)
        heading = f"{'name':<{_NAME}} {'step':>9} {'epoch':>5}  {'accuracy':>8}"
        kept = self._view.kept
        self.fill(heading if kept else "none yet", [_row(one, self._view) for one in kept])

    def _say(self, problem: str) -> None:
        line = self.query_one("#problem", Static)
        line.display = bool(problem)
        line.update(Content.styled(problem, "$warning"))

    def choose(self, index: int) -> None:
        """Roll back to it."""
        self.action_choose("roll back")

    def action_choose(self, what: str) -> None:
        """Choose the highlighted checkpoint for `what`."""
        index = self.query_one(OptionList).highlighted
        if index is None or self._why_not or self._field.display:
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
        field = self._field
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
        field = self._field
        if event.key == "escape" and field.display:
            event.stop()
            field.display = False
            self._say(self._why_not)
            self.query_one(OptionList).focus()


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
