"""Cleaning of text that comes from outside: class names, paths, run names, log lines."""

import unicodedata

_REMOVED_CATEGORIES = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def clean(text: str, limit: int = 200) -> str:
    """Return `text` as one harmless line of at most `limit` characters.

    Control characters (C0, C1, so every escape sequence's first byte), format characters (bidirectional
    overrides, zero width) and line separators are each replaced by `�`: a terminal obeys them wherever
    they stand, and widgets pass them through. Tabs and newlines become a space. A longer text ends in `…`.
    """
    if len(text) <= limit and text.isascii() and text.isprintable():
        return text
    # A hostile name can be millions of characters long; only what can be shown is looked at.
    head = text[: limit + 1]
    cleaned = "".join(
        " " if char in "\t\n\r" else "�" if unicodedata.category(char) in _REMOVED_CATEGORIES else char for char in head
    )
    return cleaned if len(cleaned) <= limit else cleaned[: limit - 1] + "…"


def snake_case(name: str) -> str:
    """Return a CamelCase name as snake_case: the tag of an event or a command on the wire."""
    return "".join("_" + char.lower() if char.isupper() else char for char in name).lstrip("_")
