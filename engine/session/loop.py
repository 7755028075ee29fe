"""The training loop: what is trained, how far it is, and how that is steered."""

import copy
from collections.abc import Callable, Sequence
from typing import Any, assert_never

import msgspec

from finetui.engine.checkpoints.checkpoint import Checkpoint
from finetui.engine.distributed.ranks import SINGLE, Ranks
from finetui.engine.errors import BadInput, reason_of
from finetui.engine.models.device import rng_states, set_rng_states
from finetui.engine.protocol import commands, events
from finetui.engine.protocol.config import RunConfig, TrainingConfig
from finetui.engine.protocol.config_checks import check_learning_rate
from finetui.engine.protocol.values import KeptCheckpoint, Part
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.kept_checkpoints import BEST
from finetui.engine.runs.reporter import Reporter
from finetui.engine.runs.resume import HOW, changed_training, settings_in
from finetui.engine.session.environment import differences, machine, other_world
from finetui.engine.session.evaluator import Evaluator
from finetui.engine.session.features import Features
from finetui.engine.session.lockstep import Turn, own_states, take_own_state
from finetui.engine.session.monitor import Monitor
from finetui.engine.session.points import Points
from finetui.engine.session.questions import Questions
from finetui.engine.setup.prepared import Prepared
from finetui.engine.training.lr_finder import find_learning_rate, suggest
from finetui.engine.training.recipes import stretched
from finetui.engine.training.trainer import OnStep, Trainer

Adjustment = commands.SetLearningRate | commands.SetFrozen | commands.SetFrozenNorm


