"""The two lines at the top: which run, in which state, and how far it is."""

from textual.content import Content

from finetui.engine.protocol.events import DataSummary, State
from finetui.engine.protocol.paths import short
from finetui.tui.state.feature_words import feature_chip
from finetui.tui.state.store import View

_STATES: dict[State, tuple[str, str]] = {
    "preparing": ("◌", "$muted"),
    "ready": ("○", "$accent"),
    "running": ("●", "$success"),
    "paused": ("‖", "$warning"),
    "finished": ("✓", "$success"),
    "stopped": ("■", "$warning"),
    "failed": ("✗", "$error"),
    "crashed": ("✗", "$error"),
}


def status(view: View, width: int) -> Content:
    """Return the first line: the state, the run's name, then data, model and device as far as there is room."""
    sign, style = _STATES[view.state]
    left = Content.assemble(
        " ",
        (f"{sign} {view.state:<9}", f"{style} bold"),
        " ",
        (view.name or "new run", "bold"),
        (f"  from {view.parent}" if view.parent else "", "$muted"),
        (f"  {view.stage.index}/{view.stage.count} {view.stage.name}" if view.stage else "", "$accent"),
    )
    facts = [view.device]
    if view.data is not None:
        model = f"{short(view.config.model.name)} {view.parameters:,} parameters"
        facts = [f"{view.data.name} {_sizes(view.data)}", model, view.device]
    if view.features is not None and view.state in ("running", "paused"):
        facts.insert(0, feature_chip(view.features))
    if len(view.audience) > 1:
        facts.insert(0, f"{len(view.audience)} dashboards")
    while facts:
        right = Content.styled("  ·  ".join(facts) + " ", "$muted")
        gap = width - left.cell_length - right.cell_length
        if gap >= 2:
            return Content.assemble(left, " " * gap, right)
        facts.pop()
    return left


def _sizes(data: DataSummary) -> str:
    return " + ".join(f"{size:,}" if part == "train" else f"{size:,} {part}" for part, size in data.sizes.items())


def progress(view: View, width: int) -> Content:
    """Return the second line: epoch, step, a bar, images per second and the time left."""
    if view.phase is not None or view.state == "preparing":
        return _phase(view, width)
    epochs = view.config.training.epochs
    done = view.step / view.total_steps if view.total_steps else 0.0
    digits = len(f"{view.total_steps:,}")
    epoch = min(int(view.epochs_at(view.step)) + (view.state != "finished"), epochs)
    left = f" epoch {epoch:>{len(str(epochs))}}/{epochs}  step {view.step:>{digits},}/{view.total_steps:,} "
    right = f" {100 * done:5.1f} %  {view.speed:>7,.0f} img/s  {_left(view)} "
    if len(left) + len(right) > width:
        right = f" {view.speed:>7,.0f} img/s {_left(view).removeprefix('ETA')}"
    return Content.assemble(left, *_bar(done, width - len(left) - len(right)), right)


def _left(view: View) -> str:
    if view.state in ("finished", "stopped", "failed", "crashed") or view.seconds_left is None:
        return " " * 12
    seconds = int(view.seconds_left)
    clock = f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    return f"ETA {clock:>8}"


def _bar(share: float, width: int) -> tuple[tuple[str, str], tuple[str, str]]:
    width = max(width, 0)
    full = round(share * width)
    return ("━" * full, "$accent"), ("─" * (width - full), "$muted 60%")


def _phase(view: View, width: int) -> Content:
    phase = view.phase
    if phase is None:
        return Content.styled(" Starting the engine …", "$muted")
    left = f" {phase.name} "
    if not phase.total:
        return Content(f"{left}…")
    share = phase.done / phase.total
    right = f" {100 * share:5.1f} % "
    return Content.assemble(left, *_bar(share, min(width - len(left) - len(right), 60)), right)
