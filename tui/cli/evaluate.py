"""`finetui evaluate`."""

import sys
from pathlib import Path

import finetui
from finetui.tui.cli.reports import Scores, print_scores


def evaluate_headless(
    path: Path, *, data: str | None, data_dir: Path | None, model: str, device: str, as_json: bool
) -> int:
    """Evaluate the checkpoint `path`, print its scores and return the exit status."""
    found = finetui.evaluate_checkpoint(path, data=data, data_dir=data_dir, model=model, device=device)
    for notice in found.notices:
        print(notice, file=sys.stderr)
    report = found.report
    scores = Scores(
        accuracy=report.accuracy,
        loss=report.loss,
        n=report.n,
        per_class=report.per_class,
        confusion=report.confusion.tolist(),
    )
    print_scores(scores, as_json=as_json)
    return 0
