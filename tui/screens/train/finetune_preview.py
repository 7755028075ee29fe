"""What a finetune would do: its learning rate as a curve, its stages, the time, what becomes of the weights."""

import numpy as np
from textual.app import ComposeResult
from textual.containers import Container, VerticalScroll
from textual.content import Content
from textual.widgets import Static

from finetui.engine.protocol.answers import FinetunePreview
from finetui.engine.protocol.values import StagePreview
from finetui.tui.state.finetune_estimate import Estimate, duration
from finetui.tui.widgets.compound import Compound
from finetui.tui.widgets.line_plot import LinePlot
from finetui.tui.widgets.plot_drawing import SeriesStyle

_REINITIALISED = "(reinitialised)"


class PreviewPane(Compound, Container):
    """Shows the newest preview, or why there is none."""

    def compose(self) -> ComposeResult:
        """The curve, and the words."""
        yield LinePlot("Learning rate", (SeriesStyle("LR"),), id="curve")
        with VerticalScroll(id="stages"):
            yield Static(id="preview-text")

    def on_mount(self) -> None:
        """Begin with nothing to show."""
        self.say("Reading the checkpoint…")

    def say(self, text: str) -> None:
        """Show `text` in place of a preview."""
        self.query_one("#preview-text", Static).update(Content.styled(text, "$muted"))

    def show(self, found: FinetunePreview, seconds: Estimate | None) -> None:
        """Show what was `found`, which takes so many `seconds`."""
        x, y = (np.array(values) for values in zip(*found.curve, strict=True)) if found.curve else (np.empty(0),) * 2
        begins = [(stage.first_epoch - 1.0, stage.name) for stage in found.stages[1:]]
        last = float(found.stages[-1].last_epoch) if found.stages else 1.0
        self.query_one("#curve", LinePlot).set_data([(x, y)], last, begins)
        self.query_one("#preview-text", Static).update(preview_text(found, seconds))


def preview_text(found: FinetunePreview, seconds: Estimate | None) -> Content:
    """Return what the plan would do, as text."""
    times = seconds.stages if seconds is not None else (None,) * len(found.stages)
    lines = [line for stage, took in zip(found.stages, times, strict=True) for line in _stage_lines(stage, took)]
    time = f"{seconds.words} in total" if seconds is not None else "known once training starts"
    lines.append(Content.assemble(("time    ", "$muted"), time))
    dropped = tuple(name for name in found.dropped if not name.endswith(_REINITIALISED))
    for label, names in (
        ("kept", found.reused),
        ("new", found.fresh),
        ("renamed", found.renamed),
        ("dropped", dropped),
    ):
        if names:
            lines.append(Content.assemble((f"{label:<8}", "$muted"), _listed(names)))
    lines += [Content.styled(f"! {notice}", "$warning") for notice in found.notices]
    return Content("\n").join(lines)


def _stage_lines(stage: StagePreview, seconds: float | None) -> list[Content]:
    epochs = f"epoch {stage.first_epoch}"
    if stage.last_epoch > stage.first_epoch:
        epochs = f"epochs {stage.first_epoch}–{stage.last_epoch}"
    low, high = stage.learning_rates
    rate = f"LR {high:.3g}" if low == high else f"LR {low:.3g} to {high:.3g}"
    head: list[str | tuple[str, str]] = [(f"{epochs:<12} ", "bold"), (stage.name, "$accent"), f"  {rate}"]
    if seconds is not None:
        head.append((f"  {duration(seconds)}", "$muted"))
    trains = Content.assemble(("  trains ", "$muted"), _listed(stage.trains))
    if not stage.frozen:
        return [Content.assemble(*head), trains]
    return [Content.assemble(*head), trains, Content.assemble(("  frozen ", "$frozen"), _listed(stage.frozen))]


def _listed(names: tuple[str, ...], most: int = 8) -> str:
    if len(names) <= most:
        return ", ".join(names)
    return f"{', '.join(names[: most // 2])}, … {', '.join(names[-2:])} ({len(names)})"
