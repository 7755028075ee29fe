"""The lines above the curves that say what a person should not miss: why a run failed, an alert, notices."""

from textual import events
from textual.content import Content
from textual.widgets import Static

from finetui.engine.protocol.events import Alert
from finetui.tui.state.view import View


class Banner(Static):
    """Shows why a run failed, an alert or, before it starts, what there is to know about its data; else nothing."""

    def __init__(self) -> None:
        super().__init__(id="banner")
        self._view: View | None = None
        self._hidden: Alert | None = None  # that was taken note of

    def show(self, view: View) -> None:
        """Say what `view` calls for."""
        before, self._view = self._view, view
        said = ("state", "reason", "notices", "alert")
        if before is None or any(getattr(view, name) != getattr(before, name) for name in said):
            self._show()

    def hide_alert(self) -> bool:
        """Take the alert that is shown off the screen; tell whether there was one."""
        was_shown = self.display
        self._hidden = self._view.alert if self._view is not None else None
        self._show()
        return was_shown and not self.display

    def on_click(self, _event: events.Click) -> None:
        """A click on an alert hides it."""
        self.hide_alert()

    def _show(self) -> None:
        view = self._view
        if view is None:
            return
        failed = view.state in ("failed", "crashed")
        text = Content(view.reason if failed else "\n".join(view.notices) if view.state == "ready" else "")
        alert = view.alert
        if alert is not None and alert is not self._hidden and view.state in ("running", "paused"):
            text = Content.assemble((f"! Alert, {alert.kind}: ", "bold"), alert.message, ("  esc hides it", "$muted"))
        self.set_class(failed, "-failed")
        self.display = bool(text)
        self.update(text)
