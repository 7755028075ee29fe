"""`finetui evaluate`: the scores of a checkpoint on a part of a data set, as a table or as JSON."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import finetui
from finetui.engine.runs.folder import find_checkpoint
from finetui.tui.cli.noted import note_test
from finetui.tui.cli.options import (
    AnyCheckpointModel,
    AnyPart,
    Checkpoint,
    ClassesByOption,
    DataDir,
    Device,
    RunsDir,
    WeightsOptions,
)
from finetui.tui.cli.reports import print_json, table
from finetui.tui.state.scores import HEADING, NAME_WIDTH, class_rows, diagram, facts

if TYPE_CHECKING:
    from finetui.engine.inspection.opened_checkpoint import CheckpointReport


def evaluate(
    run: Checkpoint,
    /,
    *,
    data: str | None = None,
    data_dir: DataDir = None,
    part: AnyPart = None,
    model: AnyCheckpointModel = "lenet",
    device: Device = "auto",
    classes_by: ClassesByOption = "name",
    runs_dir: RunsDir = Path("checkpoints"),
    calibration: bool = False,
    json: bool = False,
    weights: WeightsOptions | None = None,
) -> int:
    """Score a run or a checkpoint on the test images, or on another part of the data.

    Parameters
    ----------
    data
        Data set (default: the one it was trained on).
    calibration
        Also draw the reliability diagram: accuracy against confidence.
    json
        Print one JSON object: accuracy, interval, log_loss, n, per_class, confusion, calibration, notices and more.
    """
    path = find_checkpoint(run, runs_dir)
    found = finetui.evaluate_checkpoint(
        path,
        data=data,
        data_dir=data_dir,
        model=model,
        device=device,
        classes_by=classes_by,
        bare=(weights or WeightsOptions()).given(),
        part=part,
    )
    for notice in found.notices:
        print(notice, file=sys.stderr)
    if found.part == "test":
        note_test("evaluate", path, data, accuracy=found.scores.accuracy, n=found.scores.n)
    if json:
        print_json(_as_object(found))
    else:
        _print(found, calibration=calibration)
    return 0


def _print(found: "CheckpointReport", *, calibration: bool) -> None:
    told = facts(found.scores, found.part, found.temperature, found.report.uncalibrated)
    print("\n".join(f"{name:<{NAME_WIDTH}}{words}" for name, words in told))
    print()
    rows = [[name.upper() for name in HEADING], *class_rows(found.scores)]
    print(table(rows, right=frozenset(range(1, len(HEADING)))))
    if calibration:
        print()
        print("\n".join(diagram(found.scores.calibration)))


def _as_object(found: "CheckpointReport") -> dict[str, object]:
    """Return what `--json` prints. `confusion` has a row for each true class, a column for each predicted."""
    scores = found.scores
    without = found.report.uncalibrated
    return {
        "accuracy": scores.accuracy,
        "loss": scores.log_loss,
        "n": scores.n,
        "per_class": scores.per_class,
        "confusion": found.report.confusion.tolist(),
        "part": found.part,
        "interval": scores.interval,
        "balanced_accuracy": scores.balanced_accuracy,
        "macro": scores.macro,
        "weighted": scores.weighted,
        "majority_baseline": scores.majority_baseline,
        "majority_class": scores.majority_class,
        "top5": scores.top5,
        "log_loss": scores.log_loss,
        "calibration_error": scores.calibration_error,
        "calibration": scores.calibration,
        "roc_auc": scores.roc_auc,
        "average_precision": scores.average_precision,
        "macro_roc_auc": scores.macro_roc_auc,
        "macro_average_precision": scores.macro_average_precision,
        "temperature": found.temperature,
        "notices": found.notices,
        "uncalibrated": None if without is None else {"log_loss": without[0], "calibration_error": without[1]},
    }
