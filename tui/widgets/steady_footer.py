"""Textual's footer, made anew only where what it shows has changed."""

from textual.binding import Binding
from textual.screen import Screen
from textual.widgets import Footer


class SteadyFooter(Footer):
    """Shows the keys of the screen.

    Textual's own is taken apart and built again whenever the focus moves, which takes longer than all else that a key
    does.
    """

    _shown: tuple[tuple[Binding, bool, str], ...] | None = None

    def bindings_changed(self, screen: Screen[object]) -> None:
        """Show the keys that there are now."""
        if not (screen.app.app_focus and self.is_attached and screen is self.screen):
            return
        active = screen.active_bindings.values()
        shown = tuple((binding, enabled, tooltip) for _, binding, enabled, tooltip in active if binding.show)
        if shown != self._shown:
            self._shown = shown
            super().bindings_changed(screen)
