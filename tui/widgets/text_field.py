"""A line of text of which the first click selects all, as the focus does by key."""

from textual import events
from textual.reactive import reactive
from textual.widgets import Input


class TextField(Input):
    """Takes whatever is typed: whoever reads it says in words what is wrong with it."""

    # From the start: Textual styles one again, and all its parts, when it is told so.
    compact: reactive[bool] = reactive(True, toggle_class="-textual-compact")
    DEFAULT_CLASSES = "-textual-compact -valid"

    def __init__(self, value: str = "", placeholder: str = "", *, id: str, max_length: int = 1000) -> None:  # noqa: A002
        super().__init__(value, placeholder, id=id, compact=True, select_on_focus=True, max_length=max_length)
        self.cursor_blink = False
        self._new = False  # nothing was typed or clicked since the focus came

    def on_focus(self) -> None:
        """Let the click that brought the focus select all."""
        self._new = True

    def on_key(self) -> None:
        """From now on a click places the cursor."""
        self._new = False

    def on_mouse_down(self, event: events.MouseDown) -> None:
        """Select all, where the focus has just come."""
        if self._new:
            self._new = False
            event.prevent_default()
            self.select_all()
