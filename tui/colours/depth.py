"""How many colours the terminal has."""

import os
import subprocess
from collections.abc import Callable, Mapping
from typing import Literal

Depth = Literal["truecolor", "256", "16", "none"]

_TMUX_SECONDS = 0.5  # tmux answers within a few milliseconds


def ask_tmux() -> str:
    """Return what tmux knows of the terminal that it is shown in, as words joined by commas; empty if it cannot say."""
    try:
        asked = ["tmux", "display-message", "-p", "#{client_termfeatures}"]
        found = subprocess.run(asked, capture_output=True, text=True, timeout=_TMUX_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):  # an older one, or not in reach
        return ""
    return found.stdout.strip()


def colour_depth(environ: Mapping[str, str] = os.environ, tmux: Callable[[], str] = ask_tmux) -> Depth:
    """Return how many colours to use: none with `NO_COLOR` (no-color.org), else as the terminal says that it has.

    `TEXTUAL_COLOR_SYSTEM` (Textual's; truecolor, 256, standard) decides where it is set. Within a multiplexer
    `COLORTERM` is that of the terminal it was started in: tmux is asked about the one it is shown in now (`tmux`), and
    of GNU screen no more than 256 colours are expected.
    """
    if environ.get("NO_COLOR"):
        return "none"
    asked = environ.get("TEXTUAL_COLOR_SYSTEM", "").strip().lower()
    if asked in ("truecolor", "256"):
        return "truecolor" if asked == "truecolor" else "256"
    if asked == "standard":
        return "16"
    term = environ.get("TERM", "").strip().lower()
    has_truecolor = environ.get("COLORTERM", "").strip().lower() in ("truecolor", "24bit")
    if environ.get("TMUX") and (features := tmux()):
        passed_on = "RGB" in features.split(",")
    else:
        passed_on = has_truecolor and not environ.get("STY")
    if passed_on:
        return "truecolor"
    return "256" if has_truecolor or term.rpartition("-")[2] in ("256color", "kitty", "direct") else "16"
