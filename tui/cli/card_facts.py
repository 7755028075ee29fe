"""What the report on a run tells, whatever it is written as. All of it is text that is made harmless when written."""

import hashlib
import io
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec
import numpy as np

from finetui.engine.errors import BadInput
from finetui.engine.predictions.criteria import Selection
from finetui.engine.predictions.file import Predictions
from finetui.engine.predictions.interval import accuracy_words
from finetui.engine.predictions.metrics import scores_of
from finetui.engine.predictions.selection import most_confused, select
from finetui.engine.protocol.paths import short
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.summaries import RunSummary, summarise_run
from finetui.engine.text import clean
from finetui.engine.version import __version__
from finetui.tui.cli.errors_report import Image, Origin, Place
from finetui.tui.state.curves import Floats
from finetui.tui.state.listing import image_name
from finetui.tui.state.provenance_words import facts as provenance_facts
from finetui.tui.state.run_comparison import History, flat_settings, in_words
from finetui.tui.state.run_curves import METRICS, RunCurves
from finetui.tui.state.scores import HEADING, class_rows, facts as score_facts

_SIDE = 96  # pixels of a thumbnail
_WIDEST_MATRIX = 25  # classes; of more the most confused pairs are told alone
_MOST_PAIRS = 20
_MOST_EVALUATIONS = 100
_PLOTTED = ("loss", "accuracy", "lr")


@dataclass(frozen=True)
class Section:
    """A table with its title; the first column names what the others tell. Without a `head` it has none."""

    title: str
    rows: tuple[tuple[str, ...], ...]
    head: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Plot:
    """Curves over the epochs: each with its name, x and y."""

    title: str
    percent: bool
    curves: tuple[tuple[str, Floats, Floats], ...]


@dataclass(frozen=True)
class Mistake:
    """An image that was taken for another class, as a PNG; or why that cannot be had."""

    name: str
    true: str
    predicted: str
    confidence: float
    loss: float
    png: bytes = b""
    problem: str = ""


@dataclass(frozen=True)
class Card:
    """The report: a headline, tables before and after the curves and the matrix, and the mistakes."""

    name: str
    headline: str
    before: tuple[Section, ...]
    plots: tuple[Plot, ...]
    after: tuple[Section, ...]
    classes: tuple[str, ...]  # of the matrix; empty: it is left out
    matrix: tuple[tuple[int, ...], ...]
    mistakes: tuple[Mistake, ...]
    wrong: int
    made: str


def gather(folder: RunFolder, place: Place, mistakes: int) -> Card:
    """Return the report on the run in `folder`, with so many of its `mistakes`. Raises `BadInput`."""
    history = History(folder)
    history.read()
    summary = summarise_run(folder)
    if summary is None:
        raise BadInput(f"the journal of the run {folder.name} does not say how it began")
    origin = Origin(place)
    try:
        found = origin.predictions()
        shown = tuple(_mistakes(origin, found, mistakes))
    finally:
        origin.close()
    scores = scores_of(found)
    settings = tuple(_settings(history))
    matrix = found.confusion()
    few = len(found.classes) <= _WIDEST_MATRIX
    curves = history.store.curves
    evaluations = tuple(_evaluations(curves))
    return Card(
        name=folder.name,
        headline=f"{found.origin.part} accuracy {accuracy_words(scores.accuracy, scores.n)}",
        before=(Section("Run", tuple(_run_facts(history, summary, found))),),
        plots=tuple(_plots(curves, history.store.view.watched)),
        after=(
            *([Section("Evaluations", evaluations, ("epoch", "loss", "accuracy"))] if evaluations else ()),
            Section("Scores", tuple(score_facts(scores, found.origin.part, found.origin.temperature))),
            Section("Classes", tuple(map(tuple, class_rows(scores))), HEADING),
            Section("Most confused", tuple(_pairs(found, matrix)), ("true", "predicted", "images")),
            *([Section("Settings", settings)] if settings else ()),
            Section("Provenance", tuple(_provenance(origin, summary))),
        ),
        classes=found.classes if few else (),
        matrix=tuple(map(tuple, matrix.tolist())) if few else (),
        mistakes=shown,
        wrong=int(found.wrong.sum()),
        made=f"finetui {__version__}, {datetime.now(UTC).isoformat(timespec='seconds')}",
    )


