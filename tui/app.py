"""The App: it owns the link and the thread that runs it, and shows the Train screen."""

from collections.abc import Iterable

from textual.app import App, SystemCommand
from textual.screen import Screen
from textual.worker import Worker, WorkerState

from engine.criteria import Choose
from engine.events import StateChanged
from engine.link import CheckpointLink, JournalLink, Link
from engine.runs import RunFolder
from engine.text import clean
from tui import plotting
from tui.actions import ACTIONS
from tui.pictures.modes import Mode
from tui.screens.train import TrainScreen
from tui.theme import DARK, LIGHT


class FinetuiApp(App[None]):
    """A dashboard over whatever `link` leads to."""

    TITLE = "finetui"
    ENABLE_COMMAND_PALETTE = True

    def __init__(self, link: Link, *, image_mode: Mode = "blocks", errors: Choose | None = None) -> None:
        """Draw images as `image_mode` says; with `errors` begin with the test images that it lists."""
        super().__init__()
        self.image_mode = image_mode
        self.link = link
        self.train_screen = TrainScreen(link)
        self._errors = errors

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """Give the variables that finetui's stylesheets use a value in every theme."""
        return dict(DARK.variables)

    def on_mount(self) -> None:
        """Show the screen and start the engine."""
        self.register_theme(DARK)
        self.register_theme(LIGHT)
        self.theme = DARK.name
        self.push_screen(self.train_screen)
        if self._errors is not None:
            # A checkpoint alone has no run to go back to.
            alone = isinstance(self.link, CheckpointLink)
            self.train_screen.call_after_refresh(self.train_screen.show_errors, self._errors, leave_with_it=alone)
        self.run_worker(plotting.preload, thread=True, exit_on_error=False, name="preload")
        self.run_worker(self.link.run, thread=True, exit_on_error=False, name="link")

    def on_train_screen_run_chosen(self, message: TrainScreen.RunChosen) -> None:
        """Show another run from its journal, above what is shown now."""
        link = JournalLink(RunFolder(message.path))
        self.push_screen(TrainScreen(link, visiting=True))
        self.run_worker(link.run, thread=True, exit_on_error=False, name="visit")

    def on_worker_state_changed(self, message: Worker.StateChanged) -> None:
        """Say so where a thread failed: the dashboard stays, with what it knows."""
        if message.state is WorkerState.ERROR and message.worker.error is not None:
            error = message.worker.error
            reason = f"{message.worker.name}: {type(error).__name__}: {clean(str(error))}"
            self.link.events.put(StateChanged(state="crashed", reason=reason))

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """Put every action into the command palette."""
        yield from super().get_system_commands(screen)
        train = next((s for s in reversed(self.screen_stack) if isinstance(s, TrainScreen)), self.train_screen)
        for action in ACTIONS:
            yield SystemCommand(action.label, action.help, lambda name=action.name: train.action_press(name))
        yield SystemCommand("Log scale", "Loss axis: linear or logarithmic", train.action_toggle_log)
        yield SystemCommand("Learning rate", "Go to the learning rate", train.action_focus_rate)
        yield SystemCommand("Errors", "Test images that were got wrong, and why", train.action_errors)
        yield SystemCommand("Layers", "All about the layers, and freezing them", train.action_layers)
        yield SystemCommand("Runs", "All runs as a tree", train.action_runs)
        yield SystemCommand("Explain", "What this screen shows, and every key", train.action_help)

    async def action_quit(self) -> None:
        """Leave as `q` does, also where Textual's own key for it was pressed."""
        self.train_screen.action_leave()

    def on_unmount(self) -> None:
        """Let the link's thread return."""
        self.link.close()
