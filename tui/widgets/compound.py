"""Widgets that are made of others.

This relies on private names of Textual's; `tests/tui/test_textual_overrides.py` fails where they change.
"""

from typing import TYPE_CHECKING

from textual import events, messages
from textual.message import Message
from textual.message_pump import MessagePump
from textual.widget import Widget

if TYPE_CHECKING:
    _Base = Widget
else:
    _Base = MessagePump  # Textual looks for stylesheets in the first base that is a widget: that must be its own

# What Textual takes a widget away with.
_LIFE = (events.Compose, events.ScreenSuspend, events.Unmount, messages.Prune, messages.CloseMessages)


class Compound(_Base):
    """A first base of a widget with parts: it drops what comes once it is taken away, as its parts may be gone.

    Or they have never come: a widget that is composed when it is taken away already, or the program left, gets none,
    and is told that it is mounted all the same.
    """

    @property
    def _is_going(self) -> bool:
        """Whether it is being taken away, or the program left."""
        return self._pruning or self.app._exit

    async def _dispatch_message(self, message: Message) -> None:
        if not self._is_going or isinstance(message, _LIFE) or self._is_strangers(message):
            await super()._dispatch_message(message)

    def _is_strangers(self, message: Message) -> bool:
        """Return whether somebody else only wants to know when this widget has got so far."""
        if not isinstance(message, events.Callback):
            return False
        callback = getattr(message.callback, "func", message.callback)  # of a partial
        return getattr(callback, "__self__", None) is not self
