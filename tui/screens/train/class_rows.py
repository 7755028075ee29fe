"""How a class stands in the per-class table: its mistakes first, and the other figures as far as there is room."""

from collections.abc import Iterable, Sequence
from heapq import nsmallest
from typing import NamedTuple

from rich.cells import cell_len
from textual.content import Content

from finetui.engine.predictions.interval import wilson
from finetui.engine.protocol.events import ClassReport, Evaluated
from finetui.tui.keys import KEYS

MOST_ROWS = 1000  # classes, the worst ones
_FIGURES = (("precision", 11), ("recall", 8), ("F1", 8), ("loss", 8), ("images", 8))
_FIRST = ("recall", "precision", "F1", "loss", "images")  # where there is no room for all of them
_MIN_LABEL, _MAX_LABEL = 6, 24
_MIN_BAR, _ROOMY_BAR, _MAX_BAR = 5, 12, 40
_CHANGE = 8
_LEAST_WRONG = 6  # as its heading takes
_WORD, _MOSTLY = " wrong", "  mostly → "


class ClassRow(NamedTuple):
    """A class by its number and name, what was found of it, and how many more mistakes than before."""

    number: int
    label: str
    report: ClassReport | None  # None before the first evaluation
    change: int | None = None  # since the previous evaluation
    mistaken_for: str = ""


class Widest(NamedTuple):
    """The cells that the longest name, number of mistakes, and name that a class is mistaken for take."""

    label: int = 0
    wrong: int = 1
    name: int = 0


class Layout(NamedTuple):
    """Widths in cells (0: left out), the words that there is room for, and the figures by their names."""

    label: int
    bar: int
    wrong: int
    word: str
    change: int
    mostly: str
    name: int
    figures: tuple[str, ...]


def worst_first(found: Evaluated, before: Evaluated | None) -> list[ClassRow]:
    """Return a row for each class of `found`, those with most mistakes first, `MOST_ROWS` at most."""
    reports = found.per_class
    earlier = {row.label: row for row in before.per_class} if before is not None else {}
    order = nsmallest(MOST_ROWS, range(len(reports)), key=lambda i: (-reports[i].wrong, i))
    rows = []
    for index in order:
        report = reports[index]
        was, other = earlier.get(report.label), report.mistaken_for
        known = other is not None and 0 <= other < len(reports)
        rows.append(
            ClassRow(
                index,
                report.label,
                report,
                None if was is None else report.wrong - was.wrong,
                reports[other].label if other is not None and known else "",
            )
        )
    return rows


def widest(rows: Sequence[ClassRow]) -> Widest:
    """Return what `layout` has to know of `rows`."""
    return Widest(
        max((cell_len(row.label) for row in rows), default=0),
        max((len(f"{row.report.wrong:,}") for row in rows if row.report), default=1),
        max((cell_len(row.mistaken_for) for row in rows), default=0),
    )


def layout(width: int, longest: Widest) -> Layout:
    """Lay rows out in `width` cells: the less room there is, the fewer words, then no change, then no bar."""
    label = max(_MIN_LABEL, min(longest.label + 2, _MAX_LABEL))
    name, wrong = longest.name, max(longest.wrong + 2, _LEAST_WRONG)
    attempts = (
        (_WORD, _CHANGE, _MOSTLY),
        (_WORD, _CHANGE, "  → "),
        ("", _CHANGE, "  → "),
        ("", 0, "  → "),
    )
    for word, change, mostly in attempts:
        bar = width - label - wrong - len(word) - change - len(mostly) - name
        if bar >= _MIN_BAR:
            break
    else:
        # A name that is cut says less than no bar.
        label = max(_MIN_LABEL, min(label, label + bar))
        bar = 0
    figures: set[str] = set()
    for figure in _FIRST:
        size = dict(_FIGURES)[figure]
        if bar - size < _ROOMY_BAR:
            break
        bar -= size
        figures.add(figure)
    shown = tuple(title for title, _ in _FIGURES if title in figures)
    return Layout(label, min(bar, _MAX_BAR), wrong, word, change, mostly, name, shown)


