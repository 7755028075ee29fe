"""The report on a run as one HTML file: no script, nothing from elsewhere, and every text in it escaped."""

import base64
from collections.abc import Iterator, Sequence
from html import escape

from finetui.engine.text import clean
from finetui.tui.cli.card_facts import Card, Mistake, Section
from finetui.tui.cli.card_plot import svg

# Also a browser is told: whatever a class is called, nothing is run, and nothing is fetched.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_STYLE = """
:root { color-scheme: light dark; --line: color-mix(in srgb, currentColor 22%, transparent); }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; }
h1 { margin-bottom: 0; overflow-wrap: anywhere; } h2 { margin: 2rem 0 .5rem; font-size: 1.15rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; }
th, td { text-align: left; padding: .15rem .8rem .15rem 0; border-bottom: 1px solid var(--line); vertical-align: top;
  overflow-wrap: anywhere; }
thead th { font-weight: 600; } tbody th { font-weight: 400; opacity: .75; }
.matrix td { text-align: right; padding: .15rem .5rem; } .matrix th { padding-right: .5rem; }
.plots { display: flex; flex-wrap: wrap; gap: 1rem; }
figure { margin: 0; } figcaption { font-size: .85rem; overflow-wrap: anywhere; }
.mistakes { display: grid; grid-template-columns: repeat(auto-fill, minmax(7.5rem, 1fr)); gap: 1rem; }
.mistakes img { width: 96px; height: 96px; object-fit: contain; image-rendering: pixelated; background: #8883; }
.small { font-size: .85rem; opacity: .75; }
"""


def _text(words: str) -> str:
    return escape(clean(words, 4096), quote=True)


def as_html(card: Card) -> str:
    """Return the report as an HTML document."""
    return "\n".join(_document(card)) + "\n"


def _document(card: Card) -> Iterator[str]:
    yield '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">'
    yield f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{_text(card.name)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>"
    yield f"<h1>{_text(card.name)}</h1>\n<p>{_text(card.headline)}</p>"
    for section in card.before:
        yield from _section(section)
    if card.plots:
        yield '<h2>Curves</h2>\n<div class="plots">'
        for plot in card.plots:
            yield f"<figure>{svg(plot, _text)}</figure>"
        yield "</div>"
    yield from _mistakes(card.mistakes, card.wrong)
    yield from _matrix(card.classes, card.matrix)
    for section in card.after:
        yield from _section(section)
    yield f'<p class="small">{_text(card.made)}</p>\n</body>\n</html>'


def _section(section: Section) -> Iterator[str]:
    if not section.rows:
        return
    yield f'<h2>{_text(section.title)}</h2>\n<div class="wide"><table>'
    if section.head:
        yield f"<thead><tr>{''.join(f'<th>{_text(cell)}</th>' for cell in section.head)}</tr></thead>"
    yield "<tbody>"
    for name, *cells in section.rows:
        yield f"<tr><th>{_text(name)}</th>{''.join(f'<td>{_text(cell)}</td>' for cell in cells)}</tr>"
    yield "</tbody></table></div>"


def _matrix(classes: Sequence[str], matrix: Sequence[Sequence[int]]) -> Iterator[str]:
    if not classes:
        return
    yield '<h2>Confusion matrix</h2>\n<p class="small">Rows are true, columns predicted classes.</p>'
    heads = "".join(f"<th>{_text(name)}</th>" for name in classes)
    yield f'<div class="wide"><table class="matrix"><thead><tr><th></th>{heads}</tr></thead><tbody>'
    for number, (name, row) in enumerate(zip(classes, matrix, strict=True)):
        total = max(sum(row), 1)
        cells = "".join(_cell(n, n / total, own=number == k) for k, n in enumerate(row))
        yield f"<tr><th>{_text(name)}</th>{cells}</tr>"
    yield "</tbody></table></div>"


def _cell(count: int, share: float, *, own: bool) -> str:
    colour = "46, 125, 50" if own else "198, 40, 40"
    shade = f' style="background: rgba({colour}, {0.08 + 0.6 * share:.2f})"' if count else ""
    return f"<td{shade}>{count or ''}</td>"


def _mistakes(mistakes: Sequence[Mistake], wrong: int) -> Iterator[str]:
    if not mistakes:
        return
    yield f'<h2>Mistakes</h2>\n<p class="small">{len(mistakes):,} of {wrong:,}, highest loss first.</p>'
    yield '<div class="mistakes">'
    for found in mistakes:
        source = base64.b64encode(found.png).decode()
        shown = f'<img alt="" src="data:image/png;base64,{source}">' if found.png else f"<p>{_text(found.problem)}</p>"
        said = f"{_text(found.true)} &rarr; {_text(found.predicted)} {found.confidence:.1%}"
        named = f'<span class="small">{_text(found.name)}</span>'
        yield f"<figure>{shown}<figcaption>{said}<br>{named}</figcaption></figure>"
    yield "</div>"
