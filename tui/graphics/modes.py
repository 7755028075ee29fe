"""How images are drawn in this terminal."""

import os
from collections.abc import Callable, Mapping
from typing import Literal, get_args

from finetui.tui.colours.depth import Depth, colour_depth
from finetui.tui.graphics.probe import Answers, ask_terminal, learn_cell_size

Mode = Literal["blocks", "ascii", "sixel", "kitty"]
MODES = ("auto", *get_args(Mode))

_MULTIPLEXERS = ("TMUX", "STY", "ZELLIJ")
_REMOTE = ("SSH_CONNECTION", "SSH_CLIENT", "SSH_TTY")
# More terminals answer for Kitty's graphics, but only these know its placeholder cells, which can be used like text.
_WITH_PLACEHOLDERS = ("kitty", "ghostty")


def choose_mode(
    asked: str,
    environ: Mapping[str, str] = os.environ,
    answers: Callable[[], Answers] = ask_terminal,
    learn: Callable[[], object] = learn_cell_size,
    depth: Depth | None = None,
) -> Mode:
    """Return how to draw images: as `asked`, or for "auto" as this terminal allows; `depth`, if known, is its colours.

    It has to be called before Textual takes the terminal over. For "auto" `answers` asks the terminal what graphics it
    has, but only where nothing is between it and this program that might hold the answer back (one that comes late
    would be taken for keys) or not pass graphics on. For graphics that were asked for `learn` finds the cells' size.
    """
    match asked:
        case "sixel" | "kitty":
            learn()
            return asked
        case "blocks" | "ascii":
            return asked
    depth = depth or colour_depth(environ, tmux=str)
    if depth == "none" or not _speaks_utf8(environ):
        return "ascii"
    if not any(environ.get(name) for name in (*_MULTIPLEXERS, *_REMOTE)):
        found = answers()
        names = f"{environ.get('TERM', '')} {environ.get('TERM_PROGRAM', '')}".lower()
        if found.kitty and any(name in names for name in _WITH_PLACEHOLDERS):
            return "kitty"
        if found.sixel:
            return "sixel"
    return "ascii" if depth == "16" else "blocks"


def _speaks_utf8(environ: Mapping[str, str]) -> bool:
    name = next((environ[key] for key in ("LC_ALL", "LC_CTYPE", "LANG") if environ.get(key)), "C.UTF-8")
    return "utf8" in name.lower().replace("-", "")
