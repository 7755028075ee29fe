"""A question in a box over the screen, answered by button or key."""

from typing import NamedTuple

from textual import events
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Static

from finetui.tui.screens.base import ModalScreen
from finetui.tui.widgets.action_button import ActionButton


class Choice(NamedTuple):
    """One possible answer: `name` is returned, `key` chooses it."""

    name: str
    key: str
    label: str


class Dialog(ModalScreen[str | None]):
    """Asks; is dismissed with the name of the choice, or None for Escape."""

    BINDINGS = [
        ("escape", "leave", "Back"),
        ("left", "app.focus_previous", ""),
        ("right", "app.focus_next", ""),
    ]

    def __init__(self, title: str, lines: tuple[str, ...], choices: tuple[Choice, ...]) -> None:
        super().__init__()
        self._title = title
        self._lines = lines
        self._choices = choices

    def compose(self) -> ComposeResult:
        """Title, text, buttons."""
        with Vertical(id="box"):
            yield Static(Content.styled(self._title, "bold $accent"), id="title")
            yield Static(Content("\n".join(self._lines)), id="text")
            if self._choices:
                with Horizontal(id="choices"):
                    for choice in self._choices:
                        yield ActionButton(choice.name, choice.key, choice.label, id=choice.name)

    def on_key(self, event: events.Key) -> None:
        """Choose by key."""
        for choice in self._choices:
            if event.key == choice.key:
                # Otherwise the screen below, which comes to the front now, would take the key for itself.
                event.stop()
                event.prevent_default()
                self.dismiss(choice.name)

    def on_action_button_pressed(self, message: ActionButton.Pressed) -> None:
        """Choose by button."""
        message.stop()
        self.dismiss(message.action)

    def action_leave(self) -> None:
        """Choose nothing."""
        self.dismiss(None)
