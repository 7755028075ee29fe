"""Settings and scores of several runs, as tables."""

from collections.abc import Sequence

from rich.cells import cell_len
from textual.content import Content

from finetui.tui.state.run_columns import cut
from finetui.tui.state.run_comparison import (
    AnyHistory,
    Scores,
    differing_settings,
    in_words,
    pair_rows,
    score_rows,
)

_GAP, _LONGEST = 2, 40
_WORDS = (
    "McNemar's exact test: p is the probability of counts at least this unequal if both runs were equally good.",
    "Holm's p is corrected for the number of pairs; below 0.05, one of the two is better.",
)


def settings_content(histories: Sequence[AnyHistory]) -> Content:
    """Return the settings that differ, a column for each run."""
    views = [history.store.view for history in histories]
    told = [{} if view.data is None else view.hparams for view in views]  # of a run that cannot be read none is known
    found, same = differing_settings([history.config for history in histories], told)
    heading = ["", *(history.folder.name for history in histories)]
    rows = [heading, *([row.name, *map(in_words, row.values)] for row in found)]
    others = f"{same} other settings are the same." if found else f"All {same} settings are the same."
    styles = ["$muted", *(f"$run-{number}" for number in range(1, len(histories) + 1))]
    lines = _table(rows, frozenset(), [styles, *[["$muted"] for _ in found]])
    return Content("\n").join([*lines, Content(""), Content.styled(others, "$muted")])


def scores_content(scores: Scores) -> Content:
    """Return the scores of the runs, and what McNemar's test says of each pair."""
    rows, right = score_rows(scores)
    lines = _table(rows, right, [["$muted"] * len(rows[0]), *([f"$run-{at}"] for at in range(1, len(rows)))])
    pairs, right, _ = pair_rows(scores)
    if len(pairs) > 1:
        styles = [["", "", "", "", "", *(["bold"] * 2 if _is_sure(row[-1]) else [])] for row in pairs[1:]]
        lines += [Content(""), *_table(pairs, right, [["$muted"] * len(pairs[0]), *styles])]
    return Content("\n").join(lines)


def scores_notes(scores: Scores) -> Content:
    """Return what is to be known of the pairs, and why some cannot be compared: sentences, to be wrapped."""
    pairs, _, not_compared = pair_rows(scores)
    words = [Content.styled(words, "$muted") for words in _WORDS] if len(pairs) > 1 else []
    return Content("\n").join([*words, *(Content.styled(why, "$warning") for why in not_compared)])


def _is_sure(p: str) -> bool:
    return p != "-" and float(p) < 0.05


def _table(rows: Sequence[Sequence[str]], right: frozenset[int], styles: Sequence[Sequence[str]]) -> list[Content]:
    """Return `rows` as lines; `styles` are those of the first cells of each."""
    cut_rows = [[_cut(cell) for cell in row] for row in rows]
    widths = [max(cell_len(row[at]) for row in cut_rows) for at in range(len(rows[0]))]
    lines = []
    for row, of_row in zip(cut_rows, styles, strict=True):
        parts: list[tuple[str, str]] = []
        for at, cell in enumerate(row):
            space = " " * (widths[at] - cell_len(cell))
            style = of_row[at] if at < len(of_row) else ""
            parts += [(space + cell if at in right else cell + space, style), (" " * _GAP, "")]
        lines.append(Content.assemble(*parts))
    return lines


def _cut(text: str) -> str:
    """Return `text`, not too long; what is most telling of a path is its end."""
    if "/" in text and len(text) > _LONGEST:
        return f"…{text[1 - _LONGEST :]}"
    return cut(text, _LONGEST)
