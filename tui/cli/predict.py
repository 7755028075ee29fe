"""`finetui predict`: image files of a person's own, classified."""

from pathlib import Path

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
    invert: bool = False,
    model: AnyCheckpointModel = "lenet",
    device: Device = "auto",
    runs_dir: RunsDir = Path("checkpoints"),
    images: PrintedImages = "auto",
    json: bool = False,
    weights: WeightsOptions | None = None,
) -> int:
    """Classify image files of your own.

    Exit status 2 when one of them could not be read; the others are classified all the same.

    Parameters
    ----------
    files
        The image files.
    top
        Likeliest classes to show (default: 5).
    invert
        Exchange light and dark first: for black ink on white paper, where the network learned from white on black.
    json
        Print a JSON list of objects: path, top, problem.
    """
    from finetui.tui.cli.predict_report import print_predictions

    checkpoint = find_checkpoint(run, runs_dir)
    return print_predictions(
        checkpoint,
        files,
        top=top,
        model=model,
        device=device,
        invert=invert,
        images=images,
        as_json=json,
        bare=(weights or WeightsOptions()).given(),
    )
