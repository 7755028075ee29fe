"""The Machine screen: CPU, memory, disk and GPUs of the machine that trains, and where the time of a step goes."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.content import Content
from textual.widgets import Static

from finetui.engine.protocol.events import ENDED, MachineSample
from finetui.engine.protocol.machine import Machine
from finetui.tui.keys import bind
from finetui.tui.screens.base import Screen
from finetui.tui.screens.machine import text
from finetui.tui.screens.machine.frames import Frames
from finetui.tui.screens.machine.help import INTRODUCTION
from finetui.tui.screens.machine.ranks import RanksPanel
from finetui.tui.screens.status_bar import StatusBar
from finetui.tui.state.empty import no_machine
from finetui.tui.state.machine import RECENT_SECONDS, gpu_use
from finetui.tui.state.numbers import clock
from finetui.tui.state.store import Store
from finetui.tui.widgets.fitting import Part
from finetui.tui.widgets.key_bar import KeyBar
from finetui.tui.widgets.plot_axes import Range, nice_step
from finetui.tui.widgets.styled_line import StyledLine

_POLL_SECONDS = 0.5
_SHARES_SECONDS = 2.0  # a new picture of where the time goes
_SHARE = Range(0.0, 1.0)
_LEAST_RATE = 2.0**20  # bytes a second that fill the graph of the disk, where there were not more
_TRAINING_ALERTS = ("plateau", "overfit", "divergence", "unstable")  # nothing that a machine can do about


class MachineScreen(Screen[None]):
    """Shows what `store` knows of the machine."""

    NAME = "machine"
    TITLE_TEXT = "Machine"
    INTRODUCTION = INTRODUCTION
    CSS_PATH = "screen.tcss"
    VERTICAL_BREAKPOINTS = [(0, "-short"), (32, "-tall")]
    BINDINGS: ClassVar[list[BindingType]] = [
        bind("history"),
    ]

    def __init__(self, store: Store) -> None:
        super().__init__()
        self._store = store
        self._whole = False
        self._seen = -1  # of the store's changes
        self._shown: MachineSample | None = None
        self._rest = 0.0  # until where the time goes is drawn anew

    def compose(self) -> ComposeResult:
        """A line about the machine, where the time goes, a frame for each of its parts, and why there is no GPU."""
        yield StatusBar(self._store)
        yield StyledLine(id="machine-title")
        yield StyledLine(id="time-bar")
        yield StyledLine(id="time-legend")
        yield StyledLine(id="time-advice")
        yield RanksPanel()
        yield Frames()
        yield StyledLine(id="no-gpu")
        yield Static(id="machine-message")
        yield KeyBar()

    def on_mount(self) -> None:
        """Show what there is, and look for more."""
        self.set_interval(_POLL_SECONDS, self._poll)
        self.call_after_refresh(self._show)

    def on_resize(self) -> None:
        """Lay the frames out anew."""
        self.call_after_refresh(self._show)

    def _poll(self) -> None:
        self._rest -= _POLL_SECONDS
        history = self._store.machine
        self.query_one(RanksPanel).show(self._store.view)
        if history.latest is not self._shown or (history.changes != self._seen and self._rest <= 0):
            self._show()

    # -- showing ----------------------------------------------------------------------------------------

    def _show(self) -> None:
        """Bring everything up to date."""
        if not self.stands:
            return
        history = self._store.machine
        self._seen, self._rest, self._shown = history.changes, _SHARES_SECONDS, history.latest
        self._show_time()
        self.query_one(RanksPanel).show(self._store.view)
        known = history.latest is not None
        self.set_class(known, "-known")
        self.set_class(not known, "-unknown")
        if history.latest is None:
            self.query_one("#machine-message", Static).update(Content(no_machine(self._store.view)))
            self._show_title(None)
            return
        machine = history.latest.machine
        self._show_title(machine)
        self._lay_out(machine)
        self._show_frames(machine)

    @property
    def _shows_all(self) -> bool:
        return self._whole or self._store.machine.now < RECENT_SECONDS

    def _show_title(self, machine: Machine | None) -> None:
        left = Content.assemble(
            (" Machine", "bold $accent"),
            f"  {machine.host}" if machine is not None else "",
            ("  ·  container" if machine is not None and machine.contained else "", "$muted"),
            (f"  ·  {self._store.view.name}" if self._store.view.name else "", "$muted"),
        )
        now = self._store.machine.now
        shown = f"the whole run{f', {clock(now)}' if now else ''}" if self._shows_all else "the last 10 minutes"
        right = Content.styled(f"{shown} " if machine is not None else "", "$muted")
        left = left.truncate(max(self.size.width - right.cell_length - 1, 0), ellipsis=True)
        gap = max(self.size.width - left.cell_length - right.cell_length, 1)
        self.query_one("#machine-title", StyledLine).show(Content.assemble(left, " " * gap, right))

    def _show_time(self) -> None:
        shares, width = self._store.machine.shares, self.size.width - 2  # with a margin of one cell
        alert = self._store.view.alert
        told = alert is not None and alert.kind not in _TRAINING_ALERTS
        advice = alert.message if alert is not None and told else text.busy_elsewhere(self._store)
        self.set_class(shares is None, "-unmeasured")
        self.set_class(bool(advice), "-advice")
        self.query_one("#time-advice", StyledLine).show(Content(f" → {advice}"))
        legend = self.query_one("#time-legend", StyledLine)
        if shares is None:
            legend.show(Content.styled(" Step times were not measured.", "$muted"))
            return
        self.query_one("#time-bar", StyledLine).show(Content(" ") + text.time_bar(shares, width))
        legend.show(Content(" ") + text.time_legend(shares, width))

    def _lay_out(self, machine: Machine) -> None:
        """Have a frame for each part of `machine`."""
        wanted = {"cpu": "CPU", "memory": "Memory", "disk": "Disk"}
        wanted |= {gpu_use(gpu): text.gpu_title(gpu) for gpu in machine.gpus}
        self.query_one(Frames).have(wanted)

    def _show_frames(self, machine: Machine) -> None:
        x_axis, since = self._x_axis()
        frames, of = self.query_one(Frames).frames, self._store.machine.of
        frames["cpu"].show(text.cpu_parts(machine), of("cpu").points(since), (x_axis, _SHARE))
        frames["memory"].show(text.memory_parts(machine), of("memory").points(since), (x_axis, _SHARE))
        x, y = of("disk").points(since)
        top = nice_step(max(float(y.max(initial=0.0)), _LEAST_RATE))
        # Without it nothing would say how much the graph shows.
        peak = [Part(Content.styled(f"peak {text.speed(float(y.max())).strip()}", "$muted"), 3)] if len(x) > 1 else []
        frames["disk"].show([*text.disk_parts(machine), *peak], (x, y), (x_axis, Range(0.0, top)))
        for gpu in machine.gpus:
            name = gpu_use(gpu)
            frames[name].show(text.gpu_parts(gpu), of(name).points(since), (x_axis, _SHARE), text.process_lines(gpu))
        self.set_class(not machine.gpus, "-no-gpu")
        why = Content.styled(f" GPU: {machine.no_gpu or 'none found'}.", "$muted")
        self.query_one("#no-gpu", StyledLine).show(why)

    def _x_axis(self) -> tuple[Range, float | None]:
        """Return the time that is shown, and from when on; the latter is None for the whole run.

        It moves in jumps, so that most new values change one column only: less to send than a picture that creeps.
        """
        now = self._store.machine.now
        if self._shows_all and self._store.view.state in ENDED and now > 0:
            return Range(0.0, now), None  # nothing comes any more
        if self._whole:
            return Range(0.0, nice_step(max(now, 60.0))), None
        if now < RECENT_SECONDS:
            return Range(0.0, min(nice_step(max(now, 60.0)), RECENT_SECONDS)), 0.0
        jump = RECENT_SECONDS / 4
        start = -(-(now - RECENT_SECONDS) // jump) * jump
        return Range(start, start + RECENT_SECONDS), start

    # -- the rest ---------------------------------------------------------------------------------------

    def action_history(self) -> None:
        """Show the whole run, or the last ten minutes again."""
        self._whole = not self._whole
        self._show()
