"""How images are drawn in this terminal."""

import os
from collections.abc import Callable, Mapping
from typing import Literal, get_args

Mode = Literal["blocks", "ascii", "sixel", "kitty"]
MODES = ("auto", *get_args(Mode))

# Terminals that may have graphics: only these are asked. Asking costs a tenth of a second where nobody answers, and an
# answer that comes late over a slow line would be taken for keys.
_MAY_HAVE_GRAPHICS = ("kitty", "ghostty", "foot", "mlterm", "wezterm", "contour", "mintty", "iterm", "yaft", "vt340")
_MULTIPLEXERS = ("TMUX", "STY", "ZELLIJ")


def choose_mode(asked: str, environ: Mapping[str, str] = os.environ, answers: Callable[[], Mode] | None = None) -> Mode:
    """Return how to draw images: as `asked`, or for "auto" as this terminal allows.

    It has to be called before Textual takes the terminal over. `answers` asks the terminal what graphics it has, and is
    asked only where these can be expected; by default the library textual-image does that.
    """
    ask = answers or _ask_terminal
    if asked in ("sixel", "kitty"):
        ask()  # the library learns how large a cell is
        return "sixel" if asked == "sixel" else "kitty"
    if asked in ("blocks", "ascii"):
        return "blocks" if asked == "blocks" else "ascii"
    if environ.get("NO_COLOR") or not _speaks_utf8(environ):
        return "ascii"
    names = f"{environ.get('TERM', '')} {environ.get('TERM_PROGRAM', '')}".lower()
    # What is between us and the terminal does not pass graphics on reliably.
    between = any(environ.get(name) for name in _MULTIPLEXERS)
    mode = ask() if not between and any(name in names for name in _MAY_HAVE_GRAPHICS) else "blocks"
    return "ascii" if mode == "blocks" and _has_few_colours(environ) else mode


def _speaks_utf8(environ: Mapping[str, str]) -> bool:
    name = next((environ[key] for key in ("LC_ALL", "LC_CTYPE", "LANG") if environ.get(key)), "C.UTF-8")
    return name.lower().replace("-", "").endswith("utf8") or "utf8" in name.lower().replace("-", "")


def _has_few_colours(environ: Mapping[str, str]) -> bool:
    """Tell whether Textual, that is Rich, will use 16 colours or fewer here."""
    if environ.get("COLORTERM", "").strip().lower() in ("truecolor", "24bit"):
        return False
    return environ.get("TERM", "").strip().lower().rpartition("-")[2] not in ("256color", "kitty")


def _ask_terminal() -> Mode:
    from textual_image import renderable  # asks while it is imported

    if renderable.Image is renderable.SixelImage:
        return "sixel"
    return "kitty" if renderable.Image is renderable.TGPImage else "blocks"
