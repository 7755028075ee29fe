"""`finetui errors`: what a network gets wrong, without a dashboard."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from rich.cells import cell_len
from rich.console import Console
from rich.segment import Segments
from textual.content import Content

import finetui
from finetui.engine.errors import BadInput
from finetui.engine.predictions.criteria import Selection
from finetui.engine.predictions.file import Predictions, load_predictions
from finetui.engine.predictions.given_images import answer as answer_given
from finetui.engine.predictions.images import pixels
from finetui.engine.predictions.metrics import scores_of
from finetui.engine.predictions.selection import most_confused
from finetui.engine.protocol.commands import FetchImages, FindDuplicates
from finetui.engine.protocol.events import DuplicatesFound, Images
from finetui.engine.protocol.requests import BareWeights, ClassesBy
from finetui.engine.protocol.values import ClassReport, Part
from finetui.engine.runs.folder import RunFolder, find_checkpoint, find_run_at, is_own_loop
from finetui.engine.text import clean
from finetui.tui.cli.noted import note_test
from finetui.tui.cli.reports import output_width, print_json, table, write_data
from finetui.tui.graphics import Mode, choose_mode, strips
from finetui.tui.screens.errors.text import brief_details, title
from finetui.tui.state.export import export, target_of, to_csv, to_json
from finetui.tui.state.listing import Listing, image_name, listing_of

if TYPE_CHECKING:
    from finetui.engine.inspection.opened_checkpoint import OpenedCheckpoint

_THUMBNAIL = (14, 7)  # cells
_FETCHED = 64
_SIGNS = 4  # cells for the signs after a name, and the space before them
_WIDEST_MATRIX = 10  # classes
_MOST_PAIRS = 20
Image = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Place:
    """A run or a checkpoint file, and what is needed to look at its images; see `finetui.open_checkpoint`."""

    run_or_file: str
    runs_dir: Path
    data: str | None = None
    data_dir: Path | None = None
    model: str = "lenet"
    device: str = "auto"
    classes_by: ClassesBy = "name"
    bare: BareWeights = BareWeights()  # noqa: RUF009  # frozen
    part: Part | None = None

    @property
    def is_file(self) -> bool:
        """Whether a checkpoint file is named, not a run."""
        return Path(self.run_or_file).expanduser().is_file()


class Origin:
    """The predictions of a run or a checkpoint, and its images; PyTorch is loaded only when it is needed."""

    def __init__(self, place: Place) -> None:
        """Find the checkpoint. Raises `BadInput` when there is none."""
        self._place = place
        self._opened: OpenedCheckpoint | None = None
        self._predictions: Predictions | None = None
        self._phase = ""
        folder = None if place.is_file else find_run_at(place.run_or_file, place.runs_dir)[0]
        self._own_loop = folder is not None and is_own_loop(folder)
        if folder is None or not self._own_loop:
            self.checkpoint = find_checkpoint(place.run_or_file, place.runs_dir)
        elif not folder.last_predictions.is_file():
            raise BadInput(f"the run {folder.name} has no predictions: call run.predictions in its loop")
        else:
            self.checkpoint = folder.last_predictions

    def close(self) -> None:
        """End what reads the data."""
        if self._opened is not None:
            self._opened.close()

    @property
    def name(self) -> str:
        """What it is called."""
        return self.checkpoint.name if self._place.is_file else self.checkpoint.parent.name

    def predictions(self) -> Predictions:
        """Return what a run kept of its best evaluation, if that is what is wanted; or evaluate it, once."""
        if self._predictions is None:
            self._predictions = self._find_predictions()
        return self._predictions

    def _find_predictions(self) -> Predictions:
        if self.checkpoint.suffix == ".predictions":
            return load_predictions(self.checkpoint)
        kept, part = RunFolder(self.checkpoint.parent), self._place.part
        same = not self._place.is_file and self._place.data is None and self.checkpoint == kept.best
        if same and kept.best_predictions.is_file():
            found = load_predictions(kept.best_predictions)
            part = part or found.origin.part
            # A temperature that was fitted since changes every confidence.
            fits = finetui.read_temperature(kept.best) in (None, found.origin.temperature)
            if fits and part == found.origin.part:
                return found
        opened = self.opened()
        report = opened.evaluate(self._tell, part=part)
        if (part or opened.subject.data.scored) == "test":
            note_test("errors", self.checkpoint, self._place.data, accuracy=report.accuracy, n=report.n)
        return opened.predictions(report, part)

    def opened(self) -> "OpenedCheckpoint":
        """Return the checkpoint with its data."""
        if self._opened is None:
            place = self._place
            self._tell("Importing PyTorch", 0, 0)
            self._opened = finetui.open_checkpoint(
                self.checkpoint,
                data=place.data,
                data_dir=place.data_dir,
                model=place.model,
                device=place.device,
                classes_by=place.classes_by,
                bare=place.bare,
                part=place.part,
                progress=self._tell,
            )
            for said in (*self._opened.subject.data.differences, *self._opened.matched):
                print(said, file=sys.stderr)
        return self._opened

    def images(self, part: Part, indices: Sequence[int], side: int = 0) -> list[Image | str]:
        """Return images of `part`, uint8 `[H, W, 1 or 3]` of at most `side` pixels, or what is wrong with them."""
        answerer = None if self._own_loop else finetui.Answerer(self.opened().subject)
        found: list[Image | str] = []
        for start in range(0, len(indices), _FETCHED):
            question = FetchImages(indices=tuple(indices[start : start + _FETCHED]), side=side, part=part)
            answer = answer_given(question, self.checkpoint) if answerer is None else answerer.answer(question)
            assert isinstance(answer, Images)
            found += [picture.problem or pixels(picture) for picture in answer.pictures]
        return found

    def duplicates(self, part: Part) -> DuplicatesFound:
        """Return which images of `part` are training images. Raises `BadInput` where those are not known."""
        if self._own_loop:
            raise BadInput("--duplicates: the training images of your own loop are not known")
        answer = finetui.Answerer(self.opened().subject, self._tell).answer(FindDuplicates(part=part))
        assert isinstance(answer, DuplicatesFound)
        return answer

    def _tell(self, phase: str, _done: int, _total: int) -> None:
        if phase != self._phase:
            self._phase = phase
            print(phase, file=sys.stderr, flush=True)


def make_listing(origin: Origin, selection: Selection, *, compare: Origin | None, duplicates: bool) -> Listing:
    """Return what `selection` lists, compared with `compare` and with training images looked for if so wanted."""
    listing = listing_of(origin.predictions(), Selection())
    if duplicates:
        found = origin.duplicates(listing.predictions.origin.part)
        listing = listing.with_duplicates(found.pairs, found.names)
    if compare is not None:
        advice = "--part test takes the same images of both"
        listing = listing.compared_with(compare.predictions(), compare.name, advice)
    return listing.select(selection, ())


def print_errors(
    origin: Origin, listing: Listing, *, limit: int, form: str, images: str, confusion: bool, to: str, overwrite: bool
) -> int:
    """Print the first `limit` rows (0: all) of `listing` in the `form` text, csv or json; or export all `to` a path."""
    if to:
        target = target_of(to, overwrite=overwrite)
        print(export(target, listing, listing.rows.tolist(), partial(origin.images, listing.predictions.origin.part)))
        return 0
    shown = listing.rows[: limit or None].tolist()
    tested = listing.mcnemar()
    if tested is not None and form != "json":
        print(tested.sentence(clean(listing.compared)), file=sys.stdout if form == "text" else sys.stderr)
    if form == "json":
        write_data(to_json(listing, shown).encode() + b"\n")
    elif form == "csv":
        write_data(to_csv(listing, shown).encode("utf-8", "surrogateescape"))
    elif confusion:
        _print_confusion(listing)
    else:
        _print_rows(origin, listing, shown, images)
    return 0


def print_classes(found: Predictions, *, as_json: bool) -> int:
    """Print each class, the one with most mistakes first, as a table or as a JSON list of objects."""
    reports = sorted(scores_of(found).per_class, key=lambda report: -report.wrong)
    if as_json:
        print_json([_class_object(report, found.classes) for report in reports])
        return 0
    rows = [["CLASS", "WRONG", "MOSTLY AS", "PRECISION", "RECALL", "F1", "LOSS", found.origin.part.upper()]]
    for report in reports:
        mostly = "-" if report.mistaken_for is None else f"{found.classes[report.mistaken_for]} ({report.mistaken:,})"
        figures = (f"{value:.4f}" for value in (report.precision, report.recall, report.f1))
        loss = "-" if report.loss is None else f"{report.loss:.4f}"
        rows.append([report.label, f"{report.wrong:,}", mostly, *figures, loss, f"{report.support:,}"])
    print(table(rows, right=frozenset({1, 3, 4, 5, 6, 7})))
    return 0


def _class_object(report: ClassReport, classes: Sequence[str]) -> dict[str, object]:
    """Return what `--per-class --json` has of a class: classes by their names."""
    told = {name: getattr(report, name) for name in ("label", "support", "wrong", "mistaken")}
    told["mistaken_for"] = None if report.mistaken_for is None else classes[report.mistaken_for]
    return told | {name: getattr(report, name) for name in ("precision", "recall", "f1", "loss")}


def _print_rows(origin: Origin, listing: Listing, shown: Sequence[int], images: str) -> None:
    more = f", showing {len(shown):,}" if len(shown) < len(listing.rows) else ""
    print(f"{title(listing, 0, output_width()).plain.strip()}  ·  {len(listing.rows):,} listed{more}")
    if sys.stdout.isatty() and images != "none" and shown:
        _print_thumbnails(origin, listing, shown, choose_mode(images))
        return
    lines = _lines(listing, shown, output_width() if sys.stdout.isatty() else None)
    for row, line in zip(shown, lines, strict=True):
        print(line)
        if duplicate := listing.training_image(row):
            print(f"  = {duplicate}")
    signs = "".join(_signs(listing, row) for row in shown)
    meanings = (("?", "? possible label error"), ("=", "= in the training set"))
    if told := [words for sign, words in meanings if sign in signs]:
        print("   ".join(told))


def _lines(listing: Listing, shown: Sequence[int], width: int | None) -> list[str]:
    """Return the text of each row: name, classes, confidence, loss, margin, flags. Neither names nor classes are cut.

    Columns are as wide as what is in them. Where that is more than `width` cells (None: any number will do), each name
    has a line of its own, and the rest is below it.
    """
    found = listing.predictions
    names = [image_name(found, row) for row in shown]
    true, predicted = ([found.classes[kind[row]] for row in shown] for kind in (found.label, found.predicted))
    wide = [max(map(cell_len, column), default=0) for column in (names, true, predicted)]
    rests = []
    for row, one, other in zip(shown, true, predicted, strict=True):
        numbers = f"{found.confidence[row]:>7.1%}  loss {found.loss[row]:>7.3f}  margin {found.margin[row]:>+6.3f}"
        classes = f"{_padded(one, wide[1])} → {_padded(other, wide[2])}"
        rests.append(f"{classes}{numbers} {_signs(listing, row)}".rstrip())
    between = "  "
    if width is not None and wide[0] + len(between) + max(map(cell_len, rests), default=0) > width:
        return [f"{name}\n    {rest}" for name, rest in zip(names, rests, strict=True)]
    return [f"{_padded(name, wide[0])}{between}{rest}" for name, rest in zip(names, rests, strict=True)]


def _padded(text: str, width: int) -> str:
    return text + " " * (width - cell_len(text))


def _signs(listing: Listing, row: int) -> str:
    flagged = listing.label_errors
    return "".join(
        sign
        for sign, holds in (("?", flagged is not None and flagged[row]), ("=", row in (listing.duplicates or {})))
        if holds
    )


def _print_thumbnails(origin: Origin, listing: Listing, shown: Sequence[int], mode: Mode) -> None:
    """Print each row's image with the words for it beside."""
    wide, high = _THUMBNAIL
    width = min(output_width(), 100) - wide - 2
    console = Console(markup=False, highlight=False)
    part = listing.predictions.origin.part
    found = origin.images(part, [int(listing.predictions.index[row]) for row in shown], side=64)
    for row, image in zip(shown, found, strict=True):
        name = image_name(listing.predictions, row)
        if cell_len(name) > width - _SIGNS:
            print(name)  # beside the image its beginning is cut
        lines = brief_details(listing, row, width, marked=False)
        drawn = [] if isinstance(image, str) else strips(image, wide, high, ascii=mode == "ascii")
        for at in range(high):
            if at < len(drawn):
                console.print(Segments(list(drawn[at])), end="")
            else:
                console.print(" " * wide, end="")
            console.print(f"  {lines[at].plain if at < len(lines) else ''}".rstrip())
        if isinstance(image, str):
            console.print(f"{'':{wide}}  {image}")
        console.print()


def _print_confusion(listing: Listing) -> None:
    """Print the most confused pairs and, of few classes, the whole matrix; rows are true, columns predicted classes."""
    found = listing.predictions
    matrix = found.confusion()
    print(f"{found.origin.part} images: {int(np.trace(matrix)):,} of {len(found):,} correct\n")
    for pair in most_confused(matrix)[:_MOST_PAIRS]:
        print(f"{pair.count:>7,}  {found.classes[pair.true]} → {found.classes[pair.predicted]}")
    if len(found.classes) <= _WIDEST_MATRIX:
        size = max(len(f"{matrix.max():,}"), *map(cell_len, found.classes)) + 2
        first = max(map(cell_len, found.classes))
        if sys.stdout.isatty() and first + size * len(found.classes) > output_width():
            size = max(len(f"{matrix.max():,}"), 4) + 1
        heads = [Content(name).truncate(size - 1, ellipsis=True).plain for name in found.classes]
        print("\n" + " " * first + "".join(" " * (size - cell_len(name)) + name for name in heads))
        for name, row in zip(found.classes, matrix, strict=True):
            cells = "".join(f"{count:>{size},}" if count else "·".rjust(size) for count in row)
            print(_padded(name, first) + cells)
