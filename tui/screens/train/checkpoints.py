"""The checkpoints that a run keeps: go back to one, branch from one, keep the present state under a name."""

from collections.abc import Sequence
from typing import ClassVar

from textual import events, work
from textual.binding import BindingType
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Input, Static

from finetui.engine.errors import BadInput
from finetui.engine.protocol.commands import AnyCommand, Branch, RollBack, Save
from finetui.engine.protocol.config_checks import check_checkpoint_name
from finetui.engine.protocol.events import KeptCheckpoint
from finetui.engine.text import clean
from finetui.tui.keys import KEYS, bind
from finetui.tui.screens.dialog import Choice, Dialog
from finetui.tui.screens.list_screen import ListScreen
from finetui.tui.state.view import View
from finetui.tui.widgets.option_list import OptionList

_NAME = 14
_SLOWER = 0.1
_KEYS = (
    ("confirm", "roll back"),
    ("branch", "branch"),
    ("keep", "save the current state"),
    ("back", "close"),
)


class CheckpointsScreen(ListScreen[AnyCommand]):
    """Lists the checkpoints of the run in `view`; is dismissed with the command that a person chose, or None.

    Where `why_not` is a sentence, nothing can be chosen, and it says why.
    """

    TITLE_TEXT = "Checkpoints"
    INTRODUCTION = "The saved checkpoints of this run. Enter rolls back to one, after confirmation."
    BINDINGS: ClassVar[list[BindingType]] = [
        bind("checkpoints", "leave", show=False),
        bind("branch"),
        bind("keep", "name"),
    ]

    def __init__(self, view: View, why_not: str = "") -> None:
        super().__init__()
        self._view = view
        self._why_not = why_not or view.refusal_of(RollBack) or ""

    def below(self) -> Sequence[Widget]:
        """The field for a name, what is wrong, and the keys."""
        self._field = Input(placeholder="name", compact=True, max_length=100, id="name")
        self._field.display = self._field.cursor_blink = False
        return self._field, Static(id="problem"), Static(self._keys(), id="keys")

    def on_mount(self) -> None:
        """Begin in the list."""
        self.query_one("#title", Static).update(
            Content.assemble((self.TITLE_TEXT, "bold $accent"), (f"  {clean(self._view.name)}", "$muted"))
        )
        self._say(self._why_not)
        heading = f"{'name':<{_NAME}} {'step':>9} {'epoch':>5}  {'accuracy':>8}"
        kept = self._view.kept
        self.fill(heading if kept else "none yet", [_row(one, self._view) for one in kept])

    def why_not(self, action: str, parameters: tuple[object, ...]) -> str:
        """Where nothing can be chosen, the box says why; so do the keys."""
        return self._why_not if action in ("branch", "name") else super().why_not(action, parameters)

    def _keys(self) -> Content:
        shown = _KEYS[-1:] if self._why_not else _KEYS
        parts = ((KEYS[name].shown, "bold $accent", f" {words}  ") for name, words in shown)
        return Content.assemble(*(part for key, style, words in parts for part in ((key, style), (words, "$muted"))))

    def _say(self, problem: str) -> None:
        line = self.query_one("#problem", Static)
        line.display = bool(problem)
        line.update(Content.styled(problem, "$warning"))

    def choose(self, index: int) -> None:
        """Roll back to that checkpoint, if somebody means it."""
        if not self._why_not and not self._field.display:
            self._ask(self._view.kept[index])

    @work
    async def _ask(self, kept: KeptCheckpoint) -> None:
        choices = (Choice("back", "enter", "Roll back"), Choice("slower", "minus", "Roll back at LR / 10"))
        answer = await self.app.push_screen_wait(Dialog(*_question(kept, self._view), choices))
        if answer is not None:
            self.dismiss(RollBack(checkpoint=kept.name, rate_factor=_SLOWER if answer == "slower" else 1.0))

    def action_branch(self) -> None:
        """Start a new run from the highlighted checkpoint."""
        index = self.query_one(OptionList).highlighted
        if index is not None and not self._field.display:
            self.dismiss(Branch(checkpoint=self._view.kept[index].name))

    def action_name(self) -> None:
        """Ask for a name."""
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


def _question(kept: KeptCheckpoint, view: View) -> tuple[str, tuple[str, ...]]:
    """Return what is asked before going back to `kept`, and what is lost and what is kept."""
    accuracy = "" if kept.accuracy is None else f", {kept.accuracy:.2%}"
    back = view.step - kept.step
    undone = f"Undoes {back:,} step{'s' if back > 1 else ''}. " if back > 0 else ""
    title = f'Roll back to "{kept.name}" (epoch {kept.epoch}{accuracy})?'
    return title, (
        f'{undone}The current state is kept as "previous".',
        f"{KEYS['undo'].shown} brings it back, until the next save.",
    )
