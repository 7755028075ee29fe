"""All that is known of the run under the cursor."""

from collections.abc import Iterator, Sequence

from textual.content import Content

from finetui.engine.predictions.interval import wilson
from finetui.engine.runs.summaries import RunSummary
from finetui.tui.screens.status_lines import STATE_SIGNS
from finetui.tui.state.numbers import duration, in_bytes
from finetui.tui.state.provenance_words import facts

_LABEL = 11  # cells


def details(run: RunSummary, runs: Sequence[RunSummary], width: int) -> Content:
    """Return what is known of `run`, one of `runs`, line by line; what is longer than `width` goes on below itself."""
    sign, style = STATE_SIGNS[run.state]
    lines = [
        Content.styled(run.name, "bold $accent"),
        Content.assemble((f"{sign} {run.state}", style), *_holder(run)),
        Content(""),
    ]
    for label, value in _facts(run, runs):
        parts = Content(value).wrap(max(width - _LABEL, 1)) if value else [Content("")]
        heads = (f"{label:<{_LABEL}}", *[" " * _LABEL] * (len(parts) - 1))
        lines += [Content.assemble((head, "$muted"), part) for head, part in zip(heads, parts, strict=True)]
    if run.note:
        lines += [Content(""), Content(run.note)]
    return Content("\n").join(lines)


def _holder(run: RunSummary) -> Iterator[tuple[str, str]]:
    if run.pid is not None:
        yield f"  process {run.pid} on {run.host}", "$muted"


def _facts(run: RunSummary, runs: Sequence[RunSummary]) -> Iterator[tuple[str, str]]:
    if run.best_accuracy is not None:
        yield "Best", f"{run.best_accuracy:.2%} on {run.part}"
    if run.accuracy is not None:
        yield "Last", f"{run.accuracy:.2%}{_interval(run)}"
    if run.test_accuracy is not None:
        yield "Test", f"{run.test_accuracy:.2%}"
    epoch = f"{run.epoch} of {run.epochs}, " if run.epochs else f"{run.epoch}, " if run.epoch else ""
    yield ("Epoch" if epoch else "Step"), f"{epoch}step {run.step:,}" if epoch else f"{run.step:,}"
    yield "", ""
    if run.data:
        yield "Data", run.data
    if run.model:
        yield "Model", run.model
    if run.recipe:
        yield "Recipe", run.recipe
    if run.optimizer:
        yield "Optimizer", run.optimizer
    if run.lr is not None or run.schedule:
        yield "LR", ", ".join(([f"{run.lr:g}"] if run.lr is not None else []) + [run.schedule] * bool(run.schedule))
    if run.batch_size:
        yield "Batch size", str(run.batch_size)
        yield "Seed", str(run.seed)
    yield "", ""
    yield "Started", run.started[:16].replace("T", " ") or "-"
    if run.took or run.started:
        yield "Took", duration(run.took)
    if run.size:  # of somebody else's files nobody says how much belongs to a run
        yield "Size", in_bytes(run.size)
    if run.parent:
        yield "Parent", run.parent
    children = [other.name for other in runs if other.parent == run.name and other.name != run.name]
    if children:
        yield "Finetunes", ", ".join(children)
    if run.tags:
        yield "Tags", " ".join(run.tags)
    if run.provenance is not None:
        yield "", ""
        yield from facts(run.provenance)


def _interval(run: RunSummary) -> str:
    if run.accuracy is None or not run.evaluated_on:
        return ""
    low, high = wilson(run.accuracy, run.evaluated_on)
    return f", 95% CI {100 * low:.2f}-{high:.2%}"
