"""What an evaluation amounts to, in words: facts, one row for each class, a reliability diagram in characters."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from finetui.engine.predictions.interval import accuracy_words
from finetui.engine.protocol.values import Part

if TYPE_CHECKING:
    from finetui.engine.predictions.metrics import Bin, Scores

HEADING = ("class", "support", "precision", "recall", "F1", "loss", "ROC-AUC", "AP")

NAME_WIDTH = 28  # cells, of the longest name in `facts` and what parts it from its value
_SHORTEST = 10


def facts(
    scores: "Scores", part: Part, temperature: float = 1.0, without: tuple[float, float] | None = None
) -> Iterator[tuple[str, str]]:
    """Yield names and values of what is known of all images of `part` together.

    `without` are log loss and calibration error without the temperature, where they are known.
    """
    loss, error = (
        ("", "") if without is None else (f" ({without[0]:.4f} uncalibrated)", f"{without[1]:.2%} uncalibrated; ")
    )
    yield f"{part} accuracy", accuracy_words(scores.accuracy, scores.n)
    yield "balanced accuracy", f"{scores.balanced_accuracy:.2%}"
    yield "majority baseline", f"{scores.majority_baseline:.2%} (always {scores.majority_class})"
    if scores.top5 is not None:
        yield "top-5 accuracy", f"{scores.top5:.2%}"
    yield "log loss", f"{scores.log_loss:.4f}{loss}"
    yield "expected calibration error", f"{scores.calibration_error:.2%} ({error}{len(scores.calibration)} bins)"
    if temperature != 1:
        yield "temperature", f"{temperature:.4f}"


def class_rows(scores: "Scores") -> Iterator[list[str]]:
    """Yield the cells below `HEADING`: each class, and the averages as scikit-learn's classification_report has them.

    What is not defined, or was not computed, is a dash.
    """
    nothing = (None,) * len(scores.per_class)
    areas = (*(scores.roc_auc or nothing), scores.macro_roc_auc, None)
    precisions = (*(scores.average_precision or nothing), scores.macro_average_precision, None)
    for c, *of_class in zip((*scores.per_class, scores.macro, scores.weighted), areas, precisions, strict=True):
        ranks = ("-" if value is None else f"{value:.4f}" for value in of_class)
        loss = "-" if c.loss is None else f"{c.loss:.4f}"
        yield [c.label, str(c.support), f"{c.precision:.4f}", f"{c.recall:.4f}", f"{c.f1:.4f}", loss, *ranks]


def diagram(bins: "Sequence[Bin]", width: int = 79) -> Iterator[str]:
    """Yield a heading and one line for each of `bins`, none longer than `width` cells.

    The bar is the accuracy, `│` the mean confidence: where the bar ends before it the network is too sure.
    """
    head = f"{'confidence':<12} {'images':>8} {'accuracy':>8} {'mean conf.':>10}"
    room = max(width - len(head) - 2, _SHORTEST)
    yield f"{head}  {'bar: accuracy, │ confidence' if room >= 27 else ''}".rstrip()
    for found in bins:
        span = f"{100 * found.low:3.0f} to {found.high:4.0%}"
        if not found.count:
            yield f"{span:<12} {0:>8} {'-':>8} {'-':>10}"
            continue
        cells = ["━" if cell < round(found.accuracy * room) else " " for cell in range(room)]
        cells[min(int(found.confidence * room), room - 1)] = "│"
        numbers = f"{found.count:>8,} {found.accuracy:>8.1%} {found.confidence:>10.1%}"
        yield f"{span:<12} {numbers}  {''.join(cells)}".rstrip()
