"""The help for the Log screen."""

from finetui.tui.screens.help import HelpScreen

_INTRODUCTION = (
    "The journal is what happened in this run, from its beginning: when, after how many training steps, and who asked "
    "for it where several dashboards are open. A ! marks warnings, a ✗ errors.\n\n"
    "↶ marks a return to a checkpoint. What it undid is struck through and says undone: it happened, but the weights "
    "that the run has now know nothing of it.\n\n"
    "The engine's output is what the engine process and its libraries printed, which never reaches the screen "
    "otherwise; the newest 5,000 lines of it."
)
_KEYS = (
    ("↑ ↓", "Scroll; PgUp, PgDn and the mouse wheel as well"),
    ("end", "Go to the end and follow it; scrolling up stops that"),
    ("home", "Go to the beginning"),
    ("/", "Show only lines with these words, as they are typed; enter goes back to the lines, escape clears"),
    ("w", "Warnings and errors only, or all lines"),
    ("1 2 e", "The journal; the engine's output; the other of the two"),
    ("esc", "Clear the filter; without one, back"),
    ("o q", "Back"),
)


def log_help() -> HelpScreen:
    """Return the help for the Log screen."""
    return HelpScreen("The Log screen", _INTRODUCTION, _KEYS)
