"""The report on a run as Markdown: the tables, and what each mistake is."""

import re
from collections.abc import Iterator, Sequence

from finetui.engine.text import clean
from finetui.tui.cli.card_facts import Card, Section

_SIGNS = re.compile(r"([\\`*_{}\[\]()#+!|~<>&$])")


def _text(words: str) -> str:
    """Return `words` so that Markdown, and HTML within it, takes none of their signs for its own.

    Nor is anything a link that begins as one does.
    """
    return re.sub(r"(?<=\w):(?=//)|(?<=www)\.", lambda found: "\\" + found[0], _SIGNS.sub(r"\\\1", clean(words, 4096)))


def as_markdown(card: Card) -> str:
    """Return the report as Markdown."""
    return "\n".join(_lines(card)) + "\n"


def _lines(card: Card) -> Iterator[str]:
    yield f"# {_text(card.name)}\n\n{_text(card.headline)}\n"
    for section in (*card.before, *card.after):
        yield from _section(section)
    if card.classes:
        rows = tuple((name, *map(str, row)) for name, row in zip(card.classes, card.matrix, strict=True))
        yield from _section(Section("Confusion matrix", rows, ("true / predicted", *card.classes)))
    if card.mistakes:
        rows = tuple((m.name, m.true, m.predicted, f"{m.confidence:.1%}", f"{m.loss:.3f}") for m in card.mistakes)
        title = f"Mistakes: {len(rows):,} of {card.wrong:,}"
        yield from _section(Section(title, rows, ("image", "true", "predicted", "confidence", "loss")))
    yield _text(card.made)


def _section(section: Section) -> Iterator[str]:
    if not section.rows:
        return
    yield f"## {_text(section.title)}\n"
    yield _row(section.head or ("",) * len(section.rows[0]))
    yield _row(("---",) * len(section.rows[0]), raw=True)
    yield from (_row(row) for row in section.rows)
    yield ""


def _row(cells: Sequence[str], *, raw: bool = False) -> str:
    return f"| {' | '.join(cell if raw else _text(cell) for cell in cells)} |"
