"""The App: it owns the link and the thread that runs it, and shows the Train screen."""

import base64
import gc
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

from textual import work
from textual.actions import ActionParseResult
from textual.app import SystemCommand
from textual.binding import BindingType
from textual.constants import DEFAULT_THEME
from textual.dom import DOMNode
from textual.notifications import SeverityLevel
from textual.screen import Screen
from textual.theme import Theme
from textual.worker import Worker, WorkerState

from finetui.engine.errors import BadInput, reason_of
from finetui.engine.link.base import Link
from finetui.engine.link.journal_link import CheckpointLink
from finetui.engine.link.no_link import NoLink
from finetui.engine.link.process_link import ProcessLink
from finetui.engine.predictions.criteria import Choose
from finetui.engine.protocol.events import Log, StateChanged
from finetui.engine.runs.folder import RunFolder
from finetui.engine.text import clean
from finetui.tui.app import exit_summary
from finetui.tui.app.links import link_to_finetuned, link_to_resumed, link_to_run, link_to_watched
from finetui.tui.app.notifications import Notifier, Notify
from finetui.tui.app.palette import Commands, ThemesHere, command_of, key_commands
from finetui.tui.app.terminal_app import TerminalApp
from finetui.tui.app.theme import DARK, LIGHT, completed, own_theme
from finetui.tui.app.toasts import Toasts
from finetui.tui.colours.depth import Depth
from finetui.tui.graphics.modes import Mode
from finetui.tui.keys import bind
from finetui.tui.screens.base import Palette
from finetui.tui.screens.help import HelpScreen
from finetui.tui.screens.run_chosen import RunChosen
from finetui.tui.screens.toast import ShowToast
from finetui.tui.screens.train import opening
from finetui.tui.screens.train.messages import FinetuneWanted, ResumeWanted
from finetui.tui.screens.train.plots import Plots
from finetui.tui.screens.train.screen import TrainScreen
from finetui.tui.state.actions import BY_NAME
from finetui.tui.state.last_settings import keep_last
from finetui.tui.terminal.terminal import Terminal
from finetui.tui.terminal.tmux import through_tmux
from finetui.tui.unavailable import SaysWhyNot, why_not
from finetui.tui.widgets import plot_geometry

if TYPE_CHECKING:
    from finetui.engine.sources.watched_runs import WatchedRuns
    from finetui.tui.screens.start.card import StartCard, Wanted
    from finetui.tui.widgets.picture import Picture

_OWN = (DARK.name, LIGHT.name)
_SOON = 0.1  # seconds
_PALETTE = "--command-palette"  # by which Textual knows it


