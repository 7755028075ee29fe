"""`finetui evaluate`: the scores of a checkpoint on a part of a data set, as a table or as JSON."""

import sys
from pathlib import Path

import msgspec

import finetui
from finetui.engine.protocol.events import ClassReport
from finetui.engine.protocol.values import Part
from finetui.engine.runs.folder import find_checkpoint
from finetui.tui.cli.options import AnyPart, CheckpointModel, DataDir, Device, From, RunsDir
from finetui.tui.cli.reports import print_json, table


class Scores(msgspec.Struct, frozen=True, kw_only=True):
    """What `finetui evaluate --json` prints. `confusion` has a row for each true class, a column for each predicted."""

    accuracy: float
    loss: float
    n: int
    per_class: tuple[ClassReport, ...]
    confusion: list[list[int]]
    part: Part


def evaluate(
    *,
    from_: From,
    data: str | None = None,
    data_dir: DataDir = None,
    part: AnyPart = None,
    model: CheckpointModel = "lenet",
    device: Device = "auto",
    runs_dir: RunsDir = Path("checkpoints"),
    json: bool = False,
) -> int:
    """Score a run or a checkpoint on the test images, or on another part of the data.

    Parameters
    ----------
    data
        Data set (default: the one that it was trained on).
    json
        Print one JSON object: accuracy, loss, n, per_class, confusion, part.
    """
    found = finetui.evaluate_checkpoint(
        find_checkpoint(from_, runs_dir), data=data, data_dir=data_dir, model=model, device=device, part=part
    )
    for notice in found.notices:
        print(notice, file=sys.stderr)
    report = found.report
    scores = Scores(
        part=found.part,
        accuracy=report.accuracy,
        loss=report.loss,
        n=report.n,
        per_class=report.per_class,
        confusion=report.confusion.tolist(),
    )
    _print(scores, as_json=json)
    return 0


def _print(scores: Scores, *, as_json: bool) -> None:
    """Print the scores as a table, or as one JSON object."""
    if as_json:
        print_json(scores)
        return
    print(f"{scores.part} accuracy {scores.accuracy:.2%}   loss {scores.loss:.4f}   images {scores.n}\n")
    rows = [("CLASS", "SUPPORT", "PRECISION", "RECALL", "F1", "ACCURACY")]
    rows += [
        (c.label, str(c.support), f"{c.precision:.4f}", f"{c.recall:.4f}", f"{c.f1:.4f}", f"{c.accuracy:.2%}")
        for c in scores.per_class
    ]
    print(table(rows, right=frozenset(range(1, 6))))