def heading(found: Layout, part: str, left_out: int) -> Content:
    """Return the names of those columns whose cells do not say it; `images` are those of `part`.

    `left_out` is the number of classes that have no row.
    """
    label = f" class (+{left_out:,})" if left_out else " class"
    mostly = len(found.mostly) + found.name
    parts = [
        label.ljust(found.label + found.bar)[: found.label + found.bar],
        ("" if found.word else "wrong").rjust(found.wrong + len(found.word)),
        "change".rjust(found.change) if found.change else "",
        ("  mostly" if not found.word and mostly >= len("  mostly") else "").ljust(mostly),
    ]
    parts += [(part if title == "images" else title).rjust(dict(_FIGURES)[title]) for title in found.figures]
    return Content("".join(parts))


def line(row: ClassRow, found: Layout, most: int) -> Content:
    """Return `row`; the bar of a class with `most` mistakes is the longest."""
    report = row.report
    label = Content(" " + row.label).truncate(found.label, ellipsis=True, pad=True)
    if report is None:
        return Content.assemble(label, ("–", "$muted"))
    wrong = report.wrong
    full = min(max(round(wrong / max(most, 1) * (found.bar - 1)), int(wrong > 0)), max(found.bar - 1, 0))
    change = "" if row.change is None else f"{row.change:+,}" if row.change else "="
    tone = "$muted" if not row.change else "$success" if row.change < 0 else "$error"
    mostly = Content.assemble((found.mostly, "$muted"), row.mistaken_for) if row.mistaken_for else Content("")
    return Content.assemble(
        label,
        ("▇" * full, "$bar"),
        " " * (found.bar - full),
        (f"{wrong:>{found.wrong},}", "bold"),
        (found.word, "$muted"),
        (change.rjust(found.change) if found.change else "", tone),
        mostly.truncate(len(found.mostly) + found.name, ellipsis=True, pad=True),
        *_figures(report, found.figures),
    )


def _figures(report: ClassReport, names: Iterable[str]) -> list[str]:
    values = {
        "precision": f"{report.precision:.4f}",
        "recall": f"{report.recall:.4f}",
        "F1": f"{report.f1:.4f}",
        "loss": "–" if report.loss is None else f"{report.loss:.4f}",
        "images": f"{report.support:,}",
    }
    return [values[name].rjust(dict(_FIGURES)[name]) for name in names]


def average(report: ClassReport, found: Layout, width: int) -> Content:
    """Return an average of the classes below their columns, or where there are none in words, as far as they fit."""
    label = " " + report.label
    if found.figures:
        before = found.label + found.bar + found.wrong + len(found.word) + found.change + len(found.mostly)
        return Content.styled(label.ljust(before + found.name) + "".join(_figures(report, found.figures)), "$muted")
    figures = [f"precision {report.precision:.4f}", f"recall {report.recall:.4f}", f"F1 {report.f1:.4f}"]
    words = next((words for n in range(3) if len(words := "  ".join(figures[n:])) + 15 <= width), figures[-1])
    return Content.styled(f"{label:<15}{words}", "$muted")


def total(found: Evaluated | None, width: int) -> Content:
    """Return the accuracy on all images, with its interval and their number as far as there is room."""
    if found is None:
        brief, more = " No evaluation yet", f". Press {KEYS['evaluate'].shown} to evaluate now."
        return Content.styled(brief + more if len(brief + more) <= width else brief, "$muted")
    if found.accuracy is None or not found.n:
        if found.accuracy is None:
            return Content.styled(f" {found.part} accuracy was not logged", "$muted")
        return Content.assemble((f" {found.accuracy:.2%}", "bold"), (f" of {found.part} images correct", "$muted"))
    low, high = wilson(found.accuracy, found.n)
    accuracy, size = (f" {found.accuracy:.2%}", "bold"), f"{found.n:,} {found.part} images"
    for words in (
        f" of {size} correct, 95% CI {100 * low:.2f} to {high:.2%}",
        f" of {size}, 95% CI {100 * low:.2f} to {high:.2%}",
        f" of {size}, {100 * low:.2f} to {high:.2%}",
        f" of {size}",
        f" of {found.n:,}",
    ):
        content = Content.assemble(accuracy, (words, "$muted"))
        if content.cell_length <= width:
            break
    return content
