"""What became of what was asked for here, in sentences, and what of it can be taken back."""

from typing import NamedTuple

import msgspec

from finetui.engine.protocol import commands, events
from finetui.engine.runs.kept_checkpoints import PREVIOUS
from finetui.engine.text import clean
from finetui.tui.keys import KEYS
from finetui.tui.state.command_words import describe_command
from finetui.tui.state.numbers import factor, rate
from finetui.tui.state.parts import scores
from finetui.tui.state.view import View

_MOST = 20  # changes that can be taken back, one after the other
_TOO_LATE = "Cannot undo the rollback: a later save has replaced the state before it"
_NOTHING = "Nothing to undo: no learning-rate change, freeze or rollback made here"

# Whoever asked a question shows what came of it.
_SILENT = (commands.Question, commands.NoteTest)
# Of these a sentence about a command tells.
_EFFECTS = (
    events.LearningRateChanged,
    events.LayersChanged,
    events.Rewound,
    events.Evaluated,
    events.CheckpointSaved,
)


# The last event of each kind, and how the run was before it.
_Heard = dict[type[events.Event], tuple[events.Event, View]]


class CommandResult(NamedTuple):
    """A sentence about a command; one of the same `kind` takes its place. `warns` where it was refused."""

    text: str
    kind: str
    warns: bool = False


class Change(NamedTuple):
    """Something that was done, in words, and the command that takes it back.

    For a roll back, `at` is which checkpoint holds what was left (`KeptCheckpoint.at`).
    """

    words: str
    back: commands.AnyCommand
    at: int = -1


class CommandResults:
    """Hears what an engine says, and makes sentences of the answers to what was asked for from this dashboard."""

    def __init__(self) -> None:
        self._told: list[CommandResult] = []
        self._heard: _Heard = {}
        self._changes: list[Change] = []
        self._taking_back: dict[str, Change] = {}  # by the id of the command that does it
        self._why_not = _NOTHING

    def take(self) -> list[CommandResult]:
        """Return the sentences that have come since this was called last."""
        told, self._told = self._told, []
        return told

    def undo(self, view: View) -> commands.AnyCommand | str:
        """Return the command that takes the last change back, or why there is none now."""
        if why_not := self.why_no_undo(view):
            return why_not
        change = self._changes[-1]
        back = change.back
        del self._changes[-1]
        if isinstance(back, commands.RollBack):
            name = next((one.name for one in view.kept if one.at == change.at), None)
            if name is None:
                return _TOO_LATE
            back = msgspec.structs.replace(back, checkpoint=name)
        if isinstance(back, commands.SetLearningRate) and back.factor is not None and view.rate_factor:
            back = msgspec.structs.replace(back, value=view.learning_rate / view.rate_factor * back.factor)
        back = msgspec.structs.replace(back, id=commands.new_id(), by="")
        self._taking_back[back.id] = change
        return back

    def why_no_undo(self, view: View) -> str:
        """Return why there is nothing that could be taken back now; empty where there is."""
        if not self._changes:
            return self._why_not
        reason = view.refusal_of(type(self._changes[-1].back))
        return f"Cannot undo now: {reason}" if reason is not None else ""

    def hear(self, event: events.AnyEvent, view: View) -> None:
        """Note `event`, before which the run was as `view` says."""
        match event:
            case events.RunPrepared():
                self._forget(_NOTHING)
            case events.Rewound() if not any(isinstance(c, commands.RollBack) for c in view.pending.values()):
                self._forget(f"Nothing to undo: the run went back to step {event.step:,}")
        if isinstance(event, _EFFECTS):
            self._heard[type(event)] = event, view
        elif isinstance(event, events.CommandAccepted | events.CommandRefused):
            # What a command does is told just before its answer.
            heard = {kind: one for kind, one in self._heard.items() if one[0].step == event.step}
            self._heard.clear()
            if event.command.id not in view.pending or isinstance(event.command, _SILENT):
                return
            if isinstance(event, events.CommandAccepted):
                self._accepted(event, heard, view)
            else:
                self._refused(event)

    def _forget(self, why: str) -> None:
        self._changes.clear()
        self._why_not = why

    def _refused(self, event: events.CommandRefused) -> None:
        if (change := self._taking_back.pop(event.command.id, None)) is not None:
            self._changes.append(change)
        self._tell(event.command, f"{_capital(describe_command(event.command))}: {event.reason}", warns=True)

    def _accepted(self, event: events.CommandAccepted, heard: _Heard, view: View) -> None:
        command = event.command
        undone = self._taking_back.pop(command.id, None)
        change = _change(command, heard, view)
        words = change.words if change is not None else _words(event, heard, view)
        if undone is not None:
            self._tell(command, f"Undone: {words}")
        elif change is None:
            if words:
                self._tell(command, words)
        else:
            self._changes = [*self._changes[-_MOST + 1 :], change]
            until = " until the next save" if isinstance(command, commands.RollBack) else ""
            self._tell(command, f"{words} · {KEYS['undo'].shown} undo{until}")

    def _tell(self, command: commands.AnyCommand, text: str, *, warns: bool = False) -> None:
        self._told.append(CommandResult(clean(text, 300), type(command).__name__, warns))


