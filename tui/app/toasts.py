"""Sentences in a box above the keys that go by themselves: what became of what somebody did.

This relies on private names of Textual's; `tests/tui/test_textual_overrides.py` fails where they change.
"""

from textual.app import App
from textual.css.query import NoMatches
from textual.notifications import Notification, SeverityLevel
from textual.widget import Widget
from textual.widgets._toast import ToastRack

from finetui.engine.text import clean
from finetui.tui.screens.toast import ShowToast

_SECONDS, _WARNING_SECONDS = 6.0, 9.0
_MOST = 2  # at a time
_LIMIT = 300  # characters


class Toasts:
    """Shows what was told over the screen that is in front of `app`."""

    def __init__(self, app: App[None]) -> None:
        self._app = app
        self._shown: dict[str, tuple[Notification, str]] = {}  # by kind, the newest last, with what Copy copies

    @property
    def copies(self) -> str:
        """What the newest of those that are shown has for the clipboard; empty where none has."""
        self._forget_gone()
        return next(filter(None, (copies for _, copies in reversed(self._shown.values()))), "")

    def show(self, told: ShowToast) -> None:
        """Show it, in place of an earlier one of its kind, and of the oldest where there are many.

        What was refused before is of no interest once something was done.
        """
        self._forget_gone()
        refused = [kind for kind, (one, _) in self._shown.items() if one.severity == "warning" and not told.warns]
        for kind in [told.kind, *refused]:
            self._take_away(kind)
        while len(self._shown) >= _MOST:
            self._take_away(next(iter(self._shown)))
        seconds = _WARNING_SECONDS if told.warns else _SECONDS
        severity: SeverityLevel = "warning" if told.warns else "information"
        notification = Notification(clean(told.text, _LIMIT), severity=severity, timeout=seconds)
        self._shown[told.kind] = notification, told.copies
        self._app._notifications.add(notification)
        self.place()
        self._app._refresh_notifications()

    def place(self) -> None:
        """Let them stand below the lines at the top while what has the focus is where they would be, else above."""
        try:
            rack = self._app.screen.get_child_by_type(ToastRack)
        except NoMatches:
            return
        rack.set_class(_is_low(self._app.screen.focused, self._app.size.height), "-high")

    def _forget_gone(self) -> None:
        there = self._app._notifications
        self._shown = {kind: one for kind, one in self._shown.items() if one[0] in there and not one[0].has_expired}

    def _take_away(self, kind: str) -> None:
        notification, _ = self._shown.pop(kind, (None, ""))
        if notification is None:
            return
        del self._app._notifications[notification]
        for holder in self._app.screen.query(f"#{ToastRack._toast_id(notification)}"):
            holder.remove()


def _is_low(focused: Widget | None, height: int) -> bool:
    """Return whether a person looks at the last lines: at a field or button there, or at the end of a list."""
    if focused is None:
        return False
    region, low = focused.region, height - _MOST - 2
    cursor = getattr(focused, "cursor_line", None)  # of a list, within what is seen of it
    if region.height > _MOST + 2:
        return cursor is not None and region.y + cursor >= low
    return region.bottom > low
