"""`finetui errors`: what is asked of the predictions of a run or a checkpoint."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from finetui.engine.errors import BadInput
from finetui.engine.predictions.criteria import Choose, LabelFilter, Selection, Show, Sort
from finetui.engine.protocol.values import Part
from finetui.tui.cli.complete import checkpoints
from finetui.tui.cli.options import (
    AnyCheckpointModel,
    Checkpoint,
    ClassesByOption,
    DataDir,
    Device,
    PrintedImages,
    RunsDir,
    WeightsOptions,
    WholeNumber,
)

if TYPE_CHECKING:
    from finetui.tui.cli.errors_report import Place


def errors(
    run: Checkpoint,
    /,
    *,
    show: Show = "wrong",
    true: str | None = None,
    pred: str | None = None,
    min_confidence: float = 0.0,
    max_confidence: float = 1.0,
    text: str = "",
    label_errors: bool | LabelFilter = False,
    duplicates: bool = False,
    compare: Annotated[str | None, Parameter(completer=checkpoints)] = None,
    change: Literal["fixed", "broken", "still-wrong"] | None = None,
    sort: Sort = "loss",
    reverse: bool = False,
    limit: WholeNumber = 20,
    confusion: bool = False,
    export: str = "",
    force: bool = False,
    dashboard: bool = False,
    data: str | None = None,
    data_dir: DataDir = None,
    part: Annotated[
        Part | None,
        Parameter(
            help="Which images: train, val or test (default: of a run val, else test, as while training; of a file "
            "test, else val)."
        ),
    ] = None,
    model: AnyCheckpointModel = "lenet",
    device: Device = "auto",
    classes_by: ClassesByOption = "name",
    runs_dir: RunsDir = Path("checkpoints"),
    images: PrintedImages = "auto",
    json: bool = False,
    csv: bool = False,
    weights: WeightsOptions | None = None,
) -> int:
    """List the images that a run or a checkpoint gets wrong.

    Of a run the predictions of its best evaluation while training are listed, of val where it has val images, else of
    test; a checkpoint file, and any other --part, is evaluated now.

    Parameters
    ----------
    show
        wrong (default), unsure (right by a small margin), right, or all.
    true
        Only images of this class, by name or number.
    pred
        Only images taken for this class, by name or number.
    min_confidence
        Only predictions at least this sure, from 0 to 1.
    max_confidence
        Only predictions at most this sure, from 0 to 1.
    text
        Only images with this in their path.
    label_errors
        Only images whose label is possibly wrong, by confident-learning (default) or prune-by-noise-rate.
    duplicates
        Only images that are in the training set as well.
    compare
        Another run or checkpoint, to see what changed from it to RUN.
    change
        With --compare: fixed, broken (default) or still-wrong.
    sort
        loss (default, highest first), confidence (highest first), margin (lowest first) or index.
    reverse
        Turn the order round.
    limit
        Images to print (default: 20; 0: all).
    confusion
        Print the most confused pairs of classes and, of ten classes or fewer, the matrix.
    export
        Write everything that is listed to a file (.csv, .json, .png for a contact sheet) or to a folder of images.
    force
        Overwrite what is there.
    dashboard
        Open the Errors screen, on a run's last evaluation.
    data
        Data set (default: the one that it was trained on).
    json
        Print a JSON list of objects: index, path, true, predicted, confidence, loss, margin, top and more. With
        --compare it is the value of images in an object that has compared_with and mcnemar as well.
    csv
        Print the same as CSV.
    """
    from finetui.tui.cli.errors_report import Origin, Place, make_listing, print_errors
    from finetui.tui.state.class_names import class_number

    _check(limit, min_confidence, max_confidence, json, csv)
    by_default: LabelFilter | None = "confident-learning" if label_errors else None
    label_filter = by_default if isinstance(label_errors, bool) else label_errors
    bare = (weights or WeightsOptions()).given()
    place = Place(run, runs_dir, data, data_dir, model, device, classes_by, bare, part)

    def choose(classes: tuple[str, ...]) -> Selection:
        return Selection(
            show=show,
            true=class_number(true, classes, "--true"),
            predicted=class_number(pred, classes, "--pred"),
            low=min_confidence,
            high=max_confidence,
            text=text,
            label_errors=label_filter,
            duplicates=duplicates,
            change=change or ("broken" if compare is not None else ""),
            sort=sort,
            reverse=reverse,
        )

    if dashboard:
        if part is not None:
            raise BadInput("--dashboard: p goes to another part there; leave --part out")
        if any((compare, change, confusion, export, json, csv)):
            raise BadInput("--dashboard: comparing (d), the matrix (m) and exports (x) are keys there; leave them out")
        return _open_dashboard(place, choose, images)
    origin = Origin(place)
    other = Origin(replace(place, run_or_file=compare)) if compare is not None else None
    try:
        selection = choose(origin.predictions().classes)
        listing = make_listing(origin, selection, compare=other, duplicates=duplicates)
        form = "json" if json else "csv" if csv else "text"
        return print_errors(
            origin, listing, limit=limit, form=form, images=images, confusion=confusion, to=export, overwrite=force
        )
    finally:
        origin.close()
        if other is not None:
            other.close()


def _check(limit: int, low: float, high: float, json: bool, csv: bool) -> None:
    if limit < 0:
        raise BadInput(f"--limit: give a number of images, or 0 for all, not {limit}")
    if not 0 <= low <= high <= 1:
        raise BadInput(
            f"--min-confidence and --max-confidence go from 0 to 1, and {low:g} to {high:g} is no such range"
        )
    if json and csv:
        raise BadInput("--json and --csv: choose one of them")


def _open_dashboard(place: "Place", choose: Choose, images: str) -> int:
    from finetui.engine.predictions.file import load_predictions
    from finetui.engine.protocol.requests import Inspection
    from finetui.engine.runs.folder import find_checkpoint, find_run
    from finetui.tui.app.launch import open_checkpoint, open_finished_run

    drawn = "auto" if images == "none" else images
    if not place.is_file and place.data_dir is None:
        folder = find_run(place.run_or_file, place.runs_dir)
        if folder.last_predictions.is_file():
            choose(load_predictions(folder.last_predictions).classes)  # a class that is not there is said here
        return open_finished_run(folder, data=place.data, model=place.model, images=drawn, errors=choose)
    inspection = Inspection(
        checkpoint=str(find_checkpoint(place.run_or_file, place.runs_dir).absolute()),
        data=place.data,
        data_dir=str(place.data_dir) if place.data_dir is not None else None,
        model=place.model,
        device=place.device,
        classes_by=place.classes_by,
        bare=place.bare,
    )
    return open_checkpoint(inspection, choose, images=drawn)
