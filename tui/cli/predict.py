"""`finetui predict`: image files of a person's own, classified."""

from pathlib import Path

from finetui.engine.errors import BadInput
from finetui.engine.runs.folder import find_checkpoint
from finetui.tui.cli.options import (
    AnyCheckpointModel,
    Checkpoint,
    Device,
    PrintedImages,
    RunsDir,
    WeightsOptions,
    WholeNumber,
)


def predict(
    run: Checkpoint,
    /,
    *files: Path,
    top: WholeNumber = 5,
    threshold: float = 0.0,
    invert: bool = False,
    model: AnyCheckpointModel = "lenet",
    device: Device = "auto",
    runs_dir: RunsDir = Path("checkpoints"),
    images: PrintedImages = "auto",
    csv: bool = False,
    json: bool = False,
    weights: WeightsOptions | None = None,
) -> int:
    """Classify image files of your own: by a run, or by a file that finetui export wrote.

    What cannot be read is said, and the others are classified all the same. Exit status 2 when that is a file that you
    named, or all of a folder.

    Parameters
    ----------
    files
        The image files, or folders of them.
    top
        Likeliest classes to show (default: 5).
    threshold
        Tell no class that is less probable than this, from 0 to 1 (default: 0).
    invert
        Exchange light and dark first: for black ink on white paper, where the network learned from white on black.
    csv
        Print CSV: path, prediction (empty where none is sure enough), problem, class_1, probability_1 and so on.
    json
        Print a JSON object for each file, one a line: path, prediction, top, problem.
    """
    from finetui.tui.cli.predict_report import Asked, print_predictions

    if csv and json:
        raise BadInput("--json and --csv: choose one of them")
    return print_predictions(
        find_checkpoint(run, runs_dir),
        files,
        Asked(top, threshold, "csv" if csv else "json" if json else "text", images),
        model=model,
        device=device,
        invert=invert,
        bare=(weights or WeightsOptions()).given(),
    )
