"""`finetui calibrate`: a temperature for a checkpoint, so that its confidence means what it says."""

from dataclasses import asdict
from pathlib import Path

import finetui
from finetui.engine.runs.folder import find_checkpoint
from finetui.tui.cli.options import Checkpoint, CheckpointModel, DataDir, Device, RunsDir
from finetui.tui.cli.reports import print_json


def calibrate(
    run: Checkpoint,
    /,
    *,
    data: str | None = None,
    data_dir: DataDir = None,
    model: CheckpointModel = "lenet",
    device: Device = "auto",
    runs_dir: RunsDir = Path("checkpoints"),
    json: bool = False,
) -> int:
    """Fit a temperature on the validation images, and save it in the checkpoint for predict and evaluate.

    The predicted classes do not change, only their probabilities. Further training discards the temperature.

    Parameters
    ----------
    data
        Data set with a validation part (default: the one it was trained on).
    json
        Print one JSON object: path, temperature, n, log_loss and calibration_error, each before and after.
    """
    found = finetui.calibrate(find_checkpoint(run, runs_dir), data=data, data_dir=data_dir, model=model, device=device)
    if json:
        print_json(asdict(found) | {"path": str(found.path)})
        return 0
    print(f"temperature {found.temperature:.4f}, fitted on {found.n:,} val images, kept in {found.path}")
    print("  log loss           {:.4f}, was {:.4f}".format(*reversed(found.log_loss)))
    before, after = found.calibration_error
    print(
        f"  calibration error  {after:.2%}, was {before:.2%}{'; higher, with so few images' if after > before else ''}"
    )
    return 0
