"""The two lines at the top of every screen: which run, in which state, how far; how well, how fast, on what machine."""

import math
import re
import time
from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size
from textual.content import Content

from finetui.engine.protocol.events import ENDED, Evaluated, RanksSeen, State
from finetui.engine.protocol.machine import Gpu, Machine
from finetui.engine.protocol.paths import short
from finetui.engine.protocol.ranks import slowest
from finetui.engine.text import figure_text
from finetui.tui.state.feature_words import feature_chip
from finetui.tui.state.numbers import clock, duration, gigabytes, percent, rate, scaled, size_in_gigabytes
from finetui.tui.state.store import Store
from finetui.tui.state.view import View
from finetui.tui.widgets.fitting import Part, kept

STATE_SIGNS: dict[State, tuple[str, str]] = {
    "preparing": ("◌", "$muted"),
    "ready": ("○", "$accent"),
    "running": ("●", "$success"),
    "paused": ("‖", "$warning"),
    "finished": ("✓", "$success"),
    "stopped": ("■", "$warning"),
    "failed": ("✗", "$error"),
    "crashed": ("✗", "$error"),
}
_LEAST_BAR, _MOST_BAR = 6, 30  # cells
_BAR = Part(Content(" " * _LEAST_BAR), 4)  # the bar's place; it takes what room there is
_GAP, _WIDE_GAP = 2, 3
_LEAST_NAME = 12
_BRIEF = 120  # cells, below which features are told in short
_LIVE = ("running", "paused")
_OLD = 600.0  # seconds, after which one should know that what is watched has not changed


def run_line(store: Store, width: int, cue: str = "") -> Content:
    """Return the first line: the run at the left, how far it is at the right; `cue` says how one that is ready starts.

    Nothing is cut but a long name, between two of its words; what is missed least goes where there is no room.
    """
    right = _progress(store, cue)
    wanted = sum(part.text.cell_length + _GAP for part in right)
    left = _left(store.view, width - wanted)
    chosen = kept([*left, *right], width - 2, _GAP)
    room = width - 2 + _GAP - sum(part.text.cell_length + _GAP for part in chosen)
    texts = {id(part): part.text for part in chosen}
    if id(_BAR) in texts:
        texts[id(_BAR)] = _bar(_share(store.view) or 0.0, _LEAST_BAR + min(max(room, 0), _MOST_BAR - _LEAST_BAR))
    start, end = ([texts[id(part)] for part in parts if id(part) in texts] for parts in (left, right))
    return _spread(Content(" " * _GAP).join(start), Content(" " * _GAP).join(end), width)


def _spread(start: Content, end: Content, width: int) -> Content:
    """Return `start` at the left and `end` at the right of a line, a cell from its ends."""
    return Content.assemble(" ", start, " " * max(width - 2 - start.cell_length - end.cell_length, 0), end, " ")


def _left(view: View, room: int) -> list[Part]:
    """Return state and name, in `room` cells if the name has words that can go, and more about the run."""
    sign, style = STATE_SIGNS[view.state]
    state = Content.styled(f"{sign} {view.state}", f"{style} bold")
    name = _shortened(view.name or "new run", max(room - state.cell_length - _GAP - 2, _LEAST_NAME))
    parts = [Part(state, 0), Part(Content.styled(name, "bold"), 0)]
    if view.stage is not None:
        parts.append(Part(Content.styled(f"{view.stage.index}/{view.stage.count} {view.stage.name}", "$accent"), 3))
    if view.data is not None:
        model = short(view.config.model.name)
        of = f"{model}/{view.data.name}" if view.hparams is None else view.data.name
        parts += [Part(Content.styled(of, "$muted"), 5)] if of else []
    if view.parent:
        parts.append(Part(Content.styled(f"from {view.parent}", "$muted"), 6))
    if view.data is not None and view.data.sizes:
        sizes = " + ".join(
            f"{size:,}" if part == "train" else f"{size:,} {part}" for part, size in view.data.sizes.items()
        )
        parts.append(Part(Content.styled(f"{sizes} images", "$muted"), 8))
    if view.parameters:
        parts.append(Part(Content.styled(f"{view.parameters:,} parameters", "$muted"), 9))
    if view.device:
        parts.append(Part(Content.styled(view.device, "$muted"), 7))
    return parts


