"""What the dashboard knows of a run: a reducer from events to an immutable view. No widget sees a link."""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import msgspec

from finetui.engine.protocol import commands, events
from finetui.engine.protocol.capabilities import Capabilities
from finetui.engine.runs.summaries import best_accuracy
from finetui.tui.state.eta import EtaEstimator
from finetui.tui.state.log_lines import log_line, signed
from finetui.tui.state.machine import MachineHistory
from finetui.tui.state.run_curves import RunCurves
from finetui.tui.state.sanitize import sanitized
from finetui.tui.state.view import Access, Mark, View

LOG_LINES = 500
_TAKE_A_WHILE = (commands.FindDuplicates, commands.Evaluate, commands.FindLearningRate)  # they tell how far they are
_CAUSES: Mapping[events.RewindCause, str] = {"resume": "resumed", "rollback": "rolled back", "branch": "branched"}
_SPEED_MEMORY = 0.9  # weight of the past in the smoothed speed: about the last ten points


def reduce(view: View, event: events.AnyEvent) -> View:
    """Return `view` after `event`."""
    changed = _change(view, event)
    alert = _alert(view, event)
    if alert is not changed.alert:
        changed = msgspec.structs.replace(changed, alert=alert)
    event = _unsigned(view, event)
    line = log_line(event)
    if line is not None and changed.log and (with_name := signed(changed.log[-1], event)) is not None:
        changed = msgspec.structs.replace(changed, log=(*changed.log[:-1], with_name))
    elif line is not None:
        changed = msgspec.structs.replace(changed, log=(*changed.log[-LOG_LINES + 1 :], line))
    return changed


def _unsigned(view: View, event: events.AnyEvent) -> events.AnyEvent:
    """Return `event` without who gave the command that it answers, if that was here: others are worth a name."""
    if isinstance(event, (events.CommandAccepted, events.CommandRefused)) and event.command.id in view.pending:
        return msgspec.structs.replace(event, command=msgspec.structs.replace(event.command, by=""))
    return event


def _alert(view: View, event: events.AnyEvent) -> events.Alert | None:
    """Return the newest alert, until something is done about it or the run does better by itself."""
    if isinstance(event, events.Alert):
        return event
    improved = isinstance(event, events.Evaluated) and event.best
    changed = isinstance(
        event,
        (
            events.LearningRateChanged,
            events.TrainingChanged,
            events.LayersChanged,
            events.StageStarted,
            events.Rewound,
            events.RunPrepared,
        ),
    )
    return None if improved or changed else view.alert


def _change(view: View, event: events.AnyEvent) -> View:
    replace = msgspec.structs.replace
    match event:
        case events.Phase():
            over = event.done >= event.total > 0 and view.state != "preparing"
            return replace(view, phase=None if over else event)
        case events.DuplicatesFound():
            return replace(view, phase=None)
        case events.DataSeen():
            return replace(view, changed=event.changed, files_read=event.share)
        case events.Audience():
            return replace(view, audience=event.names)
        case events.RunPrepared():
            return _prepared(view, event)
        case events.SettingsTold():
            return replace(view, hparams={**(view.hparams or {}), **event.settings})
        case events.RunStarted():
            return replace(view, name=event.name, path=event.path)
        case events.StateChanged():
            return replace(view, state=event.state, reason=event.reason, phase=None, step=max(view.step, event.step))
        case events.TrainPoint():
            return _trained(view, event)
        case events.Evaluated(watched=False):
            return replace(view, others={**view.others, event.part: event}, phase=None)
        case events.Evaluated():
            accuracy = best_accuracy(view.best_accuracy, event)
            is_best = event.best if event.figure is not None else accuracy != view.best_accuracy
            best = event if is_best else view.best
            view = replace(view, best=best, best_accuracy=accuracy)
            return replace(view, evaluation=event, previous=view.evaluation, phase=None)
        case events.CheckpointSaved():
            return replace(view, kept=event.kept)
        case events.Rewound():
            return _rewound(view, event)
        case events.RanksSeen():
            return replace(view, ranks=event)
        case events.JobFound():
            return replace(view, job=event)
        case events.EffectMeasured():
            return replace(view, effect=event)
        case events.FeaturesChanged():
            return replace(view, features=None if event.state in ("dropped", "on") else event)
        case events.LearningRateFound():
            return replace(view, rates_found=event, phase=None)
        case events.LayersChanged() | events.LearningRateChanged() | events.TrainingChanged() | events.StageStarted():
            return _steered(view, event)
        case events.FinetunePreview() | events.CommandAccepted() | events.CommandRefused() | events.Answer():
            return _answered(view, event)
    return view


