"""`finetui export`: a trained network as ONNX, pt2 or safetensors, proved against its checkpoint."""

import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

import finetui
from finetui.engine.runs.folder import find_checkpoint
from finetui.engine.text import clean
from finetui.tui.cli.noted import note_test
from finetui.tui.cli.options import AnyPart, Checkpoint, CheckpointModel, DataDir, EarlierCheckpoint, RunsDir
from finetui.tui.cli.reports import print_json


def export(
    run: Checkpoint,
    /,
    *,
    to: Annotated[Literal["onnx", "pt2", "safetensors"], Parameter(help="onnx, pt2 (torch.export) or safetensors.")],
    output: Annotated[
        Path | None, Parameter(help="The file to write (default: beside the checkpoint, with the same name).")
    ] = None,
    checkpoint: EarlierCheckpoint = "",
    force: bool = False,
    data: str | None = None,
    data_dir: DataDir = None,
    part: AnyPart = None,
    model: CheckpointModel = "lenet",
    runs_dir: RunsDir = Path("checkpoints"),
    json: bool = False,
) -> int:
    """Export a run's network for other programs, and prove that the file predicts what the checkpoint predicts.

    The file includes class names and preprocessing. It is then run on the CPU over the test images (else val) and
    compared with the checkpoint. A certificate beside it lists every image that the two classify differently; so do
    the predictions beside that, for finetui errors --compare. The exit status is 1 if there are any.

    Parameters
    ----------
    force
        Overwrite existing files.
    data
        Data set to compare on (default: the one it was trained on).
    json
        Print the certificate as one JSON object.
    """
    path = find_checkpoint(f"{run}:{checkpoint}" if checkpoint else run, runs_dir)
    found = finetui.export_checkpoint(
        path,
        to,
        output or path.with_suffix(f".{to}"),
        data=data,
        data_dir=data_dir,
        model=model,
        part=part,
        overwrite=force,
        command=("finetui", *sys.argv[1:]),
        progress=_Teller(),
    )
    if found.part == "test":
        note_test("export", path, data, accuracy=found.exported_accuracy, n=found.n)
    if json:
        print_json(found)
    else:
        print(found.text(), end="")
        if not found.clean:
            own = "" if found.part == "val" else f" --part {found.part}"
            where = clean(str((output or path).with_name(found.predictions)), 1000)
            print(f"list them: finetui errors {clean(run)}{own} --compare {where} --change other-class")
    return 0 if found.clean else 1


class _Teller:
    """Says on standard error what is being done, each thing once."""

    def __init__(self) -> None:
        self._phase = ""

    def __call__(self, phase: str, _done: int, _total: int) -> None:
        if phase != self._phase:
            self._phase = phase
            print(phase, file=sys.stderr, flush=True)