def _change(command: commands.AnyCommand, heard: _Heard, now: View) -> Change | None:
    """Return what `command` changed by what was `heard` with it, if that can be taken back."""
    match command:
        case commands.SetLearningRate() if events.LearningRateChanged in heard:
            event, view = heard[events.LearningRateChanged]
            assert isinstance(event, events.LearningRateChanged)
            return _rate_change(event, view)
        case commands.SetFrozen() if events.LayersChanged in heard:
            event, view = heard[events.LayersChanged]
            assert isinstance(event, events.LayersChanged)
            return _freeze_change(command, event, view)
        case commands.RollBack() if events.Rewound in heard:
            event, view = heard[events.Rewound]
            assert isinstance(event, events.Rewound)
            undone = f"; {event.undone:,} step{'s' * (event.undone != 1)} undone" if event.undone else ""
            slower = f" at LR {factor(command.rate_factor)}" if command.rate_factor != 1 else ""
            words = f'Rolled back to "{command.checkpoint}" (step {event.step:,}){slower}{undone}'
            left = next((one for one in now.kept if one.name == PREVIOUS), None)
            return Change(words, commands.RollBack(checkpoint=PREVIOUS), left.at if left is not None else -1)
    return None


def _rate_change(event: events.LearningRateChanged, view: View) -> Change:
    by = f" (schedule {factor(event.factor)})" if event.factor is not None else ""
    if event.factor is not None and abs(event.factor - 1) < 1e-9:
        by = " (as scheduled)"
    words = f"LR {rate(view.learning_rate)} → {rate(event.learning_rate)}{by}"
    return Change(words, commands.SetLearningRate(value=view.learning_rate, factor=view.rate_factor))


def _freeze_change(command: commands.SetFrozen, event: events.LayersChanged, view: View) -> Change:
    before = {layer.name: layer.frozen for group in view.layers for layer in group.layers}
    layers = [layer for group in event.layers for layer in group.layers]
    changed = [layer for layer in layers if before.get(layer.name, layer.frozen) != layer.frozen]
    count = sum(layer.parameters for layer in changed)
    names = [*command.groups, *command.layers]
    what = ", ".join(names) if len(names) < 4 else f"{names[0]} and {len(names) - 1} more"
    words = f"{what} {'frozen' if command.frozen else 'unfrozen'} ({count:,} parameters)"
    back = commands.SetFrozen(layers=tuple(layer.name for layer in changed), frozen=not command.frozen)
    return Change(words, back)


def _words(event: events.CommandAccepted, heard: _Heard, view: View) -> str:
    """Return what happened, for what cannot be taken back."""
    at = f"step {event.step:,}"
    match event.command:
        case commands.Start():
            return f"Training continues from {at}" if event.step else "Training started"
        case commands.Pause():
            return f"Paused at {at} · {KEYS['toggle'].shown} resume"
        case commands.Resume():
            return f"Resumed at {at}"
        case commands.StepOnce():
            return f"Took one step, now at {at}"
        case commands.Stop():
            saved = ", checkpoint saved" if events.CheckpointSaved in heard else ""
            resume = f" · {KEYS['start'].shown} resume" if saved and not view.never(commands.Start) else ""
            return f"Stopped at {at}{saved}{resume}"
        case commands.Save(name=name):
            return f'Checkpoint "{name}" saved at {at}' if name else f"Checkpoint saved at {at}"
        case commands.Evaluate() if events.Evaluated in heard:
            found = heard[events.Evaluated][0]
            assert isinstance(found, events.Evaluated)
            return f"Evaluated at {at}: {scores(found)}"
        case commands.FindLearningRate():
            return ""  # a dialog shows it
        case commands.SetFrozen(frozen=frozen):
            return f"Nothing changed: already {'frozen' if frozen else 'trainable'}"
        case commands.SetFrozenNorm(trains=trains):
            return f"Frozen norm layers {'update' if trains else 'keep'} their running statistics"
        case commands.ChangeTraining(training=training):
            return f"New settings from {at}: {training.epochs} epochs, learning rate {rate(training.lr)}"
        case commands.StartFinetune(plan=plan):
            return f"Finetune ({plan.recipe}) starts from {at} of {view.name}"
        case commands.Branch(checkpoint=checkpoint):
            return f'New run from "{checkpoint}" of {view.name}'
    return f"{_capital(describe_command(event.command))}: done"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
