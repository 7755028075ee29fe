"""The Train screen: curves, progress, per-class table, controls, layers, log."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Container
from textual.content import Content
from textual.widgets import Static

from finetui.engine.link.base import Link
from finetui.engine.predictions.criteria import Choose, Selection
from finetui.engine.protocol.commands import (
    AnyCommand,
    Evaluate,
    SetFrozen,
    SetLearningRate,
    Stop,
)
from finetui.engine.protocol.events import AnyEvent
from finetui.engine.protocol.values import AnyPart
from finetui.tui.keys import bind
from finetui.tui.queries.asker import Asker
from finetui.tui.screens.base import HomeScreen
from finetui.tui.screens.dialog import Choice, Dialog
from finetui.tui.screens.status_bar import StatusBar
from finetui.tui.screens.train import opening
from finetui.tui.screens.train.banner import Banner
from finetui.tui.screens.train.controls import Controls, LearningRateInput
from finetui.tui.screens.train.finetune_start import ask_finetune
from finetui.tui.screens.train.help import INTRODUCTION
from finetui.tui.screens.train.key_words import labels, unshown
from finetui.tui.screens.train.layer_list import LayerList
from finetui.tui.screens.train.log_panel import LogPanel
from finetui.tui.screens.train.panels import Panels
from finetui.tui.screens.train.per_class_table import PerClassTable
from finetui.tui.screens.train.plots import PLOT_KEYS, Plots
from finetui.tui.screens.train.settings_panel import SettingsPanel
from finetui.tui.screens.train.steering import Steering
from finetui.tui.screens.train.tab_line import TabLine
from finetui.tui.state.actions import ACTIONS
from finetui.tui.state.store import Store
from finetui.tui.state.view import Access
from finetui.tui.widgets.action_button import ActionButton
from finetui.tui.widgets.key_bar import KeyBar

if TYPE_CHECKING:
    from finetui.engine.sources.watched_runs import WatchedRuns

MIN_WIDTH, MIN_HEIGHT = 60, 15
_PLOTS, _FRAMES = 22, (100, 32)  # from which height on there are plots, from which width and height frames
_POLL_SECONDS = 0.25  # how soon train points are seen; anything else is at once
_MOST_AT_ONCE = 256  # events, a few milliseconds' worth

_SHOWN = ("start", "pause", "finetune")  # among the keys in the last line; the others have buttons that one sees
# What has no button comes first: these fit in 80 cells.
_FIRST_KEYS = (
    *("help", "errors", "layers", "runs", "checkpoints", "log", "machine", "detach"),
    *("start", "toggle", "finetune", "freeze_layers", "part", "close", "zoom", "export"),
)

OnEvents = Callable[[Sequence[AnyEvent]], None]


class TrainScreen(HomeScreen[None]):
    """Shows a run and steers it through a link."""

    NAME = "train"
    TITLE_TEXT = "Train"
    INTRODUCTION = INTRODUCTION
    CSS_PATH = "screen.tcss"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (80, "-normal"), (_FRAMES[0], "-roomy"), (160, "-wide")]
    VERTICAL_BREAKPOINTS = [(0, "-short"), (_PLOTS, "-medium"), (_FRAMES[1], "-tall"), (48, "-huge")]
    AUTO_FOCUS = ""  # the keys are those of the screen, until somebody goes somewhere
    BINDINGS: ClassVar[list[BindingType]] = [
        *(
            bind(a.key_name, f"press('{a.name}')", label="Pause" if a.name == "pause" else "", show=a.name in _SHOWN)
            for a in ACTIONS
            if a.name != "resume"
        ),
        bind("freeze_layers"),
        bind("rate", "focus_rate", show=False),
        bind("raise_rate", "nudge_rate(1)", show=False),
        bind("lower_rate", "nudge_rate(-1)", show=False),
        bind("back", label="Hide the alert", show=False),
        bind("close", "leave", label="Quit"),
        *(bind(name, f"go('{name}')") for name in ("errors", "layers", "runs", "log", "machine", "checkpoints")),
        bind("part", "switch_part"),
        bind("detach", "app.detach"),  # behind those: what has no room is not shown
        *PLOT_KEYS,
    ]

    def __init__(
        self,
        link: Link,
        *,
        visiting: bool = False,
        on_events: OnEvents = lambda _events: None,
        watched: "WatchedRuns | None" = None,
    ) -> None:
        """With `visiting`, leaving goes back to the screen below instead of out of the program.

        `on_events` hears what the run says, made harmless. `watched` are the runs of others, where it is about one.
        """
        super().__init__()
        self._on_events = on_events
        self._visiting = visiting
        self.watched = watched
        access: Access = "steers" if link.steers else "reads" if link.attached else "files"
        self.store = Store(access, link.capabilities)
        self._link = link
        self.asker = Asker(link)
        self.panels = Panels(self, self.store)
        self.steering = Steering(self, link)

    def on_another_link(self, link: Link) -> "TrainScreen":
        """Return a screen of the same kind over `link`."""
        return TrainScreen(link, on_events=self._on_events)

    def compose(self) -> ComposeResult:
        """Lay the widgets out."""
        yield StatusBar(self.store, cue="press s to start", by_itself=False)
        yield Banner()
        with Container(id="body"):
            yield Plots()
            yield TabLine()
            yield PerClassTable().add_class("frame", update=False)
            yield Controls().add_class("frame", update=False)
            yield LayerList().add_class("frame", update=False)
            yield SettingsPanel().add_class("frame", update=False)
            yield LogPanel().add_class("frame", update=False)
        store = self.store
        unused, names = lambda: unshown(store.view), lambda: labels(store.view)
        yield KeyBar(palette=True, unshown=unused, first=_FIRST_KEYS, labels=names)
        yield Static(id="too-small")

    def on_mount(self) -> None:
        """Begin to look for events."""
        self._link.events.on_news = partial(self._wake, asyncio.get_running_loop())
        self.set_interval(_POLL_SECONDS, self._poll)
        self.panels.show()

    def on_resize(self) -> None:
        """Say so where the terminal is too small, and lay the two top lines out anew."""
        small = self.size.width < MIN_WIDTH or self.size.height < MIN_HEIGHT
        self.set_class(small, "-too-small")
        size = f"{self.size.width}x{self.size.height}"
        text = f"This terminal is {size}; finetui needs {MIN_WIDTH}x{MIN_HEIGHT}. Training is not affected."
        self.query_one(Plots).classes_tab = self.size.height >= _PLOTS and not self.is_framed
        self.query_one("#too-small", Static).update(Content(text))
        self.call_after_refresh(self.panels.resized)

    @property
    def is_framed(self) -> bool:
        """Whether there is room for everything at once, in frames."""
        return self.size.width >= _FRAMES[0] and self.size.height >= _FRAMES[1]

    # -- showing ----------------------------------------------------------------------------------------

    def _wake(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look for events now; called in any thread."""
        with suppress(RuntimeError):  # the loop is closed: the app has ended
            loop.call_soon_threadsafe(self.call_later, self._poll)

    def _poll(self) -> None:
        waiting = self._link.events
        if self._link.over and not self.store.view.over and not len(waiting):
            self.store.engine_ended()
            self.refresh_bindings()
            self.panels.show()
        if not waiting.has_news and not self.panels.due(unheard=len(waiting) > 0):
            return  # train points are heard together, when it is time to show them
        before, knew = self.store.view, self.store.machine.latest is not None
        heard = self.store.fold(self._link.events.drain(_MOST_AT_ONCE), self.steering.results.hear)
        if (unshown(self.store.view), labels(self.store.view)) != (unshown(before), labels(before)):
            self.refresh_bindings()
        if not knew and self.store.machine.latest is not None:
            self.hurry()  # the first look at the machine; later ones are shown with what changes
        if len(heard) == _MOST_AT_ONCE:
            self.call_later(self._poll)  # a long past: keys come in between
        self.panels.show()
        self._on_events(heard)
        for event in heard:
            self.asker.deliver(event)
            self.steering.hear(event)
        self.steering.tell()

    def on_screen_resume(self) -> None:
        """Catch up with what happened while another screen was in front."""
        self.hurry()
        self.panels.show()

    def hurry(self) -> None:
        """Show what is known by now at the next look, whatever the rate."""
        self.panels.hurry()

    def copyable(self) -> str | None:
        """Return the command that comes back to the run, or the folder of one without an engine to come back to."""
        return self.steering.way_back() or None

    def action_back(self) -> None:
        """Take the alert that is shown off the screen, else the classes' tab; else leave a run that is only visited."""
        if self.query_one(Banner).hide_alert():
            return
        if self.has_class("-classes") and not self.is_framed:
            self.action_plot(1)
        elif self._visiting:
            self.dismiss(None)

    # -- steering ---------------------------------------------------------------------------------------

    def why_not(self, action: str, parameters: tuple[object, ...]) -> str:
        """What the run does not obey now cannot be asked for."""
        view = self.store.view
        match action:
            case "press":
                return self.steering.why_not(str(parameters[0]))
            case "focus_rate" | "nudge_rate":
                return view.refusal_of(SetLearningRate) or ""
            case "freeze_layers":
                return view.refusal_of(SetFrozen) or ""
            case "switch_part":
                tables = self.query(PerClassTable)  # none while all is put together
                return view.why_not_part(tables.first().part if tables else "")
        return super().why_not(action, parameters)

    def why_not_open(self, name: str) -> str:
        """The form for a finetune is there where one can begin; lists say for themselves why they are empty."""
        return self.steering.why_not(name) if name == "finetune" else ""

    def send(self, command: AnyCommand) -> None:
        """Send `command`, or say why it makes no sense now."""
        self.steering.send(command)

    def hint(self, text: str) -> None:
        """Say why something was not done."""
        self.steering.refuse(text)

    def action_press(self, name: str) -> None:
        """Do what the button `name` does."""
        self.steering.press(name)

    def on_action_button_pressed(self, message: ActionButton.Pressed) -> None:
        """Do what the button says."""
        message.stop()
        self.action_press(message.action)

    def action_switch_part(self) -> None:
        """Show the classes' scores on the other part that is held out; have it evaluated where it was not yet."""
        view, table = self.store.view, self.query_one(PerClassTable)
        part = view.other_part(table.part)
        if part is None:
            return
        table.show_part(part, view)
        if view.evaluation_of(part) is None:
            self.send(Evaluate(part=part))

    def on_action_button_pointed(self, message: ActionButton.Pointed) -> None:
        """Explain a button that is not among the controls."""
        self.query_one(Controls).on_action_button_pointed(message)

    def action_freeze_layers(self) -> None:
        """Go to the list of layers; from there, freeze the one under the cursor."""
        self.query_one(LayerList).freeze()

    def on_layer_list_toggled(self, message: LayerList.Toggled) -> None:
        """Freeze or unfreeze at the next step."""
        message.stop()
        self.send(SetFrozen(groups=message.groups, layers=message.layers, frozen=message.frozen))

    def on_controls_learning_rate_chosen(self, message: Controls.LearningRateChosen) -> None:
        """Use another learning rate from the next step on."""
        message.stop()
        self.steering.set_rate(message.value)

    def on_controls_learning_rate_nudged(self, message: Controls.LearningRateNudged) -> None:
        """Go one rung up or down."""
        message.stop()
        self.action_nudge_rate(message.direction)

    def action_nudge_rate(self, direction: int) -> None:
        """Go one rung up or down the ladder of learning rates."""
        self.steering.nudge_rate(direction)

    def action_focus_rate(self) -> None:
        """Go to the learning rate field."""
        self.query_one(LearningRateInput).focus()

    def action_plots(self, name: str) -> None:
        """Do with the plots what the key called `name` means."""
        self.query_one(Plots).do(name)

    def action_plot(self, number: int) -> None:
        """Go to the plot of that number, or behind them to the classes, where these are a tab."""
        self.set_class(False, "-classes")
        self.query_one(Plots).choose(number)

    def on_tab_line_pressed(self, message: TabLine.Pressed) -> None:
        """Go to that tab."""
        message.stop()
        self.action_plot(message.number)

    def on_plots_classes_wanted(self, message: Plots.ClassesWanted) -> None:
        """Show the classes in place of the plots."""
        message.stop()
        self.set_class(True, "-classes")
        self.query_one(TabLine).show_tabs(message.names)
        self.query_one(PerClassTable).focus_rows()

    # -- other screens ----------------------------------------------------------------------------------

    def open_screen(self, name: str) -> None:
        """Open what the key called `name` stands for."""
        getattr(self, f"action_{name}")()

    def ask_finetune(self, checkpoint: str = "") -> None:
        """Open the finetune form over what is shown, with the weights of a kept `checkpoint`, or say why not."""
        ask_finetune(self, self._link, checkpoint)

    def come_to_top(self) -> None:
        """Close what was opened over this screen."""
        while self.app.screen is not self and self in self.app.screen_stack:
            self.app.pop_screen()

    def action_finetune(self) -> None:
        """Ask how to go on from these weights."""
        self.action_press("finetune")

    def action_errors(self) -> None:
        """Show the images that were got wrong."""
        self.show_errors(lambda _classes: Selection(), part=self.query_one(PerClassTable).part)

    def on_per_class_table_chosen(self, message: PerClassTable.Chosen) -> None:
        """Show the mistakes among the images of a class."""
        message.stop()
        part = self.query_one(PerClassTable).part
        self.show_errors(lambda _classes: Selection(true=message.label), part=part)

    def show_errors(self, choose: Choose, *, part: AnyPart = "", leave_with_it: bool = False) -> None:
        """Show the images that `choose` lists of `part`, by default of that which is evaluated while training.

        `leave_with_it` leaves the program together with that screen.
        """
        self.opens_others = not leave_with_it
        leave = (lambda _: self.app.exit()) if leave_with_it else None
        self.app.push_screen(opening.errors(self.store, self.asker, choose, part), leave)

    def action_layers(self) -> None:
        """Show all that there is to know about the layers."""
        self.app.push_screen(opening.layers(self.store, self.send, self.asker, can_measure=self._link.steers))

    def on_log_panel_opened(self, message: LogPanel.Opened) -> None:
        """Show all of it."""
        message.stop()
        self.action_log()

    def action_log(self) -> None:
        """Show the whole journal, and what the engine printed."""
        self.app.push_screen(opening.log(self.store))

    def action_machine(self) -> None:
        """Show what the machine that trains is busy with."""
        self.app.push_screen(opening.machine(self.store))

    def action_runs(self) -> None:
        """List all runs, to look at others; where this one was opened from the list, go back to it."""
        opening.show_runs(self)

    def action_checkpoints(self) -> None:
        """List the checkpoints that are kept: go back to one, branch from one, keep one more."""
        self.run_worker(opening.choose_checkpoint(self, can_steer=self._link.steers))

    # -- leaving ----------------------------------------------------------------------------------------

    def on_unmount(self) -> None:
        """Say goodbye to a run that was only visited; the program's own link is closed by itself."""
        if self._visiting:
            self._link.close()

    def leave_now(self) -> None:
        """Leave; what is only being prepared is given up."""
        if self.store.view.state == "preparing" and not self._link.attached:
            self._link.send(Stop())  # nothing has begun, and nothing shall once nobody looks
        self.app.exit()

    @work(exclusive=True, group="leave")
    async def action_leave(self) -> None:
        """Leave, after asking what becomes of a live run that would end with the dashboard."""
        view = self.store.view
        if self._visiting:
            self.dismiss(None)
            return
        if self._link.outlives or view.state not in ("running", "paused"):
            self.leave_now()
            return
        choices = (Choice("stop", "enter", "Stop and quit"), Choice("stay", "escape", "Cancel"))
        lines = (
            f"Training stops when this dashboard closes. A checkpoint is saved at step {view.step:,}.",
            f"Resume from it: {self.steering.resume_command()}",
        )
        if await self.app.push_screen_wait(Dialog("Stop training and quit?", lines, choices)) == "stop":
            self.send(Stop())
            self.set_interval(_POLL_SECONDS, self._exit_once_ended)

    def _exit_once_ended(self) -> None:
        if self.store.view.state not in ("running", "paused"):
            self.app.exit()
