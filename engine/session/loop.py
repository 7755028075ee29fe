"""The course of a training: what is trained, how far it is, and what is said about it on the way."""

from collections.abc import Callable, Sequence
from typing import assert_never

from finetui.engine.checkpoints.checkpoint import Checkpoint
from finetui.engine.protocol import commands, events
from finetui.engine.protocol.config import RunConfig, check_learning_rate
from finetui.engine.protocol.values import KeptCheckpoint
from finetui.engine.runs.folder import RunFolder
from finetui.engine.session.evaluator import Evaluator
from finetui.engine.session.questions import Questions
from finetui.engine.session.reporter import Reporter
from finetui.engine.session.run_state import RunState
from finetui.engine.setup.prepare import Prepared
from finetui.engine.training.alerts import AlertWatch
from finetui.engine.training.freezing_effect import EffectMeter
from finetui.engine.training.lr_finder import find_learning_rate, suggest
from finetui.engine.training.trainer import OnStep, Trainer

Adjustment = commands.SetLearningRate | commands.SetFrozen | commands.SetFrozenNorm


class TrainingLoop:
    """Trains what `prepared` holds, as `config` says, and reports it. `stopped` returning True ends long work early."""

    def __init__(
        self,
        prepared: Prepared,
        config: RunConfig,
        reporter: Reporter,
        stopped: Callable[[], bool],
        on_step: OnStep | None,
    ) -> None:
        self.prepared = prepared
        self.config = config
        self.trainer = Trainer(
            prepared.model,
            prepared.groups,
            prepared.data.train,
            config.training,
            on_step,
            plan=prepared.plan,
            always_frozen=config.finetune.freeze if config.finetune else (),
            augment=config.data.augment,
            classes=len(prepared.data.classes),
            explode_factor=config.guards.explode_factor,
            path=prepared.path,
        )
        self.evaluator = Evaluator(prepared.data, prepared.architecture)
        self._alerts = AlertWatch(config.guards)
        self.state = RunState(prepared, self.trainer, self.evaluator, self._alerts)
        self.questions = Questions(prepared, config, self.trainer, reporter.emit, reporter.progress, stopped)
        self._effect = EffectMeter(self.trainer.freezer.trainable())
        self._reporter = reporter
        self._stopped = stopped

    def announce(self) -> None:
        """Say what was prepared, and what is odd about it."""
        prepared = self.prepared
        self._reporter.emit(prepared.event(self.trainer.freezer.table(), self.trainer.steps_per_epoch))
        if prepared.how:
            self._reporter.emit(events.Log(level="info", message=prepared.how))
        if len(prepared.plan) > 1:
            self._say_stage()
        for line in prepared.dropped:
            self._reporter.warn(f"left behind: {line}")
        self._say_skipped(prepared.data.problems)

    def step(self) -> None:
        """Take one step. Raises `Diverged`."""
        self.trainer.train_step()
        self.questions.stepped()
        if self.trainer.point_due():
            self.say_point()

    def end_epoch(self) -> None:
        """Go on to the next epoch; the evaluation of this one is owed from now on."""
        self.say_point()
        begun = self.trainer.end_epoch()
        self.state.owes_evaluation = True
        if begun is not None:
            self._say_stage()
            self._layers_changed()
            self._alerts.changed()

    def evaluate(self, folder: RunFolder | None) -> events.Evaluated | None:
        """Run over the test set; return None when a stop came in between. Raises `Diverged`."""
        evaluated = self.evaluator.examine(
            self.trainer,
            folder,
            progress=lambda done, total: self._reporter.progress("Evaluating", done, total),
            stopped=self._stopped,
            warn=self._reporter.warn,
        )
        self.trainer.restart_clock()
        if evaluated is None:
            return None
        self._reporter.emit(evaluated)
        self.state.accuracy = evaluated.accuracy
        self.state.owes_evaluation = False
        for alert in self._alerts.evaluated(evaluated, self.state.take_train_loss()):
            self._reporter.emit(alert)
        return evaluated

    def adjust(self, command: Adjustment) -> None:
        """Do what `command` says from the next step on. Raises `BadInput`."""
        match command:
            case commands.SetLearningRate():
                check_learning_rate(command.value, "the learning rate")
                self._set_rate(command.value)
            case commands.SetFrozen():
                if self.trainer.set_frozen(command.groups, command.frozen, command.layers):
                    self._layers_changed()
            case commands.SetFrozenNorm():
                if self.trainer.freezer.set_norm_trains(command.trains):
                    self._layers_changed()
            case _:
                assert_never(command)
        self._alerts.changed()

    def find_learning_rate(self) -> None:
        """Try rising rates on a copy, and say what came out."""
        self.say_point()
        rates, losses = find_learning_rate(
            self.trainer,
            progress=lambda done, total: self._reporter.progress("Trying learning rates", done, total),
            stopped=self._stopped,
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
    ) -> None:
        """Be again where `found` was written, and say so.

        `at` is the number of the first event that is undone, `before` the steps that the run had taken, `kept` what it
        can go back to. Raises `BadInput` when the checkpoint is of another run.
        """
        trainer = self.trainer
        warnings = self.state.restore(found)
        if cause == "branch":
            self.evaluator.best = -1.0 if self.state.accuracy is None else self.state.accuracy
        best = self.evaluator.best
        self._reporter.emit(
            events.Rewound(
                cause=cause,
                file=found.path.name,
                at=at,
                epoch=trainer.epoch,
                undone=max(before - trainer.step, 0),
                learning_rate=trainer.rates.at(trainer.step),
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
        self._effect = EffectMeter(trainer.freezer.trainable())

    def slow_down(self, factor: float) -> None:
        """Multiply the learning rate by `factor` from the next step on."""
        # As a rate and not as a factor: a replay sets the rates that the journal tells of.
        self._set_rate(self.trainer.rates.at(self.trainer.step) * factor)
        self._alerts.changed()

    def say_point(self) -> None:
        """Say what the steps since the last point were like. Raises `Diverged`."""
        point = self.trainer.take_point()
        if point is None:
            return
        self._reporter.emit(point)
        self.state.add(point)
        effect = self._effect.add(point, point.steps * self.config.training.batch_size)
        if effect is not None:
            self._reporter.emit(effect)
        for alert in self._alerts.point(point):
            self._reporter.emit(alert)
        data = self.prepared.data
        self._say_skipped([*data.train.take_problems(), *data.test.take_problems()])

    def close(self) -> None:
        """End what reads the data."""
        self.prepared.data.train.close()
        self.prepared.data.test.close()
        self.evaluator.close()

    def _set_rate(self, value: float) -> None:
        self.trainer.rates.set(value, self.trainer.step)
        self._reporter.emit(events.LearningRateChanged(learning_rate=value))

    def _layers_changed(self) -> None:
        freezer = self.trainer.freezer
        self._effect.changed(freezer.trainable())
        self._reporter.emit(events.LayersChanged(layers=freezer.table()))

    def _say_stage(self) -> None:
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

    def _say_skipped(self, problems: Sequence[str]) -> None:
        for problem in problems:
            self._reporter.warn(f"skipped: {problem}")