class TrainingLoop:
    """Trains what `prepared` holds, as `config` says, and reports it. `stopped` returning True ends long work early.

    `accuracy` is that of the last evaluation; `owes_evaluation` is True between the end of an epoch and the end of its
    evaluation, so that a run that was cut there makes up for it. `tested` tells whether test was scored at the end.
    """

    def __init__(
        self,
        prepared: Prepared,
        config: RunConfig,
        reporter: Reporter,
        stopped: Callable[[], bool],
        on_step: OnStep | None,
        ranks: Ranks = SINGLE,
    ) -> None:
        self.ranks = ranks
        self.turn: Turn | None = None
        self.prepared = prepared
        self.config = config
        self.accuracy: float | None = None
        self.owes_evaluation = False
        self.tested = False
        self.trainer = Trainer(
            prepared.model,
            prepared.groups,
            prepared.data.train,
            config.training,
            on_step,
            plan=stretched(prepared.plan, config.training.epochs),
            always_frozen=config.finetune.freeze if config.finetune else (),
            augment=config.data.augment,
            classes=len(prepared.data.classes),
            explode_factor=config.guards.explode_factor,
            path=prepared.path,
            rules=prepared.rules,
            ranks=ranks,
        )
        self.monitor = Monitor(config, len(prepared.data.classes))
        self.evaluator = Evaluator(prepared.data, prepared.architecture, self.monitor, ranks)
        self.features = Features(prepared, config, self.trainer, reporter)
        self.points = Points(prepared, config, self.trainer, self.features, reporter, ranks)
        self.questions = Questions(prepared, config, self.trainer, reporter, stopped, ranks)
        self._reporter = reporter
        # What takes long ends early on all ranks, or on none.
        self.stopped = stopped if ranks.world == 1 else lambda: ranks.share_flag(stopped())

    def announce(self) -> None:
        """Emit what was prepared, and warn of what is odd about it."""
        prepared = self.prepared
        layers, world = self.trainer.freezer.table(), self.ranks.world
        self._reporter.emit(prepared.event(layers, self.trainer.steps_per_epoch, world))
        if prepared.how:
            self._reporter.emit(events.Log(level="info", message=prepared.how))
        if len(prepared.plan) > 1:
            self._emit_stage()
        for line in prepared.dropped:
            self._reporter.warn(f"left behind: {line}")
        self.points.notices.skipped(prepared.data.problems)

    def step(self) -> None:
        """Take one step. Raises `Diverged`."""
        self.tested = False
        if self.ranks.world == 1:  # a step of a small network would feel the context
            self.points.time.step(self.trainer.train_step)
        else:
            with self.points.rank_table.in_step():
                self.points.time.step(self.trainer.train_step)
        self.questions.stepped()
        if self.trainer.point_due() if self.turn is None else self.turn.point_due:
            self.points.emit()

    def end_epoch(self) -> None:
        """Go on to the next epoch; the evaluation of this one is owed from now on."""
        self.points.emit()
        self.features.epoch_ended()
        begun = self.trainer.end_epoch()
        self.owes_evaluation = True
        if begun is not None:
            self._emit_stage()
            self.points.layers_changed()
            self.points.changed()

    def evaluate(self, folder: RunFolder | None, part: Part | None = None) -> events.Evaluated | None:
        """Run over `part`, by default what is evaluated while training; return None when a stop came in between.

        Raises `Diverged`, and `BadInput` where there is no such part.
        """
        evaluated = self._evaluate(folder, part or self.prepared.data.watched)
        if evaluated is None or not evaluated.watched:
            return evaluated
        self.accuracy = evaluated.accuracy
        if self.owes_evaluation:
            self.monitor.epoch_ended(evaluated.epoch)
        self.owes_evaluation = False
        self.points.evaluated(evaluated)
        return evaluated

    @property
    def owes_test(self) -> bool:
        """Whether there are test images that nothing was chosen by, and that were not scored yet."""
        data = self.prepared.data
        return not self.tested and data.watched != "test" and data.test is not None

    def test(self, folder: RunFolder | None, best: Checkpoint | None) -> bool:
        """Score the test images, with the weights of `best` where they are not those that the run has.

        Return False when a stop came in between.
        """
        model = self.prepared.model
        if best is None:
            evaluated = self._evaluate(folder, "test", (BEST, self.trainer.step))
        else:
            own = copy.deepcopy(model.state_dict())
            model.load_state_dict(best.model)
            try:
                evaluated = self._evaluate(folder, "test", (BEST, best.training["step"]))
            finally:
                model.load_state_dict(own)
        self.tested = evaluated is not None
        return self.tested

    def _evaluate(
        self, folder: RunFolder | None, part: Part, checkpoint: tuple[str, int] | None = None
    ) -> events.Evaluated | None:
        evaluated = self.evaluator.evaluate(
            self.trainer,
            folder,
            progress=lambda done, total: self._reporter.progress("Evaluating", done, total),
            stopped=self.stopped,
            warn=self._reporter.warn,
            part=part,
            checkpoint=checkpoint,
            scores=self.features.scores(part) if checkpoint is None else None,
        )
        if part == "train":
            self.trainer.restart_batches()  # they were read from elsewhere
        self.trainer.restart_clock()
        if evaluated is not None:
            self.points.time.evaluating += evaluated.seconds
            self._reporter.emit(evaluated)
        return evaluated

    def adjust(self, command: Adjustment) -> None:
        """Do what `command` says from the next step on. Raises `BadInput`."""
        match command:
            case commands.SetLearningRate():
                if command.factor is None:
                    check_learning_rate(command.value, "the learning rate")
                else:
                    check_learning_rate(command.factor, "the factor of the learning rate")
                self._set_rate(command.value, command.factor)
            case commands.SetFrozen():
                if self.trainer.set_frozen(command.groups, command.frozen, command.layers):
                    self.points.layers_changed()
            case commands.SetFrozenNorm():
                if self.trainer.freezer.set_norm_trains(command.trains):
                    self.trainer.revise_features()
                    self.points.layers_changed()
            case _:
                assert_never(command)
        self.points.changed()

    def change(self, training: TrainingConfig, early_stop: int) -> None:
        """Train by these settings from the next step on, but for how steps are computed. Raises `BadInput`."""
        self.points.emit()
        now = self.config.training
        training = msgspec.structs.replace(training, **{name: getattr(now, name) for name in HOW})
        if training.seed != now.seed:
            raise BadInput("training.seed (--seed): a run keeps the seed that it began with")
        self.trainer.change(training, stretched(self.prepared.plan, training.epochs))
        guards = msgspec.structs.replace(self.config.guards, early_stop=early_stop)
        self.config = msgspec.structs.replace(self.config, training=training, guards=guards)
        self.questions.changed(self.config)
        self.features.layers_changed()
        self._training_changed()

    def _training_changed(self) -> None:
        self.monitor.begin(self.config.guards.early_stop)
        self.points.changed()
        trainer = self.trainer
        self._reporter.emit(
            events.TrainingChanged(
                training=self.config.training,
                early_stop=self.monitor.patience,
                steps_per_epoch=trainer.steps_per_epoch,
                epochs=trainer.progress,
            )
        )

    @property
    def over(self) -> bool:
        """Whether there is nothing left to train."""
        return self.trainer.done or self.monitor.over

    def find_learning_rate(self) -> None:
        """Try rising rates on a copy, and emit what came out."""
        self.points.emit()
        rates, losses = find_learning_rate(
            self.trainer,
            progress=lambda done, total: self._reporter.progress("Trying learning rates", done, total),
            stopped=self.stopped,
        )
        self.trainer.restart_batches()
        self.trainer.restart_clock()
        self._reporter.emit(
            events.LearningRateFound(rates=tuple(rates), losses=tuple(losses), suggestion=suggest(rates, losses))
        )

    def go_back_to(
        self,
        found: Checkpoint,
        cause: events.RewindCause,
        *,
        at: int,
        before: int,
        kept: Sequence[KeptCheckpoint],
        reason: str = "",
    ) -> bool:
        """Be again where `found` was written, and report it; return whether other settings hold than held there.

        `at` is the number of the first event that is undone, `before` the steps that the run had taken, `kept` what it
        can go back to. Raises `BadInput` when the checkpoint is of another run.
        """
        trainer = self.trainer
        warnings = self._restore(found)
        if cause == "branch":
            self.evaluator.best = -1.0 if self.accuracy is None else self.accuracy
            self.monitor.begin_branch()
        best = self.evaluator.best
        self._reporter.emit(
            events.Rewound(
                cause=cause,
                file=found.path.name,
                at=at,
                epoch=trainer.epoch,
                undone=max(before - trainer.step, 0),
                learning_rate=trainer.rates.at(trainer.step),
                rate_factor=trainer.rates.user,
                layers=trainer.freezer.table(),
                norm_trains=trainer.freezer.norm_trains,
                best_accuracy=best if best >= 0 else None,
                device=self.prepared.device_name(),
                kept=tuple(kept),
                reason=reason,
            )
        )
        for warning in warnings:
            self._reporter.warn(warning)
        self.points.gone_back()
        changed = changed_training(settings_in(found.training, self.config), self.config)
        if changed:
            self._training_changed()
        return changed

    def slow_down(self, factor: float) -> None:
        """Multiply the learning rate by `factor` from the next step on."""
        # As a rate and not as a factor: a replay sets the rates that the journal tells of.
        self._set_rate(self.trainer.rates.at(self.trainer.step) * factor)
        self.points.changed()

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the training, plain types and tensors: all that a checkpoint holds besides the weights.

        It lacks `at`, the checkpoint's place in the journal. All ranks' numbers are in that of rank 0.
        """
        device = self.prepared.device
        own: dict[str, Any] = self.trainer.state_dict()
        own |= own_states(self.ranks, self.prepared)
        return own | {
            "accuracy": self.accuracy,
            "best_accuracy": self.evaluator.best,
            "owes_evaluation": self.owes_evaluation,
            "watched": self.prepared.data.watched,
            "tested": self.tested,
            **self.points.state_dict(),
            "monitor": self.monitor.state_dict(),
            "early_stop": self.monitor.patience,
            "plan_epochs": sum(stage.epochs for stage in self.prepared.plan),
            "rng": rng_states(device),
            "images": len(self.prepared.data.train),
            "machine": machine(device),
        }

    def load_state_dict(self, training: dict[str, Any]) -> None:
        """Take over the state that `state_dict` returned. Raises as a damaged one makes it, KeyError for example."""
        self.trainer.load_state_dict(training)
        self.accuracy = training["accuracy"]
        self.owes_evaluation = training["owes_evaluation"]
        self.tested = training.get("tested", False)
        self.evaluator.best = training["best_accuracy"]
        self.points.load_state_dict(training)
        self.monitor.load_state_dict(training)
        # Last, since reading the data may draw numbers as well.
        set_rng_states(self.prepared.device, training["rng"])
        take_own_state(self.ranks, self.prepared, training)

    def close(self) -> None:
        """End what reads the data."""
        self.prepared.data.close()
        self.evaluator.close()
        self.features.close()

    def _restore(self, found: Checkpoint) -> list[str]:
        """Take over weights and state; return what may keep the continuation from being the same bit for bit.

        Raises `BadInput` when the checkpoint is of another run.
        """
        training, images = found.training, len(self.prepared.data.train)
        try:
            if training["images"] != images:
                raise BadInput(
                    f"the run cannot continue as it began: there are {images:,} training images now, and there were "
                    f"{training['images']:,}; start a finetune from it instead (finetui finetune RUN)"
                )
            self.features.forget()
            self.prepared.model.load_state_dict(found.model)
            self.load_state_dict(training)
            found_here = differences(training["machine"], machine(self.prepared.device))
            return [*found_here, *other_world(training.get("world", 1), self.ranks.world)]
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            why = f"{type(error).__name__}: {reason_of(error)}"
            raise BadInput(f"the checkpoint {found.path.name} does not fit this run ({why})") from error

    def _set_rate(self, value: float, factor: float | None = None) -> None:
        rates, step = self.trainer.rates, self.trainer.step
        if factor is None:
            rates.set(value, step)
        else:
            rates.set_factor(factor)
            value = rates.at(step)
        self._reporter.emit(events.LearningRateChanged(learning_rate=value, factor=rates.user))

    def _emit_stage(self) -> None:
        trainer = self.trainer
        stage = trainer.plan[trainer.stage]
        self._reporter.emit(
            events.StageStarted(
                index=trainer.stage + 1,
                count=len(trainer.plan),
                name=stage.name,
                epochs=stage.epochs,
                learning_rate=trainer.rates.highest,
            )
        )
