"""The line in which a filter is typed."""

from typing import ClassVar

from textual.binding import BindingType
from textual.widgets import Input

from finetui.tui.keys import bind


class FilterInput(Input):
    """Enter goes to what is listed and keeps the filter; Escape goes there without it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        bind("confirm", "submit", label="Done"),
        bind("back", "clear", label="Clear"),
    ]

    def __init__(self, id: str, placeholder: str) -> None:  # noqa: A002
        super().__init__(id=id, compact=True, placeholder=placeholder, select_on_focus=False, max_length=500)
        self.cursor_blink = False

    def action_clear(self) -> None:
        """Take the filter away and go back to the list."""
        self.value = ""
        self.post_message(self.Submitted(self, "", None))
