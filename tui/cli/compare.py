"""`finetui compare`: runs side by side, in what was set differently and in what came of it."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from finetui.engine.errors import BadInput
from finetui.engine.runs.folder import find_run
from finetui.tui.cli.complete import runs
from finetui.tui.cli.options import RunsDir


def compare(
    *names: Annotated[str, Parameter(name="RUN", help="The runs: their names or folders.", completer=runs)],
    runs_dir: RunsDir = Path("checkpoints"),
    json: bool = False,
) -> int:
    """Compare runs side by side: the settings that differ, their scores, and McNemar's test of each pair.

    It compares the predictions of each run's best evaluation during training. McNemar's test asks whether one of two
    runs is better on the same images: p is the probability of counts at least as unequal if both were equally good;
    Holm's is corrected for the number of pairs.

    Parameters
    ----------
    json
        Print one JSON object: runs, settings, scores and pairs.
    """
    from finetui.tui.cli.compare_report import print_report  # numpy takes a while to import

    folders = list({found.path.absolute(): found for found in (find_run(name, runs_dir) for name in names)}.values())
    if len(folders) < 2:
        raise BadInput("compare: name two runs or more, as in finetui compare RUN OTHER")
    print_report(folders, json=json)
    return 0