class FinetuiApp(SaysWhyNot, TerminalApp):
    """A dashboard over whatever `link` leads to."""

    TITLE = "finetui"
    CSS_PATH = Path(__file__).with_suffix(".tcss")  # not relative: that would be to a subclass
    ENABLE_COMMAND_PALETTE = True
    COMMANDS = {Commands}
    BINDINGS: ClassVar[list[BindingType]] = [
        bind("undo", show=False),
        bind("copy", show=False),
        bind("suspend", "suspend_process", show=False, priority=True),
        bind("commands", "command_palette", show=False, priority=True),
        bind("theme", "toggle_dark", show=False),
    ]

    def __init__(
        self,
        link: Link,
        *,
        image_mode: Mode = "blocks",
        errors: Choose | None = None,
        finetune: str = "",
        first: "StartCard | None" = None,
        terminal: Terminal | None = None,
        is_leaving: Callable[[], bool] = lambda: False,
        notify: Notify = "off",
        depth: Depth = "truecolor",
        watched: "WatchedRuns | None" = None,
    ) -> None:
        """Draw images as `image_mode` says; with `errors` begin with the test images that it lists, with `finetune`
        with the form for a finetune from that checkpoint, with `first` with the card that asks what to train.

        Draw on `terminal`, by default on the process's own in Textual's way. `is_leaving` tells whether the process is
        about to end. `notify` is how alerts and the run's end are told to somebody who looks elsewhere. `depth` is how
        many colours the terminal has. `watched` are the runs of others that are shown: where the link leads to none of
        them, begin with their list.
        """
        super().__init__(terminal, is_leaving, depth)
        for dark in (True, False):
            self.register_theme(own_theme(depth, dark=dark))
        self.set_reactive(FinetuiApp.theme, DEFAULT_THEME if DEFAULT_THEME in _OWN else DARK.name)
        self.stylesheet.set_variables(self.get_css_variables())
        self.set_class(depth in ("16", "none"), "-few-colours")
        self.image_mode = image_mode
        self.link = link
        self.link_ended = threading.Event()
        self.link_ended.set()
        self.watched = watched
        on_events = Notifier(notify, self.write_to_terminal).hear
        self.train_screen = TrainScreen(link, on_events=on_events, watched=watched)
        self._errors = errors
        self.toasts = Toasts(self)
        self._finetune = finetune
        self._first = first

    def register_theme(self, theme: Theme) -> None:
        """Make a theme known."""
        super().register_theme(theme)
        self._themes = self._offered_themes()

    @property
    def available_themes(self) -> dict[str, Theme]:
        """The themes that one can choose, made out once: Textual asks for each style that it looks up."""
        return self._themes

    def _offered_themes(self) -> dict[str, Theme]:
        """Return others' themes than finetui's own only where their colours can be shown."""
        found = super().available_themes
        others = {name: one for name, one in found.items() if self.depth == "truecolor" and not one.ansi}
        own = {name: one for name, one in found.items() if name in _OWN}
        return own | others if own else found  # Textual asks before there are any of finetui's own

    def get_css_variables(self) -> dict[str, str]:
        """Give the variables that finetui's stylesheets use a value in every theme."""
        variables = super().get_css_variables()
        if self.current_theme.name not in _OWN:
            variables |= completed(variables, dark=self.current_theme.dark)
            self.theme_variables = variables
        return variables

    def on_mount(self) -> None:
        """Show the screen and start the engine."""
        self.push_screen(self.train_screen)
        if self._errors is not None:
            # A checkpoint alone has no run to go back to.
            alone = isinstance(self.link, CheckpointLink)
            self.train_screen.call_after_refresh(self.train_screen.show_errors, self._errors, leave_with_it=alone)
        if self._first is not None:
            self.push_screen(self._first, self._begin)
        if self.watched is not None and isinstance(self.link, NoLink):
            from finetui.tui.screens.runs.screen import RunsScreen

            self.push_screen(RunsScreen(self.train_screen.store, self.watched), lambda _: self.exit())
        if self._finetune:
            self._asking = self.set_interval(_SOON, self._ask_finetune)
        # What was imported is never garbage, and to look for some among it takes 30 ms in which no key is answered.
        self.call_after_refresh(gc.freeze)
        self.run_worker(plot_geometry.preload, thread=True, exit_on_error=False, name="preload")
        self._start_link()

    def _begin(self, wanted: "Wanted | None") -> None:
        """Do what the first card was left with."""
        if wanted is None:
            self.exit()
        elif wanted.run is not None:
            self._go_on_with(link_to_run(RunFolder(wanted.run), reading=False), self.train_screen)
        elif wanted.config is not None:
            try:
                keep_last(wanted.settings)
            except OSError as error:
                words = f"Could not save the settings: {reason_of(error)}"
                self.notify(words, severity="warning", markup=False)
            self._go_on_with(ProcessLink(wanted.config, autostart=True), self.train_screen)

    def _ask_finetune(self) -> None:
        """Open the form once the run is known, or told to be one that nothing can be done with."""
        view = self.train_screen.store.view
        told = self.link_ended.is_set() or view.state in ("running", "paused")
        if told and not len(self.link.events):
            self._asking.stop()
            self.train_screen.ask_finetune(self._finetune)

    def _start_link(self) -> None:
        self.link_ended.clear()
        self.run_worker(self._run_link, thread=True, exit_on_error=False, name="link")

    def _run_link(self) -> None:
        try:
            self.link.run()
        finally:
            self.link_ended.set()

    @work(thread=True, exclusive=True, exit_on_error=False, name="resume")
    def on_resume_wanted(self, message: ResumeWanted) -> None:
        """Let a run that has no engine go on in a new one, and show that instead."""
        folder, before = RunFolder(message.path), self._train_on_top()
        try:
            link = link_to_resumed(folder, own=message.own, other=message.other)
        except BadInput as error:
            reason = str(error)
            self.call_from_thread(self.notify, reason, title="Cannot resume", severity="warning", markup=False)
        else:
            show = self._go_on_with if before is self.train_screen else self._visit_instead
            self.call_from_thread(show, link, before)

    @work(thread=True, exclusive=True, exit_on_error=False, name="finetune")
    def on_finetune_wanted(self, message: FinetuneWanted) -> None:
        """Have a new engine train a finetune of a run that has none, and show that instead of the run."""
        before = self._train_on_top()
        try:
            link = link_to_finetuned(RunFolder(message.path), message.plan, own=message.own)
        except BadInput as error:
            reason = str(error)
            self.call_from_thread(self.notify, reason, title="Finetune", severity="warning", markup=False)
        else:
            show = self._go_on_with if before is self.train_screen else self._visit_instead
            self.call_from_thread(show, link, before)

    def _visit_instead(self, link: Link, before: TrainScreen) -> None:
        """Show the run of `link` in the place of one that is visited."""
        if not self._exit and before in self.screen_stack:
            before.come_to_top()
            self.pop_screen()
            self._visit(link)

    def _go_on_with(self, link: Link, before: TrainScreen) -> None:
        if self._exit or before is not self.train_screen:
            return  # it was asked for twice, or somebody has left meanwhile; the link has started nothing yet
        self.link.close()
        self.link = link
        self.train_screen = before.on_another_link(link)
        while self.screen is not before:  # something was opened over it meanwhile
            self.pop_screen()
        self.switch_screen(self.train_screen)
        self._start_link()

    def on_run_chosen(self, message: RunChosen) -> None:
        """Show another run above what is shown now: by its engine, if it has one, else from its journal."""
        # Whoever may only look may only look at the others, too, and through them at their own.
        reading = self.link.attached and not self.link.steers
        link = link_to_watched(message.path, self.watched) or link_to_run(RunFolder(message.path), reading=reading)
        train = self._visit(link)
        if message.differing is not None:
            train.call_after_refresh(opening.show_differing, train, message.differing)

    def _visit(self, link: Link) -> TrainScreen:
        train = TrainScreen(link, visiting=True, watched=self.watched)
        self.push_screen(train)
        self.run_worker(link.run, thread=True, exit_on_error=False, name="visit")
        return train

    def on_worker_state_changed(self, message: Worker.StateChanged) -> None:
        """Say so where a thread failed: the dashboard stays, with what it knows."""
        worker, error = message.worker, message.worker.error
        if message.state is not WorkerState.ERROR or error is None or worker.exit_on_error:
            return
        traceback.print_exception(error, file=sys.__stderr__)
        reason = f"{worker.name}: {type(error).__name__}: {clean(str(error))}"
        lost = worker.name == "link"
        event = StateChanged(state="crashed", reason=reason) if lost else Log(level="error", message=reason)
        self.link.events.put(event)

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """Put every action into the command palette: those of the screen in front, then those of the Train screen."""
        yield from key_commands(self, screen, self._train_on_top())
        name = "resume" if self._train_on_top().store.view.state == "paused" else "pause"
        yield command_of(self, name.capitalize(), BY_NAME[name].help, f"press('{name}')", self._train_on_top())
        plots = self._train_on_top().query(Plots)
        if plots:  # of a run's own numbers, which have no keys
            for metric in plots.first().own_metrics():
                choose = partial(plots.first().choose_metric, metric)
                yield SystemCommand(f"Plot {metric.title}", "Show this metric of the run", choose)
        yield SystemCommand("Themes", "Choose a theme", self.action_change_theme)
        yield SystemCommand("Screenshot", "Save the screen as an SVG", self.deliver_screenshot)

    def search_themes(self) -> None:
        """Let somebody choose a theme, the present one first."""
        self.push_screen(Palette(providers=[ThemesHere], placeholder="Search for themes…"))

    def action_help(self) -> None:
        """Explain the screen in front, and its keys."""
        self.push_screen(HelpScreen(self.screen))

    def action_toggle_dark(self) -> None:
        """Switch between finetui's own dark and light theme."""
        self.theme = LIGHT.name if self.current_theme.dark else DARK.name

    def action_command_palette(self) -> None:
        """Show the command palette, unless it is open."""
        if self.screen.id != _PALETTE:
            self.push_screen(Palette(id=_PALETTE))

    def _train_on_top(self) -> TrainScreen:
        return next((s for s in reversed(self.screen_stack) if isinstance(s, TrainScreen)), self.train_screen)

    def action_finetune(self) -> None:
        """Open the finetune form of the run that is shown, over whichever of its screens is on top."""
        if not self.screen.is_modal:
            self._train_on_top().ask_finetune()

    def notify(
        self,
        message: str,
        *,
        title: str = "",
        severity: SeverityLevel = "information",
        timeout: float | None = None,
        markup: bool = False,
    ) -> None:
        """Show `message` as whatever is `ShowToast`, plain and for as long as all are; may be called in any thread."""
        text = f"{title}: {message}" if title else message
        self.post_message(ShowToast(text, title, warns=severity != "information"))

    def on_show_toast(self, message: ShowToast) -> None:
        """Show what became of something."""
        self.toasts.show(message)

    def on_descendant_focus(self) -> None:
        """Let no toast hide what has the focus now."""
        self.toasts.place()

    def action_undo(self) -> None:
        """Take back the last change of the run that is in front."""
        self._train_on_top().steering.undo()

    def action_copy(self) -> None:
        """Copy what the newest toast or the screen in front shows: a path, or a command."""
        copyable = getattr(self.screen, "copyable", lambda: None)
        if text := self.toasts.copies or copyable() or self._train_on_top().copyable():
            self.copy_to_clipboard(text)
            self.toasts.show(ShowToast(f"Copied: {text}", "copy"))

    def _can_copy(self) -> bool:
        """Whether there is something to copy; mostly, without a look at the screen in front."""
        copyable = getattr(self.screen, "copyable", lambda: None)
        return bool(self.toasts.copies or self._train_on_top().copyable() or copyable())

    def copy_to_clipboard(self, text: str) -> None:
        """Have the terminal put `text` into the clipboard (OSC 52), also that of the computer that one sits at."""
        super().copy_to_clipboard(text)
        data = base64.b64encode(text.encode()).decode()
        self.write_to_terminal(through_tmux(f"\x1b]52;c;{data}\x07"))

    def action_detach(self) -> None:
        """Give the shell back."""
        self.train_screen.leave_now()

    def why_not(self, action: str, parameters: tuple[object, ...]) -> str:
        """What is of no use now in any screen."""
        match action:
            case "undo":
                return self._train_on_top().steering.results.why_no_undo(self._train_on_top().store.view)
            case "copy" if not self._can_copy():
                return "nothing to copy yet: the run has no folder"
            case "detach" if not self.link.outlives:
                return "detaching would end the training"
        return super().why_not(action, parameters)

    async def run_action(
        self,
        action: "str | ActionParseResult",
        default_namespace: DOMNode | None = None,
        namespaces: Mapping[str, DOMNode] | None = None,
    ) -> bool:
        """Do what a key or the palette asks for, or say why it cannot be done now."""
        reason = why_not(self, action, self if default_namespace is None else default_namespace, namespaces)
        if not reason:
            return await super().run_action(action, default_namespace, namespaces)
        self.post_message(ShowToast(reason, "refusal", warns=True))
        return True

    def outlook(self) -> str:
        """Return in a few words what becomes of the run, and how to come back to it; may be called in any thread."""
        view = self.train_screen.store.view
        return exit_summary.outlook(view, outlives=self.link.outlives, ended=self.link_ended.is_set())

    def repaint(self) -> None:
        """Draw everything anew: what the terminal shows is not known any more, or is old."""
        self._train_on_top().hurry()
        for screen in self.screen_stack:
            for picture in screen.query("Picture"):  # by its name: its module takes a while to import
                cast("Picture", picture).send_again()
        self.screen.refresh()

    async def action_quit(self) -> None:
        """Leave as `q` does, also where Textual's own key for it was pressed."""
        self.train_screen.action_leave()

    def on_unmount(self) -> None:
        """Let the link's thread return."""
        self.link.close()
