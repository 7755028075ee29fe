"""Events as lines for people."""

import time
from bisect import bisect_right
from collections.abc import Iterable
from typing import Literal, NamedTuple

from finetui.engine.protocol import commands, events
from finetui.engine.text import clean
from finetui.tui.state.command_words import describe_command
from finetui.tui.state.feature_words import feature_line
from finetui.tui.state.parts import scores, sizes
from finetui.tui.state.provenance_words import in_a_line

Level = Literal["info", "warning", "error"]

_AT = {"running": " from", "paused": " at", "stopped": " at", "finished": " at"}

# What they do has a line of its own, which comes just before that of who wanted it.
_TELLING = (
    commands.Start,
    commands.Pause,
    commands.Resume,
    commands.Stop,
    commands.RollBack,
    commands.Evaluate,
    commands.FindLearningRate,
    commands.ChangeTraining,
)


class LogLine(NamedTuple):
    """One line of the log, its time as local HH:MM:SS and in Unix seconds.

    `seq` is the place of its event in the journal; -1 where it has none, because the dashboard says it. `undoes` is the
    first event that this one undoes (all that follow it, up to this one, as well); -1 where it undoes none. What
    `stands` nothing undoes: it was no part of the training.
    """

    clock: str
    level: Level
    text: str
    seq: int = -1
    step: int = 0
    time: float = 0.0
    undoes: int = -1
    stands: bool = False


class Undone:
    """Which of a journal's lines are undone: what came between a checkpoint and the return to it."""

    def __init__(self, lines: Iterable[LogLine] = ()) -> None:
        """Take a journal's lines, in order; those that undo nothing are not needed."""
        self._first: list[int] = []
        self._last: list[int] = []
        end: int | None = None
        for line in reversed([line for line in lines if line.undoes >= 0]):
            # A return that was itself undone by a later one brings nothing back and takes nothing away.
            if end is None or line.seq < end:
                self._first.insert(0, line.undoes)
                self._last.insert(0, line.seq - 1)
                end = line.undoes

    def __contains__(self, line: LogLine) -> bool:
        """Tell whether `line` is undone."""
        index = bisect_right(self._first, line.seq) - 1
        return line.seq >= 0 and not line.stands and index >= 0 and line.seq <= self._last[index]


def log_line(event: events.AnyEvent) -> LogLine | None:
    """Return the line that `event` adds to the log, if any."""
    found = _text(event)
    if found is None:
        return None
    level, text = found
    at = event.time or time.time()
    undoes = event.at if isinstance(event, events.Rewound) else -1
    return LogLine(clock(at), level, clean(text, 1000), event.seq, event.step, at, undoes, _stands(event))


def signed(before: LogLine, event: events.AnyEvent) -> LogLine | None:
    """Return `before`, the line of what a command did, with who wanted it, where that is all that `event` adds."""
    if not isinstance(event, events.CommandAccepted) or not isinstance(event.command, _TELLING):
        return None
    told = before.step == event.step and before.level == "info" and getattr(event.command, "rate_factor", 1) == 1
    return before._replace(text=before.text + _by(event.command)) if told else None


def _stands(event: events.AnyEvent) -> bool:
    """Return whether a return to a checkpoint leaves `event` as it is: test images stay seen, an engine started."""
    match event:
        case events.CommandAccepted(command=commands.NoteTest()):
            return True
        case events.RunPrepared() | events.JobFound() | events.ProvenanceTold() | events.SettingsTold():
            return True
        case events.StateChanged(state="preparing" | "ready"):
            return True
    return False


def clock(at: float, form: str = "%H:%M:%S") -> str:
    """Return the Unix time `at` as local time; a journal that somebody wrote by hand may have one that is none."""
    try:
        return time.strftime(form, time.localtime(at))
    except (OverflowError, OSError, ValueError):
        return "-" * len(time.strftime(form))


def settings_text(event: events.TrainingChanged) -> str:
    """Return by which settings a run goes on."""
    training = event.training
    return (
        f"new settings from step {event.step:,}: {training.epochs} epochs, batches of {training.batch_size}, "
        f"{training.optimizer}, {training.schedule}, learning rate {training.lr:g}"
    )


def job_text(event: events.JobFound) -> str:
    """Return which job of a batch system trains a run, and until when."""
    again = f", restarted {event.restarts} time{'s' * (event.restarts != 1)}" if event.restarts else ""
    until = f"; time limit at {clock(event.ends, '%Y-%m-%d %H:%M')}" if event.ends else ""
    return f"{event.system} job {clean(event.id, 60)}{again}{until}"