def _steered(view: View, event: events.AnyEvent) -> View:
    """Return `view` after a change of how the run trains, which a plot marks."""
    replace = msgspec.structs.replace
    match event:
        case events.LayersChanged():
            label = _layers_label(view.layers, event.layers)
            marks = _marked(view, event.step, label) if label else view.marks
            return replace(view, layers=event.layers, marks=marks)
        case events.LearningRateChanged():
            marks = _marked(view, event.step, _rate_label(view.learning_rate, event.learning_rate))
            return replace(view, learning_rate=event.learning_rate, rate_factor=event.factor, marks=marks)
        case events.TrainingChanged():
            config = replace(view.config, training=event.training)
            marks = _marked(view, event.step, "settings")
            counted = (event.step, event.epochs)
            steps = event.steps_per_epoch
            # Another base rate is a person's wish that takes the place of earlier ones.
            by_hand = view.rate_factor if event.training.lr == view.config.training.lr else 1.0
            view = replace(view, rate_factor=by_hand)
            return replace(view, config=config, steps_per_epoch=steps, counted_from=counted, marks=marks)
        case events.StageStarted():
            rate = event.learning_rate
            return replace(view, stage=event, learning_rate=rate, marks=_marked(view, event.step, event.name))
    return view


def _answered(view: View, event: events.AnyEvent) -> View:
    """Return `view` after the reply to a command, or the answer to a question."""
    replace = msgspec.structs.replace
    match event:
        case events.FinetunePreview():
            return replace(view, pending=_without(view.pending, event.command))
        case events.CommandAccepted(command=commands.SetFrozenNorm(trains=trains)):
            return replace(view, norm_trains=trains, pending=_without(view.pending, event.command), refusal=None)
        case events.CommandAccepted():
            return replace(view, pending=_without(view.pending, event.command), refusal=None)
        case events.CommandRefused():
            phase = None if isinstance(event.command, _TAKE_A_WHILE) else view.phase
            # Whoever asked a question says what became of it.
            refused = view.refusal if isinstance(event.command, commands.Question) else event
            return replace(view, pending=_without(view.pending, event.command), refusal=refused, phase=phase)
        case events.Answer() if view.state in events.ENDED and view.phase is not None:
            return replace(view, phase=None)  # it was told by an engine that only answers questions
    return view


def _trained(view: View, event: events.TrainPoint) -> View:
    speed, rate = event.samples_per_second or 0.0, event.learning_rate
    if view.speed:
        speed = _SPEED_MEMORY * view.speed + (1 - _SPEED_MEMORY) * speed
    return msgspec.structs.replace(
        view,
        point=event,
        step=max(view.step, event.step) if view.only_files else event.step,
        epoch=max(view.epoch, event.epoch) if view.only_files else event.epoch,
        learning_rate=view.learning_rate if rate is None else rate,
        speed=speed,
        phase=None,
    )


def _prepared(view: View, event: events.RunPrepared) -> View:
    """Begin anew: what follows belongs to another run."""
    return View(
        access=view.access,
        state="preparing",
        name=event.config.run.name,
        capabilities=event.capabilities,
        hparams=event.hparams,
        config=event.config,
        data=event.data,
        layers=event.layers,
        device=event.device,
        parameters=event.parameters,
        steps_per_epoch=event.steps_per_epoch,
        parent=event.parent,
        notices=event.notices,
        learning_rate=0.0 if event.hparams is not None else event.config.training.lr,
        norm_trains=event.config.training.frozen_norm_trains,
        pending=view.pending,
        log=view.log,
        audience=view.audience,
    )


def _rewound(view: View, event: events.Rewound) -> View:
    """Take up the state that holds again."""
    evaluation = view.evaluation if view.evaluation is None or view.evaluation.step <= event.step else None
    best = view.best if view.best is None or view.best.step <= event.step else None
    view = msgspec.structs.replace(
        view,
        step=event.step,
        epoch=event.epoch,
        point=None,
        phase=None,
        learning_rate=event.learning_rate,
        rate_factor=event.rate_factor,
        layers=event.layers,
        norm_trains=event.norm_trains,
        best_accuracy=event.best_accuracy,
        best=best,
        evaluation=evaluation,
        others={part: other for part, other in view.others.items() if other.step <= event.step},
        marks=tuple(mark for mark in view.marks if mark.x <= view.epochs_at(event.step)),
        device=event.device or view.device,
        kept=event.kept or view.kept,
        rates_found=None,
        features=None,
    )
    return msgspec.structs.replace(view, marks=_marked(view, event.step, _CAUSES[event.cause]))


