"""`finetui errors`: what is asked of the predictions of a run or a checkpoint."""

from dataclasses import dataclass, replace
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

_PART = (
    "Which images: train, val or test (default: for a run val, else test, as in training; for a file test, else val)."
)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ListedOptions:
    """Which images are listed, and in which order."""

    show: Show = "wrong"
    "wrong (default), unsure (right by a small margin), right, or all."
    true: str | None = None
    "Only images of this class, by name or number."
    pred: str | None = None
    "Only images predicted as this class, by name or number."
    min_confidence: float = 0.0
    "Only predictions at least this sure, from 0 to 1."
    max_confidence: float = 1.0
    "Only predictions at most this sure, from 0 to 1."
    text: str = ""
    "Only images with this in their path."
    label_errors: bool | LabelFilter = False
    "Only possible label errors, by confident-learning (default) or prune-by-noise-rate."
    duplicates: bool = False
    "Only images that are in the training set as well."
    compare: Annotated[str | None, Parameter(completer=checkpoints)] = None
    "Another run, checkpoint or predictions file (such as that of an export), to see what changed from it to RUN."
    change: Literal["fixed", "newly-wrong", "broken", "still-wrong", "other-class"] | None = None
    "With --compare: fixed, newly-wrong (default; broken is the same), still-wrong, or other-class, right or wrong."
    sort: Sort = "loss"
    "loss (default, highest first), confidence (highest first), margin (lowest first) or index."
    reverse: bool = False
    "Reverse the order."

    def check(self) -> None:
        """Raise `BadInput` where the confidences are no range."""
        low, high = self.min_confidence, self.max_confidence
        if not 0 <= low <= high <= 1:
            raise BadInput(
                f"--min-confidence and --max-confidence: give a range within 0 to 1, not {low:g} to {high:g}"
            )

    def choose(self, classes: tuple[str, ...]) -> Selection:
        """Return what these options list of images of `classes`. Raises `BadInput`."""
        from finetui.tui.state.class_names import class_number

        by_default: LabelFilter | None = "confident-learning" if self.label_errors else None
        change = "broken" if self.change == "newly-wrong" else self.change
        return Selection(
            show=self.show,
            true=class_number(self.true, classes, "--true"),
            predicted=class_number(self.pred, classes, "--pred"),
            low=self.min_confidence,
            high=self.max_confidence,
            text=self.text,
            label_errors=by_default if isinstance(self.label_errors, bool) else self.label_errors,
            duplicates=self.duplicates,
            change=change or ("broken" if self.compare is not None else ""),
            sort=self.sort,
            reverse=self.reverse,
        )


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class PrintedOptions:
    """What is done with the list."""

    limit: WholeNumber = 20
    "Number of images to print (default: 20; 0: all)."
    confusion: bool = False
    "Print the most confused pairs of classes and, of ten classes or fewer, the matrix."
    per_class: bool = False
    "Print each class, the one with most mistakes first: what it is mistaken for, precision, recall, F1, loss."
    export: str = ""
    "Write everything that is listed to a file (.csv, .json, .png for a contact sheet) or to a folder of images."
    force: bool = False
    "Overwrite existing files."
    dashboard: bool = False
    "Open the Errors screen, on a run's last evaluation."
    images: PrintedImages = "auto"
    json: bool = False
    (
        "Print a JSON list of objects: index, path, true, predicted, confidence, loss, margin, top and more. With "
        "--compare, an object with that list as images, and compared_with and mcnemar as well; with --per-class "
        "the objects are classes."
    )
    csv: bool = False
    "Print the same as CSV."

    def check(self) -> None:
        """Raise `BadInput` where these options do not go together."""
        if self.limit < 0:
            raise BadInput(f"--limit: give a number of images, or 0 for all, not {self.limit}")
        if self.json and self.csv:
            raise BadInput("--json and --csv: choose one of them")
        if self.per_class and (self.csv or self.confusion or self.export):
            raise BadInput("--per-class: leave out --csv, --confusion and --export")

    @property
    def form(self) -> Literal["json", "csv", "text"]:
        """How the list is printed."""
        return "json" if self.json else "csv" if self.csv else "text"


def errors(
    run: Checkpoint,
    /,
    *,
    listed: ListedOptions | None = None,
    printed: PrintedOptions | None = None,
    data: str | None = None,
    data_dir: DataDir = None,
    part: Annotated[Part | None, Parameter(help=_PART)] = None,
    model: AnyCheckpointModel = "lenet",
    device: Device = "auto",
    classes_by: ClassesByOption = "name",
    runs_dir: RunsDir = Path("checkpoints"),
    weights: WeightsOptions | None = None,
) -> int:
    """List the images that a run or a checkpoint gets wrong.

    For a run, these are the predictions of its best evaluation during training, on val if it has val images, else on
    test. A checkpoint file, or any other --part, is evaluated now.

    Parameters
    ----------
    data
        Data set (default: the one it was trained on).
    """
    from finetui.tui.cli.errors_report import Place

    listed, printed = listed or ListedOptions(), printed or PrintedOptions()
    listed.check()
    printed.check()
    bare = (weights or WeightsOptions()).given()
    place = Place(run, runs_dir, data, data_dir, model, device, classes_by, bare, part)
    if not printed.dashboard:
        return _print(place, listed, printed)
    if part is not None:
        raise BadInput("--dashboard: leave out --part; p switches the part there")
    if printed != PrintedOptions(dashboard=True, images=printed.images, limit=printed.limit, force=printed.force):
        raise BadInput("--dashboard: leave out the matrix and exports; C and > show and write them there")
    if listed.compare or listed.change:
        raise BadInput("--dashboard: leave out --compare and --change; D compares there")
    return _open_dashboard(place, listed.choose, printed.images)


def _print(place: "Place", listed: ListedOptions, printed: PrintedOptions) -> int:
    from finetui.tui.cli.errors_report import Origin, make_listing, print_classes, print_errors

    origin = Origin(place)
    other = Origin(replace(place, run_or_file=listed.compare)) if listed.compare is not None else None
    try:
        if printed.per_class:
            return print_classes(origin.predictions(), as_json=printed.json)
        selection = listed.choose(origin.predictions().classes)
        listing = make_listing(origin, selection, compare=other, duplicates=listed.duplicates)
        return print_errors(
            origin,
            listing,
            limit=printed.limit,
            form=printed.form,
            images=printed.images,
            confusion=printed.confusion,
            to=printed.export,
            overwrite=printed.force,
        )
    finally:
        origin.close()
        if other is not None:
            other.close()


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
