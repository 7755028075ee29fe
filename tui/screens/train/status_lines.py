"""The lines at the top: which run, in which state, how far it is, and what the machine is busy with."""

import math
from collections.abc import Sequence

from textual.content import Content

from finetui.engine.protocol.events import DataSummary, State
from finetui.engine.protocol.machine import Gpu, Machine
from finetui.engine.protocol.paths import short
from finetui.tui.state.feature_words import feature_chip
from finetui.tui.state.numbers import gigabytes, percent
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
    audience = [f"{len(view.audience)} dashboards"] if len(view.audience) > 1 else []
    if view.features is not None and view.state in ("running", "paused"):
        room = width - left.cell_length - 3 - sum(len(fact) + 5 for fact in audience)
        chips = (feature_chip(view.features, brief=brief) for brief in (False, True))
        facts = [*[chip for chip in chips if len(chip) <= room][:1], *facts]
    facts = audience + facts
    while facts:
        right = Content.styled("  ·  ".join(facts) + " ", "$muted")
        gap = width - left.cell_length - right.cell_length
        if gap >= 2:
            return Content.assemble(left, " " * gap, right)
        facts.pop()
    return left


def _sizes(data: DataSummary) -> str:
    return " + ".join(f"{size:,}" if part == "train" else f"{size:,} {part}" for part, size in data.sizes.items())


def machine_line(machine: Machine, width: int, *, live: bool) -> Content:
    """Return the third line: what the machine is busy with, as far as there is room; faint unless it is `live`."""
    parts = []
    if machine.cpu is not None:
        parts.append(f"CPU {percent(machine.cpu)}")
    if machine.memory_used is not None and machine.memory_total is not None:
        parts.append(f"mem {gigabytes(machine.memory_used)} of {gigabytes(machine.memory_total).removesuffix('.0')} GB")
    if machine.gpus:
        parts.append(_gpus(machine.gpus))
    if machine.disk_free is not None:
        parts.append(f"disk {gigabytes(machine.disk_free)} GB free")
    if machine.load is not None:
        parts.append(f"load {machine.load:.1f}")
    while len(parts) > 1 and len(" · ".join(parts)) + 2 > width:
        parts.pop()
    return Content.styled(" " + " · ".join(parts), "" if live else "$muted")


def _gpus(gpus: Sequence[Gpu]) -> str:
    """Return the figures of one GPU, or of several: their mean use, all their memory, and the highest temperature."""
    uses = [gpu.use for gpu in gpus if gpu.use is not None]
    memory = [(gpu.memory_used, gpu.memory_total) for gpu in gpus]
    words = [f"GPU {gpus[0].index}" if len(gpus) == 1 else f"{len(gpus)} GPUs"]
    if uses:
        words.append(percent(math.fsum(uses) / len(uses)))
    if all(used is not None and total is not None for used, total in memory):
        used, total = (sum(one or 0 for one in column) for column in zip(*memory, strict=True))
        words.append(f"{gigabytes(used)}/{gigabytes(total).removesuffix('.0')} GB")
    if temperatures := [gpu.temperature for gpu in gpus if gpu.temperature is not None]:
        words.append(f"{max(temperatures):.0f} °C")
    if others := sum(gpu.others or 0 for gpu in gpus):
        words.append(f"{others} other{'s' * (others > 1)}")
    return " ".join(words)


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
    return ("━" * full, "$bar"), ("─" * (width - full), "$frame")


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
