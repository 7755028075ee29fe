"""What the command palette offers: the actions of the Train screen, and the themes."""

from collections.abc import Callable, Iterator
from functools import partial

from textual.app import SystemCommand
from textual.theme import ThemeProvider

from finetui.tui.screens.train.screen import TrainScreen
from finetui.tui.state.actions import ACTIONS


class ThemesHere(ThemeProvider):
    """The themes that one can choose here: the present one, then finetui's own, then the others by name."""

    @property
    def commands(self) -> list[tuple[str, Callable[[], None]]]:
        """Each theme's name, and what puts it on."""
        app = self.app
        names = sorted(app.available_themes, key=lambda name: (name != app.theme, not name.startswith("finetui"), name))
        return [(name, partial(setattr, app, "theme", name)) for name in names]


def train_commands(train: TrainScreen) -> Iterator[SystemCommand]:
    """Yield every action of the Train screen `train`."""
    for action in ACTIONS:
        yield SystemCommand(action.label, action.help, lambda name=action.name: train.action_press(name))
    yield SystemCommand("Log axis", "The current plot: linear or logarithmic", lambda: train.action_plots("log_axis"))
    yield SystemCommand("Learning rate", "Go to the learning rate", train.action_focus_rate)
    yield SystemCommand("Errors", "Images that were got wrong, and why", train.action_errors)
    yield SystemCommand("Layers", "All about the layers, and freezing them", train.action_layers)
    yield SystemCommand("Checkpoints", "Go back to one, branch from one, keep one", train.action_checkpoints)
    yield SystemCommand("Runs", "All runs as a tree", train.action_runs)
    yield SystemCommand("Log", "The whole journal, and what the engine printed", train.action_log)
    yield SystemCommand("Machine", "CPU, memory, disk and GPUs, and where the time goes", train.action_machine)
    yield SystemCommand("Explain", "What this screen shows, and every key", train.action_help)
