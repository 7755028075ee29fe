"""A one-line button that can say why it cannot be used."""

from typing import ClassVar

from textual import events
from textual.binding import BindingType
from textual.content import Content
from textual.message import Message
from textual.widget import Widget

from finetui.tui.keys import bind


class ActionButton(Widget, can_focus=True):
    """Shows a key and a label. Where its action makes no sense it is dim, no stop for Tab, and says why when tried."""

    DEFAULT_CSS = """
    ActionButton {
        height: 1;
        width: 1fr;
        min-width: 10;
        text-wrap: nowrap;
        text-overflow: clip;
        background: $button;
        &:hover { background: $button-hover; }
        &.-chosen { background: $chosen; text-style: bold underline; }
        &:focus { background: $button-focus; color: $on-accent; text-style: bold; }
        &.-unavailable { background: $button-off; color: $disabled; }
        &.-unavailable:focus { background: $button-off-focus; color: $on-accent; }
    }
    """

    BINDINGS: ClassVar[list[BindingType]] = [bind("confirm", "press", label="Press the button", show=False)]

    class Pressed(Message):
        """Somebody pressed the button `action`."""

        def __init__(self, action: str) -> None:
            super().__init__()
            self.action = action

    class Pointed(Message):
        """Somebody looks at the button `action`: the pointer is over it, or it got the focus."""

        def __init__(self, action: str) -> None:
            super().__init__()
            self.action = action

    def __init__(self, action: str, key: str, label: str, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._face = (action, key, label)
        self._pending = False

    @property
    def action(self) -> str:
        """Name of the action that the button stands for now."""
        return self._face[0]

    def show(self, action: str, key: str, label: str, *, available: bool, pending: bool) -> None:
        """Stand for `action` from now on; `pending` means that it was asked for and not answered yet."""
        self.set_class(not available, "-unavailable")
        if (self._face, self._pending) != ((action, key, label), pending):
            self._face, self._pending = (action, key, label), pending
            self.refresh()

    def allow_focus(self) -> bool:
        """Tab stops here while the action makes sense; a button that has the focus keeps it."""
        return super().allow_focus() and (self.has_focus or not self.has_class("-unavailable"))

    def render(self) -> Content:
        """Render key and label."""
        _, key, label = self._face
        if self.has_class("-unavailable") or self.has_focus:
            return Content.assemble(" ", (key, "bold" if self.has_focus else ""), f" {label} ")
        return Content.assemble(" ", ("◌" if self._pending else key, "bold $button-key"), f" {label} ")

    def on_click(self, event: events.Click) -> None:
        """Press."""
        event.stop()
        self.action_press()

    def on_enter(self) -> None:
        """Tell that the pointer came."""
        self.post_message(self.Pointed(self.action))

    def on_focus(self) -> None:
        """Tell that the focus came."""
        self.post_message(self.Pointed(self.action))

    def action_press(self) -> None:
        """Press."""
        self.post_message(self.Pressed(self.action))
