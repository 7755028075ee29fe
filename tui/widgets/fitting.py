"""Words side by side, as many as there is room for."""

from collections.abc import Sequence
from typing import NamedTuple

from textual.content import Content


class Part(NamedTuple):
    """Some words, and how much they are missed where there is no room: 0 stays to the end."""

    text: Content
    rank: int


def kept(parts: Sequence[Part], width: int, gap: int = 2) -> list[Part]:
    """Return those of `parts` that fit in `width` cells, `gap` between two; the least missed are left out."""
    found = list(parts)
    while len(found) > 1 and sum(part.text.cell_length + gap for part in found) - gap > width:
        found.remove(max(reversed(found), key=lambda part: part.rank))
    return found


def fitting(parts: Sequence[Part], width: int, gap: str = "  ") -> Content:
    """Return those of `parts` that fit in `width` side by side."""
    return Content(gap).join([part.text for part in kept(parts, width, len(gap))])
