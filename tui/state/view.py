"""What the dashboard knows of a run at one moment, but for its curves."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

import msgspec

from finetui.engine.protocol import commands, events
from finetui.engine.protocol.capabilities import Capabilities
from finetui.engine.protocol.config import RunConfig
from finetui.engine.protocol.state_rules import HAS_ENDED, refusal
from finetui.engine.protocol.values import AnyPart
from finetui.tui.state.log_lines import LogLine

# How the run is shown: by its engine, which is told what to do or only looked at, or by files alone.
Access = Literal["steers", "reads", "files"]

# What a new engine can be started for, where a run has none.
_BEGUN_ANEW = (commands.Start, commands.StartFinetune, commands.ChangeTraining)


class Mark(NamedTuple):
    """Something that a person or a recipe changed: drawn on the plots at `x` (in epochs)."""

    x: float
    label: str


class View(msgspec.Struct, frozen=True, kw_only=True):
    """Everything but the curves that widgets show.

    `evaluation`, `previous` and `best` are of the part that is evaluated while training, `others` the newest of others.
    `best` is None where only its accuracy is known.
    `rate_factor` is by what a person multiplied the schedule's learning rate; None where an old journal does not tell.
    `access` is how it is shown, and `over` whether its engine has left, in whatever state. `ranks` are the processes
    that train, where they are several, and `job` is the batch system's that they run in.
    `hparams` are the settings of somebody else's loop, as far as it tells of them (None: those of `config` hold), and
    `changed` is when its files last did, in Unix seconds (0: nothing is watched that way); `files_read` is the share of
    them that is read by now.
    `pending` holds unanswered commands by their id; `audience` names the dashboards on this run, this one among them.
    """

    access: Access = "steers"
    over: bool = False
    state: events.State = "preparing"
    hparams: Mapping[str, str | int | float | bool] | None = None
    changed: float = 0.0
    files_read: float = 1.0
    capabilities: Capabilities | None = None
    reason: str = ""
    name: str = ""
    path: str = ""
    config: RunConfig = RunConfig()
    data: events.DataSummary | None = None
    ranks: events.RanksSeen | None = None
    job: events.JobFound | None = None
    layers: tuple[events.LayerGroup, ...] = ()
    device: str = ""
    parameters: int = 0
    steps_per_epoch: int = 0
    counted_from: tuple[int, float] = (0, 0.0)  # a step, and the epochs until then: later ones have `steps_per_epoch`
    parent: str | None = None
    notices: tuple[str, ...] = ()
    phase: events.Phase | None = None
    step: int = 0
    epoch: int = 0
    point: events.TrainPoint | None = None
    speed: float = 0.0
    learning_rate: float = 0.0
    rate_factor: float | None = 1.0
    evaluation: events.Evaluated | None = None
    previous: events.Evaluated | None = None
    others: Mapping[events.Part, events.Evaluated] = {}
    best_accuracy: float | None = None
    best: events.Evaluated | None = None
    marks: tuple[Mark, ...] = ()
    stage: events.StageStarted | None = None
    effect: events.EffectMeasured | None = None
    features: events.FeaturesChanged | None = None
    norm_trains: bool = False
    rates_found: events.LearningRateFound | None = None
    kept: tuple[events.KeptCheckpoint, ...] = ()
    pending: Mapping[str, commands.AnyCommand] = {}
    refusal: events.CommandRefused | None = None
    alert: events.Alert | None = None
    log: tuple[LogLine, ...] = ()
    audience: tuple[str, ...] = ()

    def refusal_of(self, command: type[commands.AnyCommand]) -> str | None:
        """Return why `command` makes no sense now, as a phrase; None if it does.

        This is the one rule for buttons, keys, footer, palette and help. Where the run has no engine, what begins a
        new one makes sense as well, or gives the command for the shell.
        """
        if command in _BEGUN_ANEW and self.hparams is None:
            if self.lacks_engine:
                return self._why_not_begun(command)
            if self.access == "reads" and self.path and command is not commands.Start:
                return None
        if self.over:
            return HAS_ENDED
        if self.access == "files" and self.capabilities is not None:
            return self.capabilities.refusal(command)  # a checkpoint answers in every state
        return refusal(command, self.state, self.capabilities)

    def _why_not_begun(self, command: type[commands.AnyCommand]) -> str | None:
        """Return why no new engine can do with the run what `command` says; None if one can."""
        begins = command is commands.Start
        if begins and self.state not in ("stopped", "failed", "crashed"):
            return refusal(command, self.state, None if self.state in events.ENDED else self.capabilities)
        if command is commands.ChangeTraining and self.path and self.state not in events.ENDED:
            return None  # by the command for the shell
        return None if self.path and self.kept else f"there is no checkpoint to {'resume' if begins else 'start'} from"

    def never(self, command: type[commands.AnyCommand]) -> str:
        """Return why `command` is obeyed in no state of this run, as a phrase; empty if it is in some."""
        if self.capabilities is None or self.refusal_of(command) is None:
            return ""
        return self.capabilities.refusal(command) or ""

    @property
    def watched(self) -> events.Part:
        """The part that is evaluated while training."""
        if self.evaluation is not None:
            return self.evaluation.part
        return self.data.watched if self.data is not None else "test"

    def other_part(self, part: AnyPart) -> events.Part | None:
        """Return the part that is held out beside `part` (empty: `watched`); None where there is none.

        Of a checkpoint without a run that is not known, and there is one.
        """
        other: events.Part = "test" if (part or self.watched) == "val" else "val"
        return other if self.data is None or other in self.data.sizes else None

    def why_not_part(self, part: AnyPart) -> str:
        """Return in a clause why the part held out beside `part` cannot be shown; empty where it can."""
        other = self.other_part(part)
        if other is None:
            return f"only {self.watched} is held out"
        return "" if self.evaluation_of(other) is not None else self.refusal_of(commands.Evaluate) or ""

    def evaluation_of(self, part: events.Part) -> events.Evaluated | None:
        """Return the newest evaluation of `part`, if there is one."""
        return self.evaluation if part == self.watched and self.evaluation is not None else self.others.get(part)

    @property
    def only_files(self) -> bool:
        """Whether nobody but the run's files tells of it: there is no journal of finetui's, and nothing is obeyed."""
        return self.capabilities is not None and not self.capabilities.commands

    @property
    def epochs(self) -> int:
        """The epochs that the run is to train; 0 where nobody tells."""
        if self.hparams is None:
            return self.config.training.epochs
        told = self.hparams.get("epochs", 0)
        return int(told) if isinstance(told, int | float) else 0

    @property
    def total_steps(self) -> int:
        """Steps of the whole run; 0 while that is not known."""
        if not self.epochs:
            return 0
        step, epochs = self.counted_from
        return step + round(self.steps_per_epoch * (self.epochs - epochs))

    @property
    def lacks_engine(self) -> bool:
        """Whether nothing trains the run that could be told to: its files show it, or its engine is gone."""
        gone = self.access == "files" or self.over or self.state in ("crashed", "failed")
        return gone and self.access != "reads"

    @property
    def can_go_on(self) -> bool:
        """Whether the run has no engine, and has a checkpoint from which a new one could go on."""
        return self.lacks_engine and self.refusal_of(commands.Start) is None

    def epochs_at(self, step: int) -> float:
        """Return `step` in epochs; where somebody else's loop does not tell of these, `step` itself."""
        if not self.steps_per_epoch:
            return 0.0 if self.hparams is None else float(step)
        from_step, epochs = self.counted_from
        # Before a change of the batch size the epochs were of other steps.
        if step < from_step:
            return epochs * step / from_step
        return epochs + (step - from_step) / self.steps_per_epoch
