"""Sequences for the terminal that tmux runs in."""

import os


def through_tmux(sequence: str) -> str:
    """Return `sequence` as tmux passes it on where it may (set -g allow-passthrough on); empty outside of tmux."""
    if "TMUX" not in os.environ:
        return ""
    return "\x1bPtmux;" + sequence.replace("\x1b", "\x1b\x1b") + "\x1b\\"