def _layers_label(before: tuple[events.LayerGroup, ...], after: tuple[events.LayerGroup, ...]) -> str:
    """Return what changed, in words; nothing where only modes changed."""
    trained = {group.name: group.trainable for group in before}
    frozen = [group.name for group in after if group.trainable < trained.get(group.name, 0)]
    thawed = [group.name for group in after if group.trainable > trained.get(group.name, group.trainable)]
    words = (("frozen", frozen), ("unfrozen", thawed))
    return ", ".join(f"{_few(names)} {word}" for word, names in words if names)


def _few(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= 2 else f"{len(names)} layers"


def _rate_label(before: float, after: float) -> str:
    """Return what a change of the learning rate is called: its factor, which a schedule keeps."""
    return f"lr x{after / before:.2g}" if before > 0 and after > 0 else f"lr {after:g}"


def _marked(view: View, step: int, label: str) -> tuple[Mark, ...]:
    return (*view.marks, Mark(view.epochs_at(step), label)) if step else view.marks


def _without(
    pending: Mapping[str, commands.AnyCommand], command: commands.AnyCommand
) -> Mapping[str, commands.AnyCommand]:
    return {key: value for key, value in pending.items() if key != command.id}


Hear = Callable[[events.AnyEvent, View], None]


class _Snapshot(NamedTuple):
    """What was known when a checkpoint was written: a run that goes back to it shows this again."""

    view: View
    curves: RunCurves


# What a run's past decides; everything else in a view is of the present.
_PAST = ("stage", "effect", "evaluation", "previous", "best", "others", "marks")


class Store:
    """The view and the curves of the run that is shown; `fold` brings them up to date.

    `machine` and `eta` are no part of the view, nor of a run's past that can be gone back to.
    """

    def __init__(self, access: Access = "steers", capabilities: Capabilities | None = None) -> None:
        """Take how the run is shown, and what is obeyed as long as it has told nothing of that."""
        self.view = View(access=access, capabilities=capabilities)
        self.machine = MachineHistory()
        self.eta = EtaEstimator()
        self.curves = RunCurves()
        self._snapshots: dict[int, _Snapshot] = {}

    def fold(
        self, arrived: Iterable[events.AnyEvent], hear: Hear = lambda _event, _view: None
    ) -> list[events.AnyEvent]:
        """Apply the events that `arrived`, oldest first, and return them with their texts made harmless.

        `hear` is told of each, and how the view was before it.
        """
        harmless = list(map(sanitized, arrived))
        for event in harmless:
            if isinstance(event, events.MachineSample):
                self.machine.hear(event)
                continue
            if isinstance(event, events.TrainPoint):
                self.machine.hear_point(event)
            hear(event, self.view)
            if isinstance(event, events.Rewound):
                self._go_back(event)
            running = self.view.state == "running"
            self.view = reduce(self.view, event)
            self.eta.hear(event, self.view)
            if isinstance(event, events.RunPrepared):
                by_step = event.hparams is not None and not event.steps_per_epoch
                self.curves, self._snapshots = RunCurves("step" if by_step else "epoch"), {}
            self.curves.hear(event, self.view.epochs_at(event.step), running=running)
            if isinstance(event, events.CheckpointSaved):
                self._remember(event)
        return harmless

    def _remember(self, event: events.CheckpointSaved) -> None:
        snapshot = _Snapshot(self.view, self.curves.copy())
        # One for each checkpoint that there still is: nobody can go back to any other.
        there = {kept.at for kept in event.kept}
        self._snapshots = {at: known for at, known in self._snapshots.items() if at in there} | {event.at: snapshot}

    def _go_back(self, event: events.Rewound) -> None:
        """Show one line: what is undone leaves the curves, and what an undone line had undone is there again."""
        found = self._snapshots.get(event.at)
        if found is not None:
            past = {name: getattr(found.view, name) for name in _PAST}
            self.view = msgspec.structs.replace(self.view, **past)
            self.curves = found.curves.copy()
            self.curves.go_on()
            return
        self.curves.cut(self.view.epochs_at(event.step))

    def engine_ended(self) -> None:
        """Note that the engine has left, in whatever state the run is."""
        self.view = msgspec.structs.replace(self.view, over=True)

    @property
    def seconds_left(self) -> float | None:
        """Estimated time until the run has finished, evaluations included; None while that is not known."""
        return self.eta.seconds_left(self.view)

    def sent(self, command: commands.AnyCommand) -> None:
        """Note that `command` is on its way; it is pending until its answer comes."""
        pending = {**self.view.pending, command.id: command}
        self.view = msgspec.structs.replace(self.view, pending=pending, refusal=None)
