"""A form in a box: rows that are checked as one types, a button that applies them, one that leaves."""

import re
from pathlib import Path, PurePath
from typing import ClassVar, Generic, TypeVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Input, Static

from finetui.engine.errors import BadInput
from finetui.tui.keys import KEYS, bind
from finetui.tui.screens.base import ModalScreen
from finetui.tui.widgets.action_button import ActionButton
from finetui.tui.widgets.form_rows import ChoiceRow

T = TypeVar("T")
# In a text field as well, where Enter would otherwise go to the next row.
ENTER = bind("confirm", "enter", label="Apply", priority=True)
FORM_CSS = Path(__file__).with_name("form.tcss")  # a name alone would be looked up beside the subclass


class Form(ModalScreen[T | None], Generic[T]):
    """Asks for a `T`: a subclass gives the rows, and reads them. It is dismissed with None by Escape."""

    CSS_PATH: ClassVar[list[str | PurePath]] = [FORM_CSS]
    TITLE_TEXT: ClassVar[str] = ""
    INTRODUCTION = "A form. Enter applies it, even from a text field; Escape cancels."
    APPLY: ClassVar[tuple[str, str]] = (KEYS["confirm"].shown, "Apply")  # key and label of the button
    LEAVE: ClassVar[str] = "Cancel"
    BINDINGS: ClassVar[list[BindingType]] = [
        ENTER,
        bind("back", "leave"),
    ]

    def compose(self) -> ComposeResult:
        """Title, rows, what is wrong with them, buttons."""
        with Vertical(id="box"):
            yield Static(Content.styled(self.TITLE_TEXT, "bold $accent"), id="title")
            yield from self.body()
            yield Static(id="words")
            with Horizontal(id="choices"):
                yield from self.buttons()

    def buttons(self) -> ComposeResult:
        """The two buttons."""
        yield ActionButton("apply", *self.APPLY, id="apply")
        yield ActionButton("leave", KEYS["back"].shown, self.LEAVE, id="leave")

    def body(self) -> ComposeResult:
        """The rows, and what stands beside them."""
        with VerticalScroll(id="rows", can_focus=False):
            yield from self.rows()

    def rows(self) -> list[Widget]:
        """Return the rows."""
        raise NotImplementedError

    def read(self) -> T:
        """Return what the rows say. Raises `BadInput`."""
        raise NotImplementedError

    def words(self, found: T) -> str:
        """Return what will be done with `found`, in words."""
        return ""

    def on_mount(self) -> None:
        """Check what is there."""
        self._check()

    def choice(self, name: str) -> str:
        """Return the option chosen in the row `name`."""
        return self.query_one(f"#{name}", ChoiceRow).value

    def field(self, name: str) -> Input:
        """Return the text field of the row `name`."""
        return self.query_one(f"#{name}", Input)

    def text(self, name: str) -> str:
        """Return what was typed into the row `name`."""
        return self.field(name).value.strip()

    def number(self, name: str, what: str, *, empty: float | None = None) -> float:
        """Return the number in the row `name`, `empty` where there is nothing. Raises `BadInput`, which says `what`."""
        text = self.text(name)
        if not text and empty is not None:
            return empty
        try:
            return float(text)
        except ValueError:
            raise BadInput(f"{what}: {text!r} is not a number") from None

    def whole_number(self, name: str, what: str) -> int:
        """Return the whole number in the row `name`. Raises `BadInput`, which says `what` is to be one."""
        text = self.text(name)
        if not re.fullmatch("[0-9]+", text):
            raise BadInput(f"{what}: give a whole number{f', not {text!r}' if text else ''}")
        return int(text)

    def on_choice_row_changed(self) -> None:
        """Check anew."""
        self._check()

    def on_input_changed(self) -> None:
        """Check anew."""
        self._check()

    def _check(self) -> T | None:
        try:
            found = self.read()
        except BadInput as error:
            self._say(Content.styled(str(error), "$error"))
            return None
        self._say(Content.styled(self.words(found), "$muted"))
        return found

    def _say(self, words: Content) -> None:
        self.query_one("#words", Static).update(words)

    def on_action_button_pressed(self, message: ActionButton.Pressed) -> None:
        """Apply, or leave."""
        message.stop()
        if message.action == "apply":
            self.action_apply()
        else:
            self.action_leave()

    def action_enter(self) -> None:
        """Do what Enter means where the focus is."""
        if self.focused is not None and self.focused.id == "leave":
            self.action_leave()
        else:
            self.action_apply()

    def action_apply(self) -> None:
        """Be done, if nothing is wrong."""
        found = self._check()
        if found is not None:
            self.dismiss(found)

    def action_leave(self) -> None:
        """Change nothing."""
        self.dismiss(None)