def _settings(history: History) -> Iterator[tuple[str, str]]:
    """Yield each setting; of somebody's own loop those that it told, for finetui's defaults say nothing of it."""
    told = history.store.view.hparams
    given = flat_settings(msgspec.to_builtins(history.config)) if told is None else dict(told)
    for name, value in given.items():
        yield name, in_words(value)


def _run_facts(history: History, summary: RunSummary, found: Predictions) -> Iterator[tuple[str, str]]:
    view = history.store.view
    assert view.data is not None
    sizes = ", ".join(f"{size:,} {part}" for part, size in view.data.sizes.items() if size)
    sizes = sizes or f"{len(found):,} {found.origin.part}"
    yield "Data", f"{view.data.name or 'your own'}: {sizes} images, {len(found.classes):,} classes"
    yield "Model", f"{short(view.config.model.name)}, {view.parameters:,} parameters"
    if summary.parent:
        yield "Finetuned from", f"{summary.parent}, recipe {summary.recipe or '-'}"
    yield "Trained", f"{summary.epoch} of {summary.epochs} epochs, {summary.step:,} steps, {summary.took:,.0f} s"
    yield "Began", summary.started
    yield "State", f"{summary.state}{f': {view.reason}' if view.reason else ''}"
    yield "Device", view.device
    for said in view.notices:
        yield "Notice", said


def _plots(curves: RunCurves, watched: str) -> Iterator[Plot]:
    for metric in METRICS:
        if metric.key not in _PLOTTED:
            continue
        named = ((name, kept.get(metric.key)) for name, kept in (("train", curves.train), (watched, curves.watched)))
        drawn = tuple((name, *curve.means()) for name, curve in named if curve is not None and len(curve))
        if drawn:
            yield Plot(metric.title, metric.percent, drawn)


def _evaluations(curves: RunCurves) -> Iterator[tuple[str, str, str]]:
    """Yield the epoch, the loss and the accuracy of each evaluation while training; of many, those of the last ones."""
    places, losses = curves.watched["loss"].means()
    told = dict(zip(*(values.tolist() for values in curves.watched["accuracy"].means()), strict=True))
    for x, loss in list(zip(places.tolist(), losses.tolist(), strict=True))[-_MOST_EVALUATIONS:]:
        yield f"{x:g}", f"{loss:.4f}", f"{told[x]:.2%}" if x in told else "-"


def _pairs(found: Predictions, matrix: "np.ndarray[tuple[int, ...], np.dtype[np.int64]]") -> Iterator[tuple[str, ...]]:
    for pair in most_confused(matrix)[:_MOST_PAIRS]:
        yield found.classes[pair.true], found.classes[pair.predicted], f"{pair.count:,}"


def _provenance(origin: Origin, summary: RunSummary) -> Iterator[tuple[str, str]]:
    if summary.provenance is not None:
        yield from provenance_facts(summary.provenance)
    what = "Predictions" if origin.checkpoint.suffix == ".predictions" else "Checkpoint"
    yield what, clean(str(origin.checkpoint), 1000)
    with origin.checkpoint.open("rb") as file:
        yield "SHA-256", hashlib.file_digest(file, "sha256").hexdigest()


def _mistakes(origin: Origin, found: Predictions, most: int) -> Iterator[Mistake]:
    """Yield the mistakes with the highest loss; without pictures, and with the reason, where those cannot be had."""
    rows = select(found, Selection())[:most].tolist()
    for row, image in zip(rows, _pictures(origin, found, rows), strict=True):
        told = Mistake(
            image_name(found, row),
            found.classes[found.label[row]],
            found.classes[found.predicted[row]],
            float(found.confidence[row]),
            float(found.loss[row]),
            problem=image if isinstance(image, str) else "",
        )
        yield told if isinstance(image, str) else _with_picture(told, image)


def _pictures(origin: Origin, found: Predictions, rows: Sequence[int]) -> "Sequence[Image | str]":
    if not rows:
        return ()
    try:
        return origin.images(found.origin.part, [int(found.index[row]) for row in rows], _SIDE)
    except BadInput as error:
        print(f"the mistakes are shown without pictures: {error}", file=sys.stderr)
        return [str(error)] * len(rows)


def _with_picture(told: Mistake, image: Image) -> Mistake:
    from dataclasses import replace

    from PIL import Image as Pillow

    content = io.BytesIO()
    Pillow.fromarray(image.squeeze(2) if image.shape[2] == 1 else image).save(content, "PNG")
    return replace(told, png=content.getvalue())
