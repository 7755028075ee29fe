"""`finetui compare`: runs side by side, in what was set differently and in what came of it."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from finetui.engine.errors import BadInput
from finetui.engine.runs.folder import find_run
from finetui.tui.cli.complete import runs
from finetui.tui.cli.options import RunsDir
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


def compare(
    *names: Annotated[str, Parameter(name="RUN", help="The runs: their names or folders.", completer=runs)],
    runs_dir: RunsDir = Path("checkpoints"),
    json: bool = False,
) -> int:
    """Put runs side by side: the settings that differ, their scores, and McNemar's test of each pair.

    Scored are the predictions of each run's best evaluation while training. McNemar's test asks whether one of two runs
    is better on the same images: p is the probability, were both equally good, of counts at least as unequal; Holm's is
    corrected for the number of pairs.

    Parameters
    ----------
    json
        Print one JSON object: runs, settings, scores and pairs.
    """
    folders = list({found.path.absolute(): found for found in (find_run(name, runs_dir) for name in names)}.values())
    if len(folders) < 2:
        raise BadInput("compare: name two runs or more, as in finetui compare RUN OTHER")
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
    return 0


def _report(names: Sequence[str], settings: Sequence[Setting], same: int, scores: Scores) -> Iterator[str]:
    if settings:
        rows = [["SETTING", *names], *([row.name, *map(in_words, row.values)] for row in settings)]
        yield table(rows, right=frozenset())
    yield f"{same} other settings are the same." if settings else f"All {same} settings are the same."
    yield ""
    rows, right = score_rows(scores)
    yield table(rows, right)
    yield ""
    rows, right, not_compared = pair_rows(scores)
    if len(rows) > 1:
        yield table(rows, right)
    yield from not_compared
