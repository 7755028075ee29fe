"""What all screens have in common: one that is being taken away hears nothing any more."""

from typing import TYPE_CHECKING, TypeVar

from textual import events, messages, screen
from textual.await_remove import AwaitRemove
from textual.command import CommandPalette
from textual.message import Message
from textual.message_pump import MessagePump

if TYPE_CHECKING:
    from textual.widget import Widget as _Base
else:
    _Base = MessagePump  # what a widget is beside this, a screen inherits from Textual's

T = TypeVar("T")
_LIFE = (events.Compose, events.Unmount, messages.Prune, messages.CloseMessages)  # by which Textual takes it away


class _Departing(_Base):
    """Drops what comes once it is dismissed, or the program left: its widgets may be gone, or have never come."""

    @property
    def stands(self) -> bool:
        """Whether its widgets are there: an answer, or a thread, may come when they are not any more."""
        return self.is_mounted and not self._departs

    @property
    def _departs(self) -> bool:
        return self._pruning or self.app._exit

    def remove(self) -> AwaitRemove:
        """Take it away, and with it what its workers still do on the event loop."""
        self.workers.cancel_node(self)
        return super().remove()

    async def _dispatch_message(self, message: Message) -> None:
        if not self._departs or isinstance(message, _LIFE):
            await super()._dispatch_message(message)


class Screen(_Departing, screen.Screen[T]):
    """A screen that fills the terminal."""


class ModalScreen(_Departing, screen.ModalScreen[T]):
    """A screen in a box over another one."""


class Palette(_Departing, CommandPalette):
    """Textual's command palette, whose search ends with it."""