def _share(view: View) -> float | None:
    """Return how much the bar is filled: of what takes a while just now, else of the run; None: no bar."""
    if view.phase is not None:
        return view.phase.done / view.phase.total if view.phase.total else None
    if view.state in ("preparing", "ready") or not view.total_steps:
        return None
    return view.step / view.total_steps


def _progress(store: Store, cue: str) -> list[Part]:
    """Return epoch, what takes a while, a place for the bar, percentage and time left, as far as there are any."""
    view, share = store.view, _share(store.view)
    epochs = view.epochs
    parts = []
    if view.phase is None and view.state == "preparing":
        return [Part(Content.styled("starting the engine…", "$muted"), 1)]
    if view.phase is None and view.state == "ready":
        parts.append(Part(Content.styled(f"{epochs:,} epoch{'s' * (epochs != 1)}", "$muted"), 2))
        return [*parts, Part(Content.styled(cue, "$accent"), 1)] if cue else parts
    if view.state not in ("preparing", "ready"):
        parts.append(Part(_epoch(view), 1))
    if view.phase is not None:
        parts.append(Part(Content.styled(view.phase.name + "…" * (share is None), "$accent"), 2))
    if share is not None:
        parts += [_BAR, Part(Content(percent(min(share, 1.0))), 3)]
    left = store.seconds_left if view.state in _LIVE else None
    if left is not None:
        parts.append(Part(Content.assemble(("ETA ", "$muted"), (f"{_time_left(left):>5}", "bold")), 1))
    return parts


def _epoch(view: View) -> Content:
    """Return the epoch that the run is in, of how many; its step where somebody else's loop tells of no epochs."""
    epochs = view.epochs
    if view.hparams is not None and not view.steps_per_epoch:
        return Content.assemble(("step ", "$muted"), f"{view.step:,}")
    epoch = int(view.epochs_at(view.step)) + (view.state != "finished")
    if not epochs:
        return Content.assemble(("epoch ", "$muted"), f"{epoch}")
    return Content.assemble(("epoch ", "$muted"), f"{min(epoch, epochs):>{len(str(epochs))}}/{epochs}")


def _age(changed: float) -> Content:
    """Return how old the newest data are of files that are watched, which changed in the Unix second `changed`."""
    age = max(time.time() - changed, 0.0)
    return Content.styled(f"data {duration(age)} old", "$warning" if age > _OLD else "$muted")


def _time_left(seconds: float) -> str:
    return clock(seconds) if seconds < 86_400 else duration(seconds)


def _bar(share: float, width: int) -> Content:
    full = round(min(max(share, 0.0), 1.0) * width)
    return Content.assemble(("━" * full, "$bar"), ("─" * (width - full), "$frame"))


def _shortened(name: str, width: int) -> str:
    """Return `name` in at most `width` cells: its end, from one of its words on, which tells more."""
    if cell_len(name) <= width:
        return name
    ends = (name[match.end() :] for match in re.finditer(r"[-_./ ]+", name))
    fits = (end for end in ends if end and cell_len(end) < width)
    return f"…{next(fits, set_cell_size(name[::-1], width - 1).rstrip()[::-1])}"


