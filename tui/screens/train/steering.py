"""What the Train screen tells the engine: what a key or a button asks for, checked, after a form where it needs one."""

from pathlib import Path
from typing import TYPE_CHECKING

from finetui.engine.errors import BadInput
from finetui.engine.link.base import Link
from finetui.engine.protocol.commands import (
    AnyCommand,
    FindLearningRate,
    SetLearningRate,
    Start,
    StartFinetune,
    Stop,
)
from finetui.engine.protocol.config_checks import check_learning_rate
from finetui.engine.protocol.events import ENDED, AnyEvent, CommandAccepted, LearningRateFound
from finetui.engine.runs.folder import RunFolder
from finetui.tui.keys import KEYS
from finetui.tui.screens.dialog import Choice, Dialog
from finetui.tui.screens.toast import ShowToast
from finetui.tui.screens.train.controls import next_rate
from finetui.tui.screens.train.extend import ExtendForm
from finetui.tui.screens.train.messages import ResumeWanted
from finetui.tui.screens.train.rates import RatesScreen
from finetui.tui.state.actions import BY_NAME, Action
from finetui.tui.state.command_results import CommandResults
from finetui.tui.state.command_words import describe_command

if TYPE_CHECKING:
    from finetui.tui.screens.train.screen import TrainScreen


class Steering:
    """Sends what `screen` asks for over `link`."""

    def __init__(self, screen: "TrainScreen", link: Link) -> None:
        self._screen = screen
        self._store = screen.store
        self._link = link
        self._finding = ""  # id of the search for a learning rate that was asked for here
        self.results = CommandResults()

    def send(self, command: AnyCommand) -> None:
        """Send `command`, or say why it makes no sense now."""
        why_not = self._store.view.refusal_of(type(command))
        if why_not is not None:
            self.refuse(f"{describe_command(command)}: {why_not}")
            return
        if isinstance(command, FindLearningRate):
            self._finding = command.id
        self._store.sent(command)
        self._link.send(command)
        self._screen.panels.show()

    def refuse(self, text: str) -> None:
        """Say why something was not done."""
        self._screen.app.post_message(ShowToast(text[:1].upper() + text[1:], "refusal", warns=True))

    def undo(self) -> None:
        """Take the last change back that was made here, or say why that cannot be done."""
        found = self.results.undo(self._store.view)
        if isinstance(found, str):
            self.refuse(found)
        else:
            self.send(found)

    def way_back(self) -> str:
        """Return the command that comes back to the run, or its folder where no engine outlives this dashboard."""
        view = self._store.view
        if not view.path:
            return ""
        if view.only_files:
            return view.path
        lives = view.state not in ENDED and (self._link.outlives or self._link.attached)
        return f"finetui attach {RunFolder(Path(view.path)).argument}" if lives else view.path

    def resume_command(self) -> str:
        """Return the command that goes on with the run."""
        return f"finetui resume {RunFolder(Path(self._store.view.path)).argument}"

    def tell(self) -> None:
        """Show what became of what was asked for here."""
        for result in self.results.take():
            self._screen.app.post_message(ShowToast(result.text, result.kind, warns=result.warns))

    def hear(self, event: AnyEvent) -> None:
        """Show what was asked for here, now that `event` says it is there."""
        # Only an answer to this dashboard's own wish opens a screen: a journal tells of old ones.
        if isinstance(event, CommandAccepted) and event.command.id == self._finding:
            self._finding = ""
            if self._store.view.rates_found is not None:
                self._screen.run_worker(self._show_rates(self._store.view.rates_found))

    def why_not(self, name: str) -> str:
        """Return in a clause why the button `name` makes no sense now; empty where it does."""
        action = self._action(name)
        reason = self._store.view.refusal_of(action.kind)
        return f"{action.label}: {reason}" if reason is not None else ""

    def _action(self, name: str) -> Action:
        """Return what the button `name` does now."""
        return BY_NAME["resume" if name == "pause" and self._store.view.state == "paused" else name]

    def press(self, name: str) -> None:
        """Do what the button `name` does, or say why that makes no sense now."""
        action, view = self._action(name), self._store.view
        if why_not := self.why_not(name):
            self.refuse(why_not)
        elif action.kind is Start and view.can_go_on:
            self._screen.post_message(ResumeWanted(Path(view.path), own=self._is_own))
        elif action.kind is StartFinetune:
            self._screen.ask_finetune()
        elif action.kind is Stop:
            self._screen.run_worker(self._ask_stop(), exclusive=True, group="stop")
        elif action.command is not None:
            self.send(action.command())
        elif self._link.steers or self._extends_alone():
            self._screen.run_worker(self._ask_extend())
        else:
            words = f"finetui extend {RunFolder(Path(view.path)).argument} --epochs N"
            self._screen.app.post_message(ShowToast.to_copy(words))

    @property
    def _is_own(self) -> bool:
        """Whether the run was started by this dashboard, with code of the person's if it uses any."""
        return self._link.steers and not self._link.attached

    def _extends_alone(self) -> bool:
        """Return whether a run without an engine shall get one, to train further."""
        view = self._store.view
        return view.lacks_engine and view.state in ENDED

    def set_rate(self, value: float) -> None:
        """Train with the learning rate `value` from the next step on, or say what is wrong with it."""
        try:
            check_learning_rate(value, "the learning rate")
        except BadInput as error:
            self.refuse(str(error))
            return
        self.send(SetLearningRate(value=value))

    def nudge_rate(self, direction: int) -> None:
        """Go one rung up or down the ladder of learning rates."""
        if self._store.view.learning_rate:
            self.set_rate(next_rate(self._store.view.learning_rate, direction))

    async def _ask_stop(self) -> None:
        """Ask before the training ends; what is only being prepared is given up at once, for nothing is lost."""
        view = self._store.view
        if view.state != "preparing":
            lines = (
                f"A checkpoint is saved at step {view.step:,}; {KEYS['start'].shown} resumes from it.",
                "Nothing is lost.",
            )
            choices = (Choice("stop", "enter", "Stop"), Choice("stay", "escape", "Cancel"))
            if await self._screen.app.push_screen_wait(Dialog("Stop training?", lines, choices)) != "stop":
                return
        self.send(Stop())

    async def _ask_extend(self) -> None:
        command = await self._screen.app.push_screen_wait(ExtendForm(self._store.view))
        if command is not None and self._extends_alone():
            self._screen.post_message(ResumeWanted(Path(self._store.view.path), own=self._is_own, other=command))
        elif command is not None:
            self.send(command)

    async def _show_rates(self, found: LearningRateFound) -> None:
        rate = await self._screen.app.push_screen_wait(RatesScreen(found))
        if rate is not None:
            self.set_rate(rate)
