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
    """Classify your own image files, with a run or with a file that finetui export wrote.

    Files that cannot be read are reported, and the rest are classified. The exit status is 2 if you named one of those
    files yourself, or if a folder holds nothing else.

    Parameters
    ----------
    files
        The image files, or folders of them.
    top
        How many of the likeliest classes to show (default: 5).
    threshold
        Abstain where the likeliest class is less probable than this, from 0 to 1 (default: 0, never).
    invert
        Swap light and dark first: for black ink on white paper, if the network was trained on white on black.
    csv
        Print CSV: path, prediction (empty below --threshold), problem, class_1, probability_1 and so on.
    json
        Print one JSON object per file, one per line: path, prediction, top, problem.
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
