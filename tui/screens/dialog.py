"""A question in a box over the screen, answered by button or key."""

from pathlib import Path, PurePath
from typing import ClassVar, NamedTuple

from rich.cells import cell_len
from textual import events
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Static

from finetui.tui.keys import bind, face, move
from finetui.tui.screens.base import ModalScreen
from finetui.tui.widgets.action_button import ActionButton

BOX_CSS = Path(__file__).with_name("box.tcss")  # a name alone would be looked up beside a subclass


class Choice(NamedTuple):
    """One possible answer: `name` is returned, `key`, by Textual's name for it, chooses it."""

    name: str
    key: str
    label: str


class Dialog(ModalScreen[str | None]):
    """Asks; is dismissed with the name of the choice, or None for Escape.

    The first of the choices is Enter's. Where none is Escape's, there is a button for that as well.
    """

    CSS_PATH: ClassVar[list[str | PurePath]] = [BOX_CSS]
    INTRODUCTION = "A question. Nothing happens until it is answered."
    BINDINGS: ClassVar[list[BindingType]] = [
        bind("confirm"),
        move("left", "app.focus_previous"),
        move("right", "app.focus_next"),
    ]

    def __init__(self, title: str, lines: tuple[str, ...], choices: tuple[Choice, ...]) -> None:
        super().__init__()
        self._title = title
        self._lines = lines
        stays = any(choice.key == "escape" for choice in choices)
        self._choices = choices if stays else (*choices, Choice("", "escape", "Cancel"))

    @property
    def help_title(self) -> str:
        """The question."""
        return self._title

    def compose(self) -> ComposeResult:
        """Title, text, buttons."""
        with Vertical(id="box"):
            yield Static(Content.styled(self._title, "bold $accent"), id="title")
            yield Static(Content("\n".join(self._lines)), id="text")
            buttons = [ActionButton(one.name, face(one.key), one.label) for one in self._choices]
            for button, choice in zip(buttons, self._choices, strict=True):
                button.styles.width = cell_len(f"  {face(choice.key)} {choice.label} ")
            yield Horizontal(*buttons, id="choices")

    def on_key(self, event: events.Key) -> None:
        """Choose by key; Enter is for the button that has the focus."""
        for choice in self._choices:
            if event.key == choice.key != "enter":
                # Otherwise the screen below, which comes to the front now, would take the key for itself.
                event.stop()
                event.prevent_default()
                self._choose(choice.name)

    def on_action_button_pressed(self, message: ActionButton.Pressed) -> None:
        """Choose by button."""
        message.stop()
        self._choose(message.action)

    def action_confirm(self) -> None:
        """Choose what is asked for."""
        self._choose(self._choices[0].name)

    def _choose(self, name: str) -> None:
        self.dismiss(name or None)
