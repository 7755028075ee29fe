"""`finetui evaluate`: the scores of a checkpoint on a test set, as a table or as JSON."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import finetui
from finetui.engine.predictions.interval import accuracy_words
from finetui.engine.runs.folder import find_checkpoint
from finetui.tui.cli.options import CheckpointModel, DataDir, Device, From, RunsDir
from finetui.tui.cli.reports import print_json, table
from finetui.tui.state.calibration import diagram

if TYPE_CHECKING:
    from finetui.engine.inspection.opened_checkpoint import CheckpointReport
    from finetui.engine.predictions.metrics import Scores

_NAME = 20  # cells


def evaluate(
    *,
    from_: From,
    data: str | None = None,
    data_dir: DataDir = None,
    model: CheckpointModel = "lenet",
    device: Device = "auto",
    runs_dir: RunsDir = Path("checkpoints"),
    calibration: bool = False,
    json: bool = False,
) -> int:
    """Score a run or a checkpoint on a test set.

    Parameters
    ----------
    data
        Data set (default: the one that it was trained on).
    calibration
        Also draw the reliability diagram: how often the network is right when it is how sure.
    json
        Print one JSON object: accuracy, interval, log_loss, n, per_class, confusion, calibration and more.
    """
    found = finetui.evaluate_checkpoint(
        find_checkpoint(from_, runs_dir), data=data, data_dir=data_dir, model=model, device=device
    )
    for notice in found.notices:
        print(notice, file=sys.stderr)
    if json:
        print_json(_as_object(found))
        return 0
    print("\n".join(_lines(found)))
    print()
    print(_class_table(found.scores))
    if calibration:
        print()
        print("\n".join(diagram(found.scores.calibration)))
    return 0


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
        "uncalibrated": None if without is None else {"log_loss": without[0], "calibration_error": without[1]},
    }


def _lines(found: "CheckpointReport") -> Iterator[str]:
    """Yield the scores of all images together."""
    scores, without = found.scores, found.report.uncalibrated
    was = ("", "") if without is None else (f"  ({without[0]:.4f} uncalibrated)", f", {without[1]:.2%} uncalibrated")
    facts = [
        ("accuracy", accuracy_words(scores.accuracy, scores.n)),
        ("balanced accuracy", f"{scores.balanced_accuracy:.2%}"),
        ("majority baseline", f"{scores.majority_baseline:.2%} (always {scores.majority_class})"),
        *([] if scores.top5 is None else [("top-5 accuracy", f"{scores.top5:.2%}")]),
        ("log loss", f"{scores.log_loss:.4f}{was[0]}"),
        ("calibration error", f"{scores.calibration_error:.2%} (expected, {len(scores.calibration)} bins{was[1]})"),
        *([] if found.temperature == 1 else [("temperature", f"{found.temperature:.4f}")]),
    ]
    yield from (f"{name:<{_NAME}}{words}" for name, words in facts)


def _class_table(scores: "Scores") -> str:
    """Return each class's scores, and below them the averages as scikit-learn's classification_report has them."""
    rows = [["CLASS", "SUPPORT", "PRECISION", "RECALL", "F1", "ROC-AUC", "AP"]]
    nothing = (None,) * len(scores.per_class)
    areas = (*(scores.roc_auc or nothing), scores.macro_roc_auc, None)
    precisions = (*(scores.average_precision or nothing), scores.macro_average_precision, None)
    for c, *of_class in zip((*scores.per_class, scores.macro, scores.weighted), areas, precisions, strict=True):
        ranks = ("-" if value is None else f"{value:.4f}" for value in of_class)
        rows.append([c.label, str(c.support), f"{c.precision:.4f}", f"{c.recall:.4f}", f"{c.f1:.4f}", *ranks])
    return table(rows, right=frozenset(range(1, len(rows[0]))))
