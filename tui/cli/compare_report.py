"""What `finetui compare` prints."""

from collections.abc import Iterator, Sequence

from finetui.engine.runs.folder import RunFolder
from finetui.tui.cli.reports import print_json, table
from finetui.tui.state.run_comparison import (
    History,
    Scores,
    Setting,
    differing_settings,
    in_words,
    pair_rows,
    score_rows,
    scores_of,
)


def print_report(folders: Sequence[RunFolder], *, json: bool) -> None:
    """Print the settings that differ between the runs in `folders`, their scores and each pair's; or as `json`."""
    histories = [History(folder) for folder in folders]
    for history in histories:
        history.read()
    settings, same = differing_settings([history.config for history in histories])
    scores = scores_of(folders)
    if json:
        print_json({"runs": [folder.name for folder in folders], "settings": settings, "same_settings": same,
                    "scores": scores.scores, "pairs": scores.pairs})  # fmt: skip
    else:
        print("\n".join(_report([folder.name for folder in folders], settings, same, scores)))


def _report(names: Sequence[str], settings: Sequence[Setting], same: int, scores: Scores) -> Iterator[str]:
    if settings:
        rows = [["SETTING", *names], *([row.name, *map(in_words, row.values)] for row in settings)]
        yield table(rows, right=frozenset())
    yield f"{same} other settings are the same." if settings else f"All {same} settings are the same."
    yield ""
    rows, right = score_rows(scores)
    yield table(_headed(rows), right)
    yield ""
    rows, right, not_compared = pair_rows(scores)
    if len(rows) > 1:
        yield table(_headed(rows), right)
    yield from not_compared


def _headed(rows: Sequence[Sequence[str]]) -> list[Sequence[str]]:
    """Return `rows` with the heads as commands print them."""
    return [[name.upper() for name in rows[0]], *rows[1:]]