def figures_line(store: Store, width: int) -> Content:
    """Return the second line: best result, learning rate, speed and time at the left, the machine at the right."""
    view, eta = store.view, store.eta
    live = view.state in _LIVE
    left = [Part(_best(view), 0)] if view.best_accuracy is not None else []
    if view.files_read < 1:
        left.append(Part(Content.styled(f"{view.files_read:.0%} of files read", "$accent"), 1))
    elif view.changed:
        left.append(Part(_age(view.changed), 1))
    if view.learning_rate:
        left.append(Part(_figure("lr ", f"{rate(view.learning_rate):<7}"), 1))
    if live and view.speed:
        left.append(Part(_figure("", f"{_count(view.speed):>4}", " img/s"), 2))
    if eta.clock.seconds:
        left.append(Part(_figure("", clock(eta.clock.seconds), " elapsed"), 3))
    if view.total_steps:
        step = f"{view.step:>{len(f'{view.total_steps:,}')},}/{view.total_steps:,}"
        left.append(Part(_figure("step ", step), 8))
    epoch = eta.epoch_seconds(view) if view.step else None
    if epoch is not None:
        left.append(Part(_figure("", f"{epoch:.1f} s" if epoch < 9.95 else duration(epoch), "/epoch"), 9))
    if view.features is not None and live:
        left.append(Part(Content.styled(feature_chip(view.features, brief=width < _BRIEF), "$accent"), 6))
    if view.ranks is not None and view.ranks.world > 1 and live:
        left.append(Part(_ranks(view.ranks), 4))
    if len(view.audience) > 1:
        left.append(Part(Content.styled(f"{len(view.audience)} dashboards", "$muted"), 4))
    right = machine_parts(store.machine.latest.machine) if store.machine.latest and view.state not in ENDED else []
    if view.state != "running":
        right = [Part(Content.styled(part.text.plain, "$muted"), part.rank) for part in right]
    shown = {id(part) for part in kept([*left, *right], width - 2, _WIDE_GAP)}
    start = Content(" " * _WIDE_GAP).join([part.text for part in left if id(part) in shown])
    end = Content(" " * _GAP).join([part.text for part in right if id(part) in shown])
    return _spread(start, end, width)


def _ranks(seen: RanksSeen) -> Content:
    """Return how many ranks train, or what is wrong with them."""
    if seen.differs:
        return Content.styled("ranks differ", "bold $error")
    slow = slowest(seen.rows)
    if slow is not None:
        return Content.styled(f"rank {slow.rank} slow", "$warning")
    return Content.styled(f"{seen.world:,} ranks", "$muted")


def _figure(before: str, value: str, after: str = "") -> Content:
    return Content.assemble((before, "$muted"), value, (after, "$muted"))


def _count(value: float) -> str:
    """Return a speed in two or three digits: 9.5, 436, 3.1k."""
    if value < 9.95:
        return f"{value:.1f}"
    number, prefix = scaled(round(value))
    digits = 1 if prefix and float(number) < 9.95 else 0
    return f"{float(number):.{digits}f}{prefix.lower()}"


def _best(view: View) -> Content:
    """Return the best result so far and the epoch it is of."""
    best = view.best
    if best is None:
        return _figure("best ", f"{100 * (view.best_accuracy or 0.0):.2f}%")
    return _figure("best ", _judged(best), f" @{best.epoch}" if best.epoch or best.n else "")


def _judged(best: Evaluated) -> str:
    if best.accuracy is not None and (best.best_by == "accuracy" or best.figure is None):
        return f"{100 * best.accuracy:.2f}%"
    if best.figure is None:
        return "-"
    return figure_text(best.best_by, best.figure)


def machine_parts(machine: Machine) -> list[Part]:
    """Return what the machine is busy with; what is not known is left out."""
    parts = []
    if machine.cpu is not None:
        parts.append(Part(_figure("CPU", percent(machine.cpu).rjust(5)), 5))
    if machine.memory_used is not None:
        parts.append(Part(_figure("mem ", f"{gigabytes(machine.memory_used)}G"), 7))
    return parts + (_gpu_parts(machine.gpus) if machine.gpus else [])


def _gpu_parts(gpus: Sequence[Gpu]) -> list[Part]:
    """Return the figures of one GPU, or of several: their mean use, all their memory, and the highest temperature."""
    name = f"GPU {gpus[0].index}" if len(gpus) == 1 else f"{len(gpus)} GPUs"
    uses = [gpu.use for gpu in gpus if gpu.use is not None]
    use = percent(math.fsum(uses) / len(uses)).rjust(5) if uses else ""
    parts = [Part(_figure(name, use), 4)]
    memory = [(gpu.memory_used, gpu.memory_total) for gpu in gpus]
    if all(used is not None and total is not None for used, total in memory):
        used, total = (sum(one or 0 for one in column) for column in zip(*memory, strict=True))
        parts.append(Part(Content(f"{gigabytes(used)}/{size_in_gigabytes(total)}G"), 7))
    if temperatures := [gpu.temperature for gpu in gpus if gpu.temperature is not None]:
        parts.append(Part(Content(f"{max(temperatures):.0f} °C"), 10))
    if others := sum(gpu.others or 0 for gpu in gpus):
        parts.append(Part(Content.styled(f"{others} other{'s' * (others > 1)}", "$warning"), 7))
    return parts
