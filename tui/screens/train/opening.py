"""The screens that are opened from the Train screen; the large ones are imported only then, for that takes a while."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetui.engine.predictions.criteria import Choose, Selection
from finetui.engine.protocol.commands import AnyCommand
from finetui.engine.protocol.values import AnyPart
from finetui.tui.queries.asker import Asker
from finetui.tui.screens.base import Screen
from finetui.tui.screens.run_chosen import Differing
from finetui.tui.screens.train.checkpoints import CheckpointsScreen
from finetui.tui.state.store import Store

if TYPE_CHECKING:
    from finetui.tui.screens.train.screen import TrainScreen


def errors(
    store: Store, asker: Asker, choose: Choose, part: AnyPart, differing: Differing | None = None
) -> Screen[Any]:
    """Return the screen with the images of `part` that `choose` lists, or with those that two networks differ on."""
    from finetui.tui.screens.errors.screen import ErrorsScreen

    return ErrorsScreen(store, asker, choose, part, differing)


def show_differing(train: "TrainScreen", differing: Differing) -> None:
    """Show the images that the run of `train`, opened for that alone, and another differ on; both are left at once."""

    def leave(_: object) -> None:
        train.call_later(train.action_leave)

    train.app.push_screen(errors(train.store, train.asker, lambda _classes: Selection(), "", differing), leave)


def layers(store: Store, send: Callable[[AnyCommand], None], asker: Asker, *, can_measure: bool) -> Screen[Any]:
    """Return the screen with all that there is to know about the layers."""
    from finetui.tui.screens.layers.screen import LayersScreen

    return LayersScreen(store, send, asker, can_measure=can_measure)


def log(store: Store) -> Screen[Any]:
    """Return the screen with the whole journal, and what the engine printed."""
    from finetui.tui.screens.log.screen import LogScreen

    return LogScreen(store)


def machine(store: Store) -> Screen[Any]:
    """Return the screen with what the machine that trains is busy with."""
    from finetui.tui.screens.machine.screen import MachineScreen

    return MachineScreen(store)


def show_runs(train: "TrainScreen") -> None:
    """List all runs; where `train` was opened from that list, go back to it."""
    from finetui.tui.screens.runs.screen import RunsScreen

    stack = train.app.screen_stack
    lists = [at for at, one in enumerate(stack) if isinstance(one, RunsScreen)]
    if lists:
        stack[lists[-1] + 1].dismiss(None)  # and all above it
        return
    view = train.store.view
    if train.watched is not None:
        train.app.push_screen(RunsScreen(train.store, train.watched))
        return
    runs_dir = Path(view.path).parent if view.path else Path(view.config.run.runs_dir)
    train.app.push_screen(RunsScreen(train.store, runs_dir))


async def choose_checkpoint(train: "TrainScreen", *, can_steer: bool) -> None:
    """List the checkpoints that are kept: go back to one, branch from one, keep one more."""
    view, why_not = train.store.view, ""
    if view.only_files:
        why_not = "The watched files contain no checkpoints."
    elif not can_steer:
        why_not = "This dashboard cannot steer the run; use finetui resume or finetui branch."
    command = await train.app.push_screen_wait(CheckpointsScreen(view, why_not))
    if command is not None:
        train.send(command)
