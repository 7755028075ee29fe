"""Cleaning of text that comes from outside: class names, paths, run names, log lines."""

import unicodedata
from collections.abc import Iterable, Iterator

_REMOVED_CATEGORIES = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
# Letters and marks that nobody sees: what is written with them looks like something else. Not U+FE0F, which belongs to
# emoji.
_INVISIBLE = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u3164\uffa0") | frozenset(
    map(chr, [*range(0xFE00, 0xFE0F), *range(0xE0100, 0xE01F0)])
)
_MOST_NAMED = 8
_MOST_MARKS = 4  # above one letter; no language has more, and higher piles reach into the lines above


def clean(text: str, limit: int = 200) -> str:
    """Return `text` as one harmless line of at most `limit` characters.

    Control characters (C0, C1, so every escape sequence's first byte), format characters (bidirectional
    overrides, zero width), invisible letters and line separators are each replaced by `�`: a terminal obeys them
    wherever they stand, and widgets pass them through. Tabs and newlines become a space. Piles of accents are cut.
    A longer text ends in `…`.
    """
    if len(text) <= limit and text.isascii() and text.isprintable():
        return text
    # A hostile name can be millions of characters long; only what can be shown is looked at.
    cleaned = "".join(_harmless(text[:limit]))
    return cleaned if len(text) <= limit else cleaned[: limit - 1] + "…"


def _harmless(text: str) -> Iterator[str]:
    marks = 0
    for char in text:
        category = unicodedata.category(char)
        marks = marks + 1 if category in ("Mn", "Me") else 0
        if char in "\t\n\r":
            yield " "
        elif category in _REMOVED_CATEGORIES or char in _INVISIBLE:
            yield "�"
        elif marks <= _MOST_MARKS:
            yield char


def similar(word: str, known: Iterable[str], most: int = 3) -> list[str]:
    """Return at most `most` of `known` that a person who typed `word` may have meant, the likeliest first."""
    import difflib  # costs 10 ms of start-up, needed only here

    names = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), names, n=most)
    close += [name for name in names if word and word.lower() in name and name not in close]
    return [names[name] for name in close[:most]]


def meant(word: str, known: Iterable[str], otherwise: str = "there are") -> str:
    """Return the end of a sentence about a `word` that is none of `known`: the near ones, else the first few."""
    names = list(known)
    close = similar(word, names)
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"{otherwise}: {', '.join(names[:_MOST_NAMED])}{', ...' if len(names) > _MOST_NAMED else ''}"


def snake_case(name: str) -> str:
    """Return a CamelCase name as snake_case: the tag of an event or a command on the wire."""
    return "".join("_" + char.lower() if char.isupper() else char for char in name).lstrip("_")


def figure_text(by: str, value: float) -> str:
    """Return what an evaluation is judged by (`checkpoints.best_by`) and its value, for people: `macro F1 91.20%`."""
    name = {"macro-f1": "macro F1", "balanced-accuracy": "balanced accuracy", "top5": "top-5 accuracy"}.get(by, by)
    return f"{name} {value:.4f}" if by == "loss" else f"{name} {value:.2%}"