def from_place(data: events.DataSummary) -> str:
    """Return where the images come from, behind their number: ` from /data`, ` bundled with finetui`."""
    word = "" if data.location.startswith("bundled") else "from "
    return f" {word}{data.location}" if data.location else ""


def _by(command: commands.AnyCommand) -> str:
    return f" (by {clean(command.by)})" if command.by else ""


def _text(event: events.AnyEvent) -> tuple[Level, str] | None:
    match event:
        case events.RunPrepared():
            data = event.data
            where = ": ".join(filter(None, (data.name, sizes(data) if any(data.sizes.values()) else "")))
            where += from_place(data)
            text = "; ".join(part for part in (where, data.loader, *event.notices) if part)
            return "warning" if event.notices else "info", text
        case events.RunStarted():
            return "info", f"run {event.name} in {event.path}"
        case events.StateChanged():
            level: Level = "error" if event.state in ("failed", "crashed") else "info"
            text = f"{event.state}{_AT[event.state]} step {event.step:,}" if event.state in _AT else event.state
            return level, f"{text}: {event.reason}" if event.reason else text
        case events.Evaluated():
            return "info", f"epoch {event.epoch}: {scores(event)}" if event.epoch or event.n else scores(event)
        case events.ProvenanceTold():
            return "info", in_a_line(event.provenance)
        case events.SettingsTold():
            told = ", ".join(f"{name} {value}" for name, value in event.settings.items())
            return "info", clean(f"settings: {told}", 500)
        case events.TrainingChanged():
            return "info", settings_text(event)
        case events.StageStarted():
            lasts = f"{event.epochs} epoch{'s' if event.epochs > 1 else ''}, learning rate {event.learning_rate:g}"
            return "info", f"stage {event.index} of {event.count}, {event.name}: {lasts}"
        case events.EffectMeasured():
            trainable = f"{event.trainable_before:,} → {event.trainable_after:,} trainable parameters"
            return "info", f"{trainable}, {event.speed_before:,.0f} → {event.speed_after:,.0f} img/s"
        case events.FeaturesChanged():
            return "warning" if event.state == "off" else "info", feature_line(event)
        case events.LearningRateFound():
            found = "no clear minimum" if event.suggestion is None else f"suggests {event.suggestion:g}"
            return "info", f"learning-rate finder at step {event.step:,}: {found}"
        case events.CommandAccepted() | events.CommandRefused():
            return _reply(event)
        case events.Rewound():
            return "warning" if event.reason else "info", _return(event)
        case events.JobFound():
            return "info", job_text(event)
        case events.Alert():
            return "warning", f"{event.kind}: {event.message}"
        case events.Log():
            return event.level, event.message
    return None


def _reply(event: events.CommandAccepted | events.CommandRefused) -> tuple[Level, str] | None:
    match event:
        case events.CommandAccepted(command=commands.RollBack(rate_factor=factor)) if factor != 1:
            return "info", f"learning rate x{factor:g} from step {event.step:,}{_by(event.command)}"
        case events.CommandAccepted(command=command) if isinstance(command, _TELLING) and not command.by:
            return None
        case events.CommandAccepted(command=commands.Save(name=name)):
            saved = f'checkpoint "{clean(name)}"' if name else "checkpoint"
            return "info", f"{saved} saved at step {event.step:,}{_by(event.command)}"
        case events.CommandAccepted():
            return "info", f"{describe_command(event.command)} at step {event.step:,}{_by(event.command)}"
        case events.CommandRefused(command=commands.Question()):
            return None  # whoever asked is told where the answer would stand
        case events.CommandRefused():
            return "warning", f"{describe_command(event.command)} refused: {event.reason}{_by(event.command)}"


def _return(event: events.Rewound) -> str:
    back = {"resume": "resumed", "rollback": "rolled back", "branch": "branched"}[event.cause]
    to = {"resume": "from", "rollback": "to", "branch": "from"}[event.cause]
    undone = f"; {event.undone:,} step{'s' * (event.undone != 1)} undone" if event.undone else ""
    why = f": {event.reason}" if event.reason else ""
    return f'{back} {to} "{event.file.removesuffix(".ckpt")}" (step {event.step:,}){undone}{why}'
