"""The titles of the frames on the Train screen, with the figures that belong there."""

from textual.content import Content
from textual.screen import Screen

from finetui.tui.keys import KEYS
from finetui.tui.screens.train.settings_panel import brief_settings
from finetui.tui.state.numbers import short
from finetui.tui.state.view import View


class Titles:
    """Writes titles into the frames of `screen`, those that changed: a frame is painted anew with its title."""

    def __init__(self, screen: Screen[None]) -> None:
        self._screen = screen
        self._written: dict[str, str] = {}

    def show(self, view: View) -> None:
        """Bring the titles up to date with `view`."""
        self._write("classes", "Classes", _mistakes(view))
        brief = view.data is not None and not self._screen.query_one("#settings").display
        self._write("controls", "Controls", brief_settings(view.config) if brief and view.hparams is None else "")
        self._write("layers", "Layers", _trained(view), KEYS["layers"].shown)
        self._write("settings", "Settings", "")
        self._write("log", "Log", "", KEYS["log"].shown)

    def _write(self, name: str, title: str, figures: str, key: str = "") -> None:
        """Write a title into a frame, before it the key of the screen that has more."""
        if self._written.get(name) != figures:
            self._written[name] = figures
            more = (f" ─ {figures}", "not bold $muted") if figures else ""
            self._screen.query_one(f"#{name}").border_title = Content.assemble(
                (f"{key} " if key else "", "$accent"), title, more
            )


def _mistakes(view: View) -> str:
    found = view.evaluation
    if found is None or found.accuracy is None or not found.n:
        return ""
    return f"{found.n - round(found.accuracy * found.n):,} of {found.n:,} wrong"


def _trained(view: View) -> str:
    if not view.layers:
        return ""
    trained, parameters = (sum(getattr(group, name) for group in view.layers) for name in ("trainable", "parameters"))
    shown = f"{trained:,} of {parameters:,}" if parameters < 1_000_000 else f"{short(trained)} of {short(parameters)}"
    return f"{shown} trainable"
